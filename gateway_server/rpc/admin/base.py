"""What the RPCs of all resources share: the repositories, and telling the process of a change."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aigateway.v1.admin_service_pb2 import (
    CheckProviderResponse,
    TestGuardrailProfileRequest,
    TestGuardrailProfileResponse,
)
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.routing_pb2 import TargetState
from gateway_server.auth.keys import Peppers
from gateway_server.call import CallContext
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.resource_names import parse_guardrail_profile
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.audit import Actor, AuditRepository
from gateway_server.storage.changes import ChangeFeed
from gateway_server.storage.guardrail_profiles import GuardrailProfileRepository
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.providers import ProviderRepository
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.sealing import MasterKeys
from gateway_server.storage.tenants import TenantRepository

#: Raises INVALID_REQUEST naming the field, when the settings of a provider cannot work; does no I/O.
ValidateProvider = Callable[[Provider], object]
#: Calls a provider to see whether it can be used; what is wrong is an answer, not an exception.
CheckProvider = Callable[[Provider], Awaitable[CheckProviderResponse]]
#: Raises INVALID_REQUEST naming the field, when a profile cannot work.
ValidateGuardrailProfile = Callable[[GuardrailProfile], Awaitable[object]]
#: Applies a profile to a text.
TryGuardrails = Callable[[TestGuardrailProfileRequest], Awaitable[TestGuardrailProfileResponse]]
#: How the targets of this process are doing.
ListTargetStates = Callable[[], list[TargetState]]


@dataclass(frozen=True, slots=True)
class AdminDependencies:
    """What AdminService works with."""

    tenants: TenantRepository
    api_keys: ApiKeyRepository
    providers: ProviderRepository
    models: ModelRepository
    routes: RouteRepository
    guardrail_profiles: GuardrailProfileRepository
    audit: AuditRepository
    feed: ChangeFeed
    peppers: Peppers
    master_keys: MasterKeys
    clock: Clock
    validate_provider: ValidateProvider
    check_provider: CheckProvider
    target_states: ListTargetStates
    validate_guardrail_profile: ValidateGuardrailProfile
    try_guardrails: TryGuardrails


def actor_of(call: CallContext) -> Actor:
    """Who makes the changes of a call."""
    return Actor(call.principal.api_key, call.request_id, call.method)


async def require_there(getting: Awaitable[object], name: str, field: str) -> None:
    """Raises INVALID_REQUEST when what ``field`` names is not found."""
    try:
        await getting
    except GatewayError as error:
        if error.reason != ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND:
            raise
        raise invalid_request(field, f"{name} does not exist") from None


class AdminMethods:
    """Base of the classes that hold the RPCs of one resource each."""

    def __init__(self, dependencies: AdminDependencies) -> None:
        self._tenants = dependencies.tenants
        self._api_keys = dependencies.api_keys
        self._providers = dependencies.providers
        self._models = dependencies.models
        self._routes = dependencies.routes
        self._guardrail_profiles = dependencies.guardrail_profiles
        self._audit = dependencies.audit
        self._feed = dependencies.feed
        self._peppers = dependencies.peppers
        self._master_keys = dependencies.master_keys
        self._clock = dependencies.clock
        self._validate_provider = dependencies.validate_provider
        self._check_provider = dependencies.check_provider
        self._target_states = dependencies.target_states
        self._validate_guardrail_profile = dependencies.validate_guardrail_profile
        self._try_guardrails = dependencies.try_guardrails

    async def _require_guardrail_profile(self, name: str, field: str) -> None:
        """Raises INVALID_REQUEST when there is no such profile; an empty name is none at all."""
        if name:
            profile_id = parse_guardrail_profile(name, field)
            await require_there(self._guardrail_profiles.get(profile_id), name, field)

    async def _announce(self, resource: str) -> None:
        """Lets a committed change take effect in this process at once; others see it when they poll."""
        await self._feed.announce(resource)
