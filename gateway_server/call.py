"""What is known of one call while it is served, from the front door to the ledger."""

from dataclasses import dataclass, field

from aigateway.v1.permission_pb2 import Scope
from gateway_server.clock import Clock


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key of a tenant, and what both allow.

    ``allowed_models`` holds one tuple of globs for the tenant and one for the key, each empty when
    everything is allowed; a model must fit both.
    """

    tenant_id: str
    api_key_id: str
    scopes: frozenset[Scope.ValueType]
    environment: str = ""
    allowed_models: tuple[tuple[str, ...], ...] = ()
    default_route: str = ""

    @property
    def tenant(self) -> str:
        """``tenants/{tenant}``."""
        return f"tenants/{self.tenant_id}"

    @property
    def api_key(self) -> str:
        """``tenants/{tenant}/apiKeys/{api_key}``."""
        return f"tenants/{self.tenant_id}/apiKeys/{self.api_key_id}"

    @property
    def is_admin_reader(self) -> bool:
        """Whether it may read the resources and the usage of every tenant."""
        return bool(self.scopes & {Scope.SCOPE_ADMIN_READ, Scope.SCOPE_ADMIN_WRITE})


@dataclass(slots=True)
class CallContext:
    """One call. ``_at`` marks seconds on the monotonic clock; ``start_time`` is Unix time."""

    request_id: str
    method: str
    principal: Principal
    clock: Clock
    start_time: float
    started_at: float
    deadline_at: float
    trailing_metadata: list[tuple[str, str]] = field(default_factory=list)

    @property
    def timeout(self) -> float:
        """Seconds that the call may take in all."""
        return self.deadline_at - self.started_at

    def remaining(self) -> float:
        """Seconds until the deadline; negative once it has passed."""
        return self.deadline_at - self.clock.monotonic()
