"""What a call has to pass: its limits one by one, what it takes of each, and how a refusal is told."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_service_pb2 import LimitKind
from gateway_server.allowed_models import is_allowed
from gateway_server.call import RateLimit
from gateway_server.errors import GatewayError

REQUESTS: Final = LimitKind.LIMIT_KIND_REQUESTS_PER_MINUTE
TOKENS: Final = LimitKind.LIMIT_KIND_TOKENS_PER_MINUTE
CONCURRENT: Final = LimitKind.LIMIT_KIND_CONCURRENT_REQUESTS

#: Microseconds in which a limit of a minute is used up or free again.
MINUTE: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One limit and what a call takes of it: requests, tokens, or a place among those under way.

    No call takes more than there is at all, so that a bucket that is full always lets one through.
    """

    owner: str
    model: str
    kind: LimitKind.ValueType
    limit: int
    cost: int

    @property
    def key(self) -> str:
        """What its state is kept under: the same for all who share the limit."""
        return f"{self.owner}|{self.model}|{_SHORT[self.kind]}"


_SHORT: Final = {REQUESTS: "r", TOKENS: "t", CONCURRENT: "c"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which check failed. ``wait`` is for how many microseconds to wait, None when that does not help."""

    check: Check
    wait: int | None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking: the checks that failed, or how much each limit has left."""

    refusals: list[Refusal]
    remaining: list[int]


def checks_of(
    limits: Iterable[RateLimit], *, model_names: tuple[str, ...], tokens: int, share: int = 1
) -> list[Check]:
    """The checks of a call of ``tokens`` tokens. Limits are divided by ``share``, and stay at least 1."""
    checks = []
    for limit in limits:
        if limit.model and not is_allowed(((limit.model,),), model_names):
            continue
        for kind, most, cost in _kinds(limit, tokens):
            shared = max(most // share, 1) if most else 0
            checks.append(Check(limit.owner, limit.model, kind, shared, min(cost, max(shared, 1))))
    return checks


def _kinds(limit: RateLimit, tokens: int) -> Iterator[tuple[LimitKind.ValueType, int, int]]:
    if limit.requests_per_minute is not None:
        yield REQUESTS, limit.requests_per_minute, 1
    if limit.tokens_per_minute is not None:
        yield TOKENS, limit.tokens_per_minute, tokens
    if limit.max_concurrent_requests is not None:
        yield CONCURRENT, limit.max_concurrent_requests, 1


def worst(refusals: Sequence[Refusal]) -> Refusal:
    """The refusal that takes longest: once it is over, so are the others."""
    return max(refusals, key=lambda refusal: float("inf") if refusal.wait is None else refusal.wait)


def refused(refusal: Refusal, *, degraded: bool) -> GatewayError:
    """The error of a call without room."""
    check = refusal.check
    kind = LimitKind.Name(check.kind).removeprefix("LIMIT_KIND_")
    models = f" for {check.model}" if check.model else ""
    metadata = {"owner": check.owner, "kind": kind, "limit": str(check.limit)}
    if check.model:
        metadata["model"] = check.model
    if degraded:
        metadata["limiter"] = "local_share"
    return GatewayError(
        ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED,
        f"{check.owner} has no room in its {kind} of {check.limit}{models}",
        metadata=metadata,
        retry_after=None if refusal.wait is None else refusal.wait / 1_000_000,
    )


def describe_remaining(checks: Sequence[Check], remaining: Sequence[int]) -> list[tuple[str, str]]:
    """Trailing metadata with what is left of the tightest limit of each kind, by names that clients know."""
    found = []
    for kind, name in ((REQUESTS, "requests"), (TOKENS, "tokens")):
        left = [
            (rest, check.limit) for check, rest in zip(checks, remaining, strict=True) if check.kind == kind
        ]
        if left:
            rest, limit = min(left)
            found.append((f"x-ratelimit-limit-{name}", str(limit)))
            found.append((f"x-ratelimit-remaining-{name}", str(rest)))
            reset = -(-(limit - rest) * MINUTE // limit) / 1_000_000 if limit else 0
            found.append((f"x-ratelimit-reset-{name}", f"{reset:.3f}s"))
    return found
