"""What processes may do of a limit while they cannot count together: their shares add up to the limit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.call import CallContext, Principal, RateLimit
from gateway_server.errors import GatewayError
from gateway_server.limits.checks import Check, Refusal, Taken
from gateway_server.limits.limiter import Claim, LimitsAwayError, RateLimiter
from gateway_server.metrics import Metrics
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository, Share
from tests.support.stores import SetClock


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_shares_add_up_to_the_whole(whole: int, processes: int) -> None:
    shares = [Share(place, processes).of(whole) for place in range(processes)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1


async def test_processes_of_one_store_know_which_of_them_they_are(store: Store) -> None:
    repository = GatewayRepository(store)
    assert await repository.share_of("b") == Share(0, 1)  # before it is known
    for gateway_id in ("b", "c", "a"):
        await repository.register(gateway_id)
    shares = [await repository.share_of(gateway_id) for gateway_id in ("a", "b", "c")]
    assert shares == [Share(0, 3), Share(1, 3), Share(2, 3)]


class _Away:
    """Counts that cannot be reached."""

    is_away = True
    probe_seconds = 1.0

    async def take(self, group: str, checks: Sequence[Check], lease: str, *, lease_seconds: float) -> Taken:
        raise LimitsAwayError

    async def look(self, group: str, checks: Sequence[Check]) -> list[Refusal]:
        raise LimitsAwayError

    def settle(self, group: str, checks: Sequence[Check], lease: str, corrections: Sequence[int]) -> NoReturn:
        raise AssertionError("nothing was taken")

    def give_back(self, group: str, checks: Sequence[Check], lease: str) -> NoReturn:
        raise AssertionError("nothing was taken")

    async def used(self, group: str, checks: Sequence[Check]) -> list[int]:
        raise LimitsAwayError


async def test_a_limit_below_the_number_of_processes_is_kept_without_redis() -> None:
    clock = SetClock(1000.0)
    limit = RateLimit("tenants/acme", max_concurrent_requests=2)
    refusals: list[GatewayError] = []
    for share in (Share(0, 3), Share(1, 3), Share(2, 3)):
        limiter = RateLimiter(clock=clock, metrics=Metrics(), shared=_Away(), share=partial(Share, *share))
        now = clock.monotonic()
        call = CallContext("id", "Chat", Principal("acme", "k", frozenset()), clock, 0.0, now, now + 60)
        for lease in ("1", "2"):
            claims = [Claim(limit.owner, (limit,))]
            try:
                await limiter.admit(call, claims, model_names=("m",), tokens=1, lease=lease)
            except GatewayError as error:
                refusals.append(error)
    assert [error.reason for error in refusals] == [ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED] * 4
    assert {error.metadata["limiter"] for error in refusals} == {"local_share"}
    assert {error.metadata["limit"] for error in refusals} == {"2"}
    assert [error.metadata["local_share"] for error in refusals] == ["1", "1", "0", "0"]
    # When another call ends is not known; when Redis is tried again is.
    assert [error.retry_after for error in refusals] == [None, None, 1.0, 1.0]


@pytest.mark.parametrize(
    ("limit", "share", "told", "retry_after"),
    [
        (RateLimit("tenants/acme", requests_per_minute=6), Share(0, 3), ("6", "2"), 30.0),
        (RateLimit("tenants/acme", tokens_per_minute=6), Share(0, 3), ("6", "2"), 60.0),
        (RateLimit("tenants/acme", requests_per_minute=1), Share(1, 2), ("1", "0"), 1.0),
        (RateLimit("tenants/acme", tokens_per_minute=1), Share(1, 2), ("1", "0"), 1.0),
        (RateLimit("tenants/acme", requests_per_minute=0), Share(0, 2), ("0", "0"), None),
    ],
)
async def test_a_refusal_without_redis_tells_the_limit_the_share_and_a_wait_that_is_enough(
    limit: RateLimit, share: Share, told: tuple[str, str], retry_after: float | None
) -> None:
    clock = SetClock(1000.0)
    limiter = RateLimiter(clock=clock, metrics=Metrics(), shared=_Away(), share=lambda: share)
    call = CallContext(
        "id", "Chat", Principal("acme", "k", frozenset()), clock, 0.0, clock.now(), clock.now() + 600
    )
    numbers = itertools.count()

    async def admit() -> None:
        claims = [Claim(limit.owner, (limit,))]
        await limiter.admit(call, claims, model_names=("m",), tokens=4, lease=str(next(numbers)))

    with pytest.raises(GatewayError) as refused:
        for _ in range(3):
            await admit()
    error = refused.value
    assert (error.metadata["limit"], error.metadata["local_share"]) == told
    assert f" of {told[0]}, of which this process may grant {told[1]} " in error.message
    assert error.retry_after == retry_after
    if error.metadata["local_share"] != "0":
        assert error.retry_after is not None
        clock.advance(error.retry_after)
        await admit()
