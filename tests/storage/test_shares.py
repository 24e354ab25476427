"""What processes may do of a limit while they cannot count together: their shares add up to the limit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NoReturn

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
