"""What the first start makes, so that a newcomer needs no set-up: tenant, admin key, providers, models."""

import asyncio
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
from aigateway.v1.route_pb2 import Route
from aigateway.v1.routing_pb2 import RoutingStrategy
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.auth.keys import Peppers, is_well_formed, new_secret
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.guardrails.first_profiles import first_profiles
from gateway_server.providers.check import ProviderChecker
from gateway_server.resource_names import model_id_of, provider_name
from gateway_server.settings import Settings, SettingsError
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.engine import Store
from gateway_server.storage.facts import read_fact, settle_fact
from gateway_server.storage.guardrail_profiles import GuardrailProfileRepository
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.providers import ProviderRepository
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.tenants import TenantRepository
from gateway_server.usage.prices import find_price

DEFAULT_TENANT: Final = "default"
ADMIN_KEY: Final = "admin"

_FIRST_START: Final = "first_start"
_ROUTES: Final = "routes"
_GUARDRAIL_PROFILES: Final = "guardrail_profiles"
_STRATEGY_BY_ROUTE: Final = {
    "cost-optimized": RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED,
    "quality-first": RoutingStrategy.ROUTING_STRATEGY_QUALITY_FIRST,
    "balanced": RoutingStrategy.ROUTING_STRATEGY_BALANCED,
}
_MADE_HERE: Final = "Made at the first start"
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
        """Gives the secret of the admin key if this start has made one, else an empty text.

        A start that is interrupted is made up for by the next; only the secret of an admin key that was
        not shown is lost, and ``admin_key`` in the settings replaces it.
        """
        chosen = settings.admin_key.get_secret_value()
        if chosen:
            await self._ensure_admin_key(chosen)
        await self._add_routes()
        await self._add_guardrail_profiles()
        if await read_fact(self.store, _FIRST_START) is not None:
            return ""
        for provider_id, provider in _providers(settings):
            await self._add_provider(provider_id, provider)
        secret = new_secret()
        made = not chosen and await self._create_admin_key(secret)
        await settle_fact(self.store, _FIRST_START, "done")
        return secret if made else ""

    async def _ensure_admin_key(self, secret: str) -> None:
        """Makes ``secret`` an admin key, in the place of the one that ``default`` has."""
        if not is_well_formed(secret):
            raise SettingsError("admin_key: must be sk-gw- and 43 characters for 32 random bytes, base64url")
        keys = ApiKeyRepository(self.store, self.clock)
        if await keys.find(self.peppers.hashes(secret)) is not None:
            return
        if not await self._create_admin_key(secret):
            await keys.rotate(DEFAULT_TENANT, ADMIN_KEY, self.peppers.hashed(secret), grace_seconds=0)

    async def _create_admin_key(self, secret: str) -> bool:
        """Whether there was none before."""
        tenants = TenantRepository(self.store, self.clock)
        await _unless_there(tenants.create(DEFAULT_TENANT, Tenant(display_name=_MADE_HERE)))
        keys = ApiKeyRepository(self.store, self.clock)
        admin_key = ApiKey(display_name=_MADE_HERE, scopes=_SCOPES)
        return await _unless_there(
            keys.create(DEFAULT_TENANT, ADMIN_KEY, admin_key, secret=self.peppers.hashed(secret))
        )

    async def _add_routes(self) -> None:
        """Makes the routes that every gateway has from the first, once: who deletes one wants it gone."""
        if await read_fact(self.store, _ROUTES) is not None:
            return
        routes = RouteRepository(self.store, self.clock)
        for route_id, strategy in _STRATEGY_BY_ROUTE.items():
            await _unless_there(
                routes.create(route_id, Route(display_name="Every enabled model", strategy=strategy))
            )
        await settle_fact(self.store, _ROUTES, "done")

    async def _add_guardrail_profiles(self) -> None:
        """Makes the profiles that every gateway has from the first, once: then they are their admins'."""
        if await read_fact(self.store, _GUARDRAIL_PROFILES) is not None:
            return
        profiles = GuardrailProfileRepository(self.store, self.clock)
        for profile_id, profile in first_profiles().items():
            await _unless_there(profiles.create(profile_id, profile))
        await settle_fact(self.store, _GUARDRAIL_PROFILES, "done")

    async def _add_provider(self, provider_id: str, provider: Provider) -> None:
        """Adds a provider and the models that it says it has."""
        await _unless_there(ProviderRepository(self.store, self.clock).create(provider_id, provider))
        provider.name = provider_name(provider_id)
        checked = await self.checker.check(provider)
        if not checked.healthy:
            _log.warning("%s has no models yet: %s", provider.name, checked.error_message)
        models = ModelRepository(self.store, self.clock)
        for provider_model in checked.provider_models:
            price: Price | None = _DEMO_PRICE
            if provider.provider_type != "demo":
                # In a thread: the first look reads the price list.
                price = await asyncio.to_thread(find_price, provider.provider_type, provider_model)
            model = Model(provider_model=provider_model, price=price)
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
