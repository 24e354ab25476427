"""What is known of one call while it is served, from the front door to the ledger."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.tenant_pb2 import RateLimits
from gateway_server.clock import Clock


class RateLimit(NamedTuple):
    """How much and how fast ``owner``, a resource name, may be used; None does not limit.

    ``model`` is the name or glob of the models that it is for, empty when it is for all calls.
    """

    owner: str
    model: str = ""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None

    @classmethod
    def of(cls, owner: str, limits: RateLimits, *, model: str = "") -> Self:
        """What the contract's message says."""
        return cls(
            owner,
            model,
            requests_per_minute=(
                limits.requests_per_minute if limits.HasField("requests_per_minute") else None
            ),
            tokens_per_minute=limits.tokens_per_minute if limits.HasField("tokens_per_minute") else None,
            max_concurrent_requests=(
                limits.max_concurrent_requests if limits.HasField("max_concurrent_requests") else None
            ),
        )

    @property
    def limits_something(self) -> bool:
        """Whether there is any limit in it."""
        return (
            self.requests_per_minute is not None
            or self.tokens_per_minute is not None
            or self.max_concurrent_requests is not None
        )


class BudgetLimit(NamedTuple):
    """What a tenant, or one of its keys, may spend in each calendar day or month of ``time_zone``.

    ``api_key_id`` is empty for the tenant's own.
    """

    tenant_id: str
    api_key_id: str
    period: Literal["day", "month"]
    limit_nanos: int
    time_zone: str
    alert_percentages: tuple[int, ...] = ()
    allow_unpriced_models: bool = False

    @property
    def owner(self) -> str:
        """The resource that it belongs to."""
        tenant = f"tenants/{self.tenant_id}"
        return f"{tenant}/apiKeys/{self.api_key_id}" if self.api_key_id else tenant


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key of a tenant, and what both allow.

    ``allowed_models`` holds one tuple of globs for the tenant and one for the key, each empty when
    everything is allowed; a model must fit both. ``rate_limits`` and ``budgets`` are all that apply;
    ``guardrail_profile`` is the name of the one that applies, empty for the default.
    ``refuses_without_limiter`` is the tenant's closed policy for when the shared limiter is away.
    """

    tenant_id: str
    api_key_id: str
    scopes: frozenset[Scope.ValueType]
    environment: str = ""
    allowed_models: tuple[tuple[str, ...], ...] = ()
    default_route: str = ""
    guardrail_profile: str = ""
    rate_limits: tuple[RateLimit, ...] = ()
    budgets: tuple[BudgetLimit, ...] = ()
    refuses_without_limiter: bool = False

    @property
    def tenant(self) -> str:
        """``tenants/{tenant}``."""
        return f"tenants/{self.tenant_id}"

    @property
    def api_key(self) -> str:
        """``tenants/{tenant}/apiKeys/{api_key}``."""
        return f"tenants/{self.tenant_id}/apiKeys/{self.api_key_id}"

    @property
    def needs_prices(self) -> bool:
        """Whether a budget applies that models without a price must not be used under."""
        return any(not budget.allow_unpriced_models for budget in self.budgets)

    @property
    def is_admin_reader(self) -> bool:
        """Whether it may read the resources and the usage of every tenant."""
        return bool(self.scopes & {Scope.SCOPE_ADMIN_READ, Scope.SCOPE_ADMIN_WRITE})


@dataclass(slots=True)
class CallContext:
    """One call. ``_at`` marks seconds on the monotonic clock; ``start_time`` is Unix time.

    ``limits_left`` is what the caller may know of its rate limits, by the word that clients know a kind by:
    what is left of the tightest that the call was admitted to, and that limit.
    """

    request_id: str
    method: str
    principal: Principal
    clock: Clock
    start_time: float
    started_at: float
    deadline_at: float
    #: When the budgets of ``principal`` were last known to be the present ones.
    budgets_at: float = field(init=False)
    limits_left: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.budgets_at = self.started_at

    @property
    def timeout(self) -> float:
        """Seconds that the call may take in all."""
        return self.deadline_at - self.started_at

    def remaining(self) -> float:
        """Seconds until the deadline; negative once it has passed."""
        return self.deadline_at - self.clock.monotonic()
