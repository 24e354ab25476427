"""What a call has to pass: its limits one by one, what it takes of each, and how a refusal is told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_service_pb2 import LimitKind
from gateway_server.allowed_models import is_allowed
from gateway_server.call import RateLimit
from gateway_server.errors import GatewayError
from gateway_server.storage.gateways import WHOLE, Share

REQUESTS: Final = LimitKind.LIMIT_KIND_REQUESTS_PER_MINUTE
TOKENS: Final = LimitKind.LIMIT_KIND_TOKENS_PER_MINUTE
CONCURRENT: Final = LimitKind.LIMIT_KIND_CONCURRENT_REQUESTS

#: Kinds that callers are told what is left of, by the word that their clients know.
_TOLD: Final = {REQUESTS: "requests", TOKENS: "tokens"}

#: Microseconds in which a limit of a minute is used up or free again.
MINUTE: Final = 60_000_000


class Check(NamedTuple):
    """One limit and what a call takes of it: requests, tokens, or a place among those under way.

    No call takes more than there is at all, so that a bucket that is full always lets one through. ``key`` is
    what its state is kept under: the same for all who share the limit. ``whole`` is what the owner set, of
    which ``limit`` is a process's share while it counts for itself.
    """

    owner: str
    model: str
    kind: LimitKind.ValueType
    limit: int
    cost: int
    key: str
    whole: int


def check_of(
    owner: str, model: str, kind: LimitKind.ValueType, whole: int, cost: int, *, share: Share = WHOLE
) -> Check:
    """A check with its key, of a process's share of the limit ``whole``."""
    limit = share.of(whole)
    key = f"{owner}|{model}|{_SHORT[kind]}"
    return Check(owner, model, kind, limit, min(cost, max(limit, 1)), key, whole)


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
    limits: tuple[RateLimit, ...], *, model_names: tuple[str, ...], tokens: int, share: Share = WHOLE
) -> list[Check]:
    """The checks of a call of ``tokens`` tokens. ``share`` is what of each limit there is."""
    return [
        check if check.kind != TOKENS else check._replace(cost=min(tokens, max(check.limit, 1)))
        for check in _checks_of_one(limits, model_names, share)
    ]


@lru_cache(maxsize=10_000)
def _checks_of_one(
    limits: tuple[RateLimit, ...], model_names: tuple[str, ...], share: Share
) -> tuple[Check, ...]:
    """The checks of a call of one token: callers have few sets of limits, and make many calls."""
    return tuple(
        check_of(limit.owner, limit.model, kind, most, 1, share=share)
        for limit in limits
        if applies(limit, model_names)
        for kind, most in _kinds(limit)
    )


def applies(limit: RateLimit, model_names: tuple[str, ...]) -> bool:
    """Whether a limit is for calls of the model with these names."""
    return not limit.model or is_allowed(((limit.model,),), model_names)


def _kinds(limit: RateLimit) -> Iterator[tuple[LimitKind.ValueType, int]]:
    if limit.requests_per_minute is not None:
        yield REQUESTS, limit.requests_per_minute
    if limit.tokens_per_minute is not None:
        yield TOKENS, limit.tokens_per_minute
    if limit.max_concurrent_requests is not None:
        yield CONCURRENT, limit.max_concurrent_requests


def worst(refusals: Sequence[Refusal]) -> Refusal:
    """The refusal that takes longest: once it is over, so are the others."""
    return max(refusals, key=lambda refusal: float("inf") if refusal.wait is None else refusal.wait)


def refused(refusal: Refusal, *, degraded: bool) -> GatewayError:
    """The error of a call without room."""
    check = refusal.check
    kind = LimitKind.Name(check.kind).removeprefix("LIMIT_KIND_")
    models = f" for {check.model}" if check.model else ""
    metadata = {"owner": check.owner, "kind": kind, "limit": str(check.whole)}
    share = ""
    if check.model:
        metadata["model"] = check.model
    if degraded:
        metadata |= {"limiter": "local_share", "local_share": str(check.limit)}
        share = f", of which this process may grant {check.limit} while limits are not shared"
    return GatewayError(
        ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED,
        f"{check.owner} has no room in its {kind} of {check.whole}{models}{share}",
        metadata=metadata,
        retry_after=None if refusal.wait is None else refusal.wait / 1_000_000,
    )


def note_remaining(
    left: dict[str, tuple[int, int]], checks: Sequence[Check], remaining: Sequence[int]
) -> None:
    """Puts what is left of these limits, and the limit, in ``left`` where it is the tightest of its kind."""
    for check, rest in zip(checks, remaining, strict=True):
        name = _TOLD.get(check.kind)
        if name and (name not in left or (rest, check.limit) < left[name]):
            left[name] = rest, check.limit


def describe_remaining(left: Mapping[str, tuple[int, int]]) -> list[tuple[str, str]]:
    """Trailing metadata with what ``note_remaining`` noted, by names that clients know."""
    found = []
    for name, (rest, limit) in left.items():
        reset = -(-(limit - rest) * MINUTE // limit) / 1_000_000 if limit else 0
        found += [
            (f"x-ratelimit-limit-{name}", str(limit)),
            (f"x-ratelimit-remaining-{name}", str(rest)),
            (f"x-ratelimit-reset-{name}", f"{reset:.3f}s"),
        ]
    return found
