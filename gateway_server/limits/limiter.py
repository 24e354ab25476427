"""Rate limits as the pipeline uses them: room for one call at once, and the truth when it has ended.

One process counts by itself; several share their counts in Redis. While Redis is away, each counts by itself
again, with its share of every limit, or refuses, as the tenant wants it: see docs/decisions/limits.md.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_service_pb2 import LimitKind, LimitUsage
from gateway_server.call import CallContext, RateLimit
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.limits.buckets import Buckets
from gateway_server.limits.checks import (
    CONCURRENT,
    MINUTE,
    REQUESTS,
    TOKENS,
    Check,
    Refusal,
    Taken,
    checks_of,
    note_remaining,
    refused,
    worst,
)
from gateway_server.metrics import Metrics
from gateway_server.storage.gateways import WHOLE, Share
from gateway_server.storage.times import micros_of_seconds, timestamp_of_micros

_LOG: Final = logging.getLogger(__name__)

#: How much longer than its deadline a call keeps its places, if nobody ends it.
_LEASE_MARGIN_SECONDS: Final = 30.0


class LimitsAwayError(Exception):
    """The shared counts cannot be reached in time."""


class SharedLimits(Protocol):
    """Counts that several processes share. ``group`` is what may be counted in one step together."""

    @property
    def is_away(self) -> bool:
        """Whether it is known to be out of reach."""
        ...

    @property
    def probe_seconds(self) -> float:
        """While it is out of reach: after how many seconds somebody tries again."""
        ...

    async def take(self, group: str, checks: Sequence[Check], lease: str, *, lease_seconds: float) -> Taken:
        """As ``Buckets.take``. Raises LimitsAwayError; a cancel leaves nothing taken."""
        ...

    async def look(self, group: str, checks: Sequence[Check]) -> list[Refusal]:
        """What ``take`` would be refused by; takes nothing. Raises LimitsAwayError."""
        ...

    def settle(self, group: str, checks: Sequence[Check], lease: str, corrections: Sequence[int]) -> None:
        """As ``Buckets.settle``, soon; never waits, never fails."""
        ...

    def give_back(self, group: str, checks: Sequence[Check], lease: str) -> None:
        """Undoes what was taken, at once; never waits, never fails."""
        ...

    async def used(self, group: str, checks: Sequence[Check]) -> list[int]:
        """As ``Buckets.used``. Raises LimitsAwayError."""
        ...


class Claim(NamedTuple):
    """Limits that a call has to pass, and ``group``, who they all belong to: what is counted in one step.

    ``is_told`` is whether the caller may know how much is left of them: not where others use it up too.
    """

    group: str
    limits: tuple[RateLimit, ...]
    is_told: bool = True


class Grant:
    """Room that one call has been given in each limit of a claim."""

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[int, int | None], None] | None = None) -> None:
        """``end`` is called once, with the requests and the tokens of the call."""
        self._end = end

    def settle(self, tokens: int | None, *, requests: int = 1) -> None:
        """Ends the call: gives back its places, and corrects its requests and tokens to what they were.

        ``tokens`` is None when they are not known; the estimate stands then. The second time does nothing.
        Never waits.
        """
        end, self._end = self._end, None
        if end is not None:
            end(requests, tokens)


class _Part(NamedTuple):
    """The checks of one claim."""

    claim: Claim
    checks: list[Check]


class RateLimiter:
    """Requests and tokens a minute, and requests under way; all limits of a call or none of them."""

    def __init__(
        self, *, clock: Clock, metrics: Metrics, shared: SharedLimits | None, share: Callable[[], Share]
    ) -> None:
        """``share`` tells what this process has of each limit while ``shared`` is away."""
        self._clock = clock
        self._metrics = metrics
        self._shared = shared
        self._share = share
        self._buckets = Buckets()

    async def admit(
        self,
        call: CallContext,
        claims: Sequence[Claim],
        *,
        model_names: tuple[str, ...],
        tokens: int,
        lease: str,
    ) -> list[Grant]:
        """Takes one request, ``tokens`` tokens and one place in every limit that fits, or nothing at all.

        Gives a grant for each claim. ``model_names`` are the names a glob may mean the model by, and
        ``lease`` is a name of its own for what is taken. Raises RATE_LIMIT_EXCEEDED, told of the limit that
        is longest in the way, and LIMITER_UNAVAILABLE. A cancel leaves nothing taken.
        """
        parts = _parts_of(claims, model_names, tokens, share=WHOLE)
        if not any(part.checks for part in parts):
            return [_NOTHING] * len(parts)
        lease_seconds = max(call.remaining(), 0.0) + _LEASE_MARGIN_SECONDS
        if self._shared is not None:
            try:
                return await self._admit_shared(self._shared, call, parts, lease, lease_seconds)
            except LimitsAwayError:
                self._metrics.count_degraded_check()
                if call.principal.refuses_without_limiter:
                    raise _unavailable(call, self._shared.probe_seconds) from None
            parts = _parts_of(claims, model_names, tokens, share=self._share())
        return self._admit_here(call, parts, lease, lease_seconds)

    def _admit_here(
        self, call: CallContext, parts: Sequence[_Part], lease: str, lease_seconds: float
    ) -> list[Grant]:
        """Takes of all parts in one step."""
        now = self._now()
        checks = [check for part in parts for check in part.checks]
        taken = self._buckets.take(checks, lease, now=now, lease_end=now + micros_of_seconds(lease_seconds))
        if taken.refusals:
            if self._shared is None:
                raise self._refused(taken.refusals, degraded=False)
            refusals = [_without_share(each, self._shared.probe_seconds) for each in taken.refusals]
            raise self._refused(refusals, degraded=True)
        remaining = iter(taken.remaining)
        for part in parts:
            _tell(call, part, [next(remaining) for _ in part.checks])
        return [self._grant_here(part, lease) for part in parts]

    def _grant_here(self, part: _Part, lease: str) -> Grant:
        def end(requests: int, tokens: int | None) -> None:
            corrections = _corrections(part.checks, requests, tokens)
            self._buckets.settle(part.checks, lease, corrections, now=self._now())

        return Grant(end) if part.checks else _NOTHING

    async def _admit_shared(
        self,
        shared: SharedLimits,
        call: CallContext,
        parts: Sequence[_Part],
        lease: str,
        lease_seconds: float,
    ) -> list[Grant]:
        """Takes of one part after the other, since no step goes across groups, and gives back what was taken
        when a later one has no room. Raises LimitsAwayError.
        """
        asked = [part for part in parts if part.checks]
        taken: list[tuple[_Part, Taken]] = []
        refusals: list[Refusal] = []
        try:
            for part in asked:
                found = await shared.take(part.claim.group, part.checks, lease, lease_seconds=lease_seconds)
                if found.refusals:
                    refusals = [*found.refusals, *await _look(shared, asked[len(taken) + 1 :])]
                    break
                taken.append((part, found))
        finally:
            if len(taken) < len(asked):
                for part, _ in taken:
                    shared.give_back(part.claim.group, part.checks, lease)
        if refusals:
            raise self._refused(refusals, degraded=False)
        for part, found in taken:
            _tell(call, part, found.remaining)
        return [_grant_shared(shared, part, lease) for part in parts]

    async def usage(self, limits: Sequence[RateLimit], *, group: str) -> list[LimitUsage]:
        """How much of each of these limits is used up."""
        checks = [
            check for limit in limits for check in checks_of((limit,), model_names=(limit.model,), tokens=0)
        ]
        used = None
        if self._shared is not None and checks:
            try:
                used = await self._shared.used(group, checks)
            except LimitsAwayError:
                used = None  # what this process has counted is better than nothing
        if used is None:
            now = self._now()
            used = [self._buckets.used(check, now=now) for check in checks]
        return [self._usage_of(check, count) for check, count in zip(checks, used, strict=True)]

    def _usage_of(self, check: Check, used: int) -> LimitUsage:
        usage = LimitUsage(owner=check.owner, model=check.model, kind=check.kind, limit=check.limit)
        if check.kind == CONCURRENT:
            usage.held = used
            return usage
        usage.used = used
        if used and check.limit:
            reset = micros_of_seconds(self._clock.now()) + -(-used * MINUTE // check.limit)
            usage.reset_time.CopyFrom(timestamp_of_micros(reset))
        return usage

    def _refused(self, refusals: Sequence[Refusal], *, degraded: bool) -> GatewayError:
        refusal = worst(refusals)
        self._metrics.count_rate_limited(LimitKind.Name(refusal.check.kind))
        return refused(refusal, degraded=degraded)

    def _now(self) -> int:
        return micros_of_seconds(self._clock.monotonic())


_NOTHING: Final = Grant()


def _parts_of(
    claims: Sequence[Claim], model_names: tuple[str, ...], tokens: int, *, share: Share
) -> list[_Part]:
    return [
        _Part(
            claim,
            checks_of(claim.limits, model_names=model_names, tokens=tokens, share=share)
            if claim.limits
            else [],
        )
        for claim in claims
    ]


def _tell(call: CallContext, part: _Part, remaining: Sequence[int]) -> None:
    if part.claim.is_told:
        note_remaining(call.limits_left, part.checks, remaining)


async def _look(shared: SharedLimits, parts: Sequence[_Part]) -> list[Refusal]:
    """What else is in the way of a call that is refused, so that it is told to wait for that too."""
    refusals = []
    with suppress(LimitsAwayError):
        for part in parts:
            refusals += await shared.look(part.claim.group, part.checks)
    return refusals


def _grant_shared(shared: SharedLimits, part: _Part, lease: str) -> Grant:
    def end(requests: int, tokens: int | None) -> None:
        shared.settle(part.claim.group, part.checks, lease, _corrections(part.checks, requests, tokens))

    return Grant(end) if part.checks else _NOTHING


def _corrections(checks: Sequence[Check], requests: int, tokens: int | None) -> list[int]:
    """What is to be added to each check's cost, so that it is what the call took."""
    return [_correction(check, requests, tokens) for check in checks]


def _correction(check: Check, requests: int, tokens: int | None) -> int:
    if check.kind == REQUESTS:
        return requests - check.cost
    if check.kind == TOKENS and tokens is not None:
        return tokens - check.cost
    return 0


def _without_share(refusal: Refusal, probe_seconds: float) -> Refusal:
    """What a process has no share of, it may grant as soon as limits are shared again."""
    if refusal.check.limit or not refusal.check.whole:
        return refusal
    return Refusal(refusal.check, micros_of_seconds(probe_seconds))


def _unavailable(call: CallContext, probe_seconds: float) -> GatewayError:
    return GatewayError(
        ErrorReason.ERROR_REASON_LIMITER_UNAVAILABLE,
        "the shared store of rate limits cannot be reached, and the tenant's calls are refused meanwhile",
        metadata={"tenant": call.principal.tenant},
        retry_after=probe_seconds,
    )
