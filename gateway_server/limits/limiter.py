"""Rate limits as the pipeline uses them: room for one call at once, and the truth when it has ended.

One process counts by itself; several share their counts in Redis. While Redis is away, each counts by itself
again, with its share of every limit, or refuses, as the tenant wants it: see docs/decisions/limits.md.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_service_pb2 import LimitKind, LimitUsage
from gateway_server.call import CallContext, RateLimit
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.limits.buckets import Buckets
from gateway_server.limits.checks import (
    CONCURRENT,
    MINUTE,
    TOKENS,
    Check,
    Taken,
    checks_of,
    describe_remaining,
    refused,
    worst,
)
from gateway_server.metrics import Metrics
from gateway_server.storage.times import micros_of_seconds, timestamp_of_micros

_LOG: Final = logging.getLogger(__name__)

#: How much longer than its deadline a call keeps its places, if nobody ends it.
_LEASE_MARGIN_SECONDS: Final = 30.0
_RETRY_AFTER_SECONDS: Final = 1.0


class LimitsAwayError(Exception):
    """The shared counts cannot be reached in time."""


class SharedLimits(Protocol):
    """Counts that several processes share. ``group`` is what may be counted in one step together."""

    @property
    def is_away(self) -> bool:
        """Whether it is known to be out of reach."""
        ...

    async def take(self, group: str, checks: Sequence[Check], lease: str, *, lease_seconds: float) -> Taken:
        """As ``Buckets.take``. Raises LimitsAwayError; a cancel leaves nothing taken."""
        ...

    def settle(self, group: str, checks: Sequence[Check], lease: str, corrections: Sequence[int]) -> None:
        """As ``Buckets.settle``, soon; never waits, never fails."""
        ...

    async def used(self, group: str, checks: Sequence[Check]) -> list[int]:
        """As ``Buckets.used``. Raises LimitsAwayError."""
        ...


class Grant:
    """Room that one call has been given in each limit that applies."""

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[int | None], None] | None = None) -> None:
        """``end`` is called once, with the tokens of the call."""
        self._end = end

    def settle(self, tokens: int | None) -> None:
        """Ends the call: gives back its places, and corrects its tokens to what they were.

        ``tokens`` is None when they are not known; the estimate stands then. The second time does nothing.
        Never waits.
        """
        end, self._end = self._end, None
        if end is not None:
            end(tokens)


class RateLimiter:
    """Requests and tokens a minute, and requests under way; all limits of a call in one step."""

    def __init__(
        self, *, clock: Clock, metrics: Metrics, shared: SharedLimits | None, processes: Callable[[], int]
    ) -> None:
        """``processes`` tells among how many processes limits are shared out while ``shared`` is away."""
        self._clock = clock
        self._metrics = metrics
        self._shared = shared
        self._processes = processes
        self._buckets = Buckets()

    async def admit(
        self,
        call: CallContext,
        limits: tuple[RateLimit, ...],
        *,
        group: str,
        model_names: tuple[str, ...],
        tokens: int,
        lease: str,
    ) -> Grant:
        """Takes one request, ``tokens`` tokens and one place in every limit that fits, or nothing at all.

        ``group`` is who all the limits belong to, ``model_names`` are the names a glob may mean the model by,
        and ``lease`` is a name of its own for what is taken. Raises RATE_LIMIT_EXCEEDED, LIMITER_UNAVAILABLE.
        A cancel leaves nothing taken.
        """
        if not limits:
            return _NOTHING
        checks = checks_of(limits, model_names=model_names, tokens=tokens)
        if not checks:
            return _NOTHING
        lease_seconds = max(call.remaining(), 0.0) + _LEASE_MARGIN_SECONDS
        if self._shared is not None:
            try:
                taken = await self._shared.take(group, checks, lease, lease_seconds=lease_seconds)
            except LimitsAwayError:
                self._metrics.count_degraded_check()
                if call.principal.refuses_without_limiter:
                    raise _unavailable(call) from None
                share = max(self._processes(), 1)
                checks = checks_of(limits, model_names=model_names, tokens=tokens, share=share)
            else:
                self._check(call, checks, taken, degraded=False)
                shared = self._shared
                return Grant(lambda used: shared.settle(group, checks, lease, _corrections(checks, used)))
        now = self._now()
        lease_end = now + micros_of_seconds(lease_seconds)
        taken = self._buckets.take(checks, lease, now=now, lease_end=lease_end)
        self._check(call, checks, taken, degraded=self._shared is not None)
        return Grant(
            lambda used: self._buckets.settle(checks, lease, _corrections(checks, used), now=self._now())
        )

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

    def _check(self, call: CallContext, checks: Sequence[Check], taken: Taken, *, degraded: bool) -> None:
        if taken.refusals:
            refusal = worst(taken.refusals)
            self._metrics.count_rate_limited(LimitKind.Name(refusal.check.kind))
            raise refused(refusal, degraded=degraded)
        call.trailing_metadata += describe_remaining(checks, taken.remaining)

    def _now(self) -> int:
        return micros_of_seconds(self._clock.monotonic())


_NOTHING: Final = Grant()


def _corrections(checks: Sequence[Check], used: int | None) -> list[int]:
    """What is to be added to each check's cost, so that it is what the call took."""
    return [0 if check.kind != TOKENS or used is None else used - check.cost for check in checks]


def _unavailable(call: CallContext) -> GatewayError:
    return GatewayError(
        ErrorReason.ERROR_REASON_LIMITER_UNAVAILABLE,
        "the shared store of rate limits cannot be reached, and the tenant's calls are refused meanwhile",
        metadata={"tenant": call.principal.tenant},
        retry_after=_RETRY_AFTER_SECONDS,
    )
