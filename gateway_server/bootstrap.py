"""What the first start makes, so that a newcomer needs no set-up: tenant, admin key, providers, models."""

import logging
import os
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Final

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.auth.keys import Peppers, is_well_formed, new_secret
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.providers.check import ProviderChecker
from gateway_server.resource_names import model_id_of, provider_name
from gateway_server.settings import Settings, SettingsError
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.engine import Store
from gateway_server.storage.facts import settle_fact
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.providers import ProviderRepository
from gateway_server.storage.tenants import TenantRepository
from gateway_server.usage.prices import find_price

DEFAULT_TENANT: Final = "default"
ADMIN_KEY: Final = "admin"

_FIRST_START: Final = "first_start"
_SCOPES: Final = (
    Scope.SCOPE_INFERENCE,
    Scope.SCOPE_USAGE_READ,
    Scope.SCOPE_ADMIN_READ,
    Scope.SCOPE_ADMIN_WRITE,
)

#: What the demo provider pretends to cost, so that a first run shows how costs look: $0.10 and $0.40 a
#: million tokens.
_DEMO_PRICE: Final = Price(input_nanos_per_million=100_000_000, output_nanos_per_million=400_000_000)

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Makes what is missing; several processes may run it at once."""

    store: Store
    clock: Clock
    peppers: Peppers
    checker: ProviderChecker

    async def run(self, settings: Settings) -> str:
        """Gives the secret of the admin key if this start has made one, else an empty text."""
        mark = new_secret()
        first = await settle_fact(self.store, _FIRST_START, self.peppers.hash(mark).hex())
        if settings.admin_key.get_secret_value():
            await self._ensure_admin_key(settings.admin_key.get_secret_value())
        if first != self.peppers.hash(mark).hex():
            return ""
        for provider_id, provider in _providers(settings):
            await self._add_provider(provider_id, provider)
        if settings.admin_key.get_secret_value():
            return ""
        await self._ensure_admin_key(mark)
        return mark

    async def _ensure_admin_key(self, secret: str) -> None:
        """Makes ``secret`` an admin key, in the place of the one that ``default`` has."""
        if not is_well_formed(secret):
            raise SettingsError("admin_key: must be sk-gw- and 43 characters for 32 random bytes, base64url")
        keys = ApiKeyRepository(self.store, self.clock)
        if await keys.find(self.peppers.hashes(secret)) is not None:
            return
        await _unless_there(
            TenantRepository(self.store, self.clock).create(
                DEFAULT_TENANT, Tenant(display_name="Made at the first start")
            )
        )
        hashed = self.peppers.hashed(secret)
        admin_key = ApiKey(display_name="Made at the first start", scopes=_SCOPES)
        if not await _unless_there(keys.create(DEFAULT_TENANT, ADMIN_KEY, admin_key, secret=hashed)):
            await keys.rotate(DEFAULT_TENANT, ADMIN_KEY, hashed, grace_seconds=0)

    async def _add_provider(self, provider_id: str, provider: Provider) -> None:
        """Adds a provider and the models that it says it has."""
        if not await _unless_there(ProviderRepository(self.store, self.clock).create(provider_id, provider)):
            return
        provider.name = provider_name(provider_id)
        checked = await self.checker.check(provider)
        if not checked.healthy:
            _log.warning("%s has no models yet: %s", provider.name, checked.error_message)
        models = ModelRepository(self.store, self.clock)
        for provider_model in checked.provider_models:
            price = _DEMO_PRICE if provider.provider_type == "demo" else None
            model = Model(
                provider_model=provider_model,
                price=price or find_price(provider.provider_type, provider_model),
            )
            await _unless_there(models.create(provider_id, model_id_of(provider_model), model))


async def _unless_there(creation: Coroutine[object, object, object]) -> bool:
    """Whether it was made; False when it was there already."""
    try:
        await creation
    except GatewayError as error:
        if error.reason == ErrorReason.ERROR_REASON_RESOURCE_ALREADY_EXISTS:
            return False
        raise
    return True


def _providers(settings: Settings) -> Iterator[tuple[str, Provider]]:
    """What can be set up from what the environment already has."""
    if settings.demo:
        yield "demo", Provider(provider_type="demo", display_name="Built in; its answers are made up")
    if os.environ.get("OPENAI_API_KEY"):
        yield "openai", Provider(provider_type="openai", credential_ref="env:OPENAI_API_KEY")
    if settings.vllm_base_url:
        yield "vllm", Provider(provider_type="vllm", base_url=settings.vllm_base_url)
