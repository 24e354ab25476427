"""A call takes room in its tenant's limits and in its target's, or in none, in memory and in Redis alike."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.v1.usage_service_pb2 import LimitUsage
from gateway_server.call import CallContext, Principal, RateLimit
from gateway_server.clock import Clock, SystemClock
from gateway_server.errors import GatewayError
from gateway_server.limits.checks import Check, Refusal, Taken
from gateway_server.limits.limiter import Claim, Grant, LimitsAwayError, RateLimiter, SharedLimits
from gateway_server.limits.redis_limits import RedisLimits
from gateway_server.metrics import Metrics
from gateway_server.storage.gateways import WHOLE
from tests.support.services import SERVICES
from tests.support.stores import SetClock

TENANT = RateLimit("tenants/acme", requests_per_minute=5, tokens_per_minute=900, max_concurrent_requests=3)
OTHER = RateLimit("tenants/other", requests_per_minute=4)
PROVIDER = RateLimit("providers/p", requests_per_minute=6, tokens_per_minute=1000)
MODEL = RateLimit("providers/p/models/m", tokens_per_minute=700, max_concurrent_requests=2)


def claims_of(tenant: RateLimit, *targets: RateLimit) -> list[Claim]:
    owner = targets[0].owner if targets else "providers/p"
    return [Claim(tenant.owner, (tenant,)), Claim(owner, targets, is_told=False)]


def call_of(clock: Clock) -> CallContext:
    now = clock.monotonic()
    return CallContext("id", "Chat", Principal("acme", "k", frozenset()), clock, 0.0, now, now + 60)


@dataclass
class Caller:
    """Admits calls, and knows what is used."""

    limiter: RateLimiter
    clock: Clock

    async def admit(self, claims: Sequence[Claim], tokens: int, lease: str = "x") -> list[Grant]:
        call = call_of(self.clock)
        return await self.limiter.admit(call, claims, model_names=("p/m", "m"), tokens=tokens, lease=lease)

    async def refusal(self, claims: Sequence[Claim], tokens: int, lease: str = "x") -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.admit(claims, tokens, lease)
        return caught.value

    async def used(self, *claims: Claim) -> dict[tuple[str, int], int]:
        found: list[LimitUsage] = []
        for claim in claims:
            found += await self.limiter.usage(claim.limits, group=claim.group)
        return {(each.owner, each.kind): each.used + each.held for each in found}


def caller_of(clock: Clock, shared: SharedLimits | None = None) -> Caller:
    return Caller(RateLimiter(clock=clock, metrics=Metrics(), shared=shared, share=lambda: WHOLE), clock)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["acme", "other"]), st.booleans(), st.integers(0, 800)),
        st.tuples(st.just("settle"), st.booleans(), st.integers(0, 1200)),
        st.tuples(st.just("wait"), st.booleans(), st.integers(0, 30_000_000)),
        st.tuples(st.just("limit"), st.booleans(), st.integers(1, 1200)),
    ),
    max_size=50,
)


@settings(deadline=None, max_examples=200)
@given(STEPS)
async def test_a_refusal_takes_nothing_and_waiting_as_long_as_it_says_is_enough(
    steps: list[tuple[str, bool, int]],
) -> None:
    clock = SetClock(1000.0)
    caller = caller_of(clock)
    tenants = {"acme": TENANT, "other": OTHER}
    under_way: list[list[Grant]] = []
    for number, (step, has_model, amount) in enumerate(steps):
        match step:
            case "wait":
                clock.advance(amount / 1_000_000)
            case "settle":
                if under_way:
                    for grant in under_way.pop(amount % len(under_way)):
                        grant.settle(amount)
            case "limit":
                is_lower = amount < (tenants["acme"].tokens_per_minute or 0)
                tenants["acme"] = TENANT._replace(tokens_per_minute=amount)
                tokens = [Claim("", (RateLimit("tenants/acme", tokens_per_minute=amount),))]
                try:
                    under_way.append(await caller.admit(tokens, 1, str(number)))
                except GatewayError as error:
                    wait = error.retry_after
                else:
                    wait = 0
                assert wait is not None
                assert wait <= 60 or not is_lower
            case _:
                everything = [Claim("", (*tenants.values(), PROVIDER, MODEL))]
                claims = claims_of(tenants[step], PROVIDER, *([MODEL] if has_model else []))
                before = await caller.used(*everything)
                try:
                    under_way.append(await caller.admit(claims, amount, str(number)))
                except GatewayError as error:
                    assert await caller.used(*everything) == before
                    if error.retry_after is None:
                        continue
                    # A microsecond is what the clock of floats may be off by.
                    clock.advance(error.retry_after - 3e-6)
                    await caller.refusal(claims, amount, str(number))
                    clock.advance(6e-6)
                    under_way.append(await caller.admit(claims, amount, str(number)))


async def test_what_a_call_did_at_its_target_is_counted_there() -> None:
    caller = caller_of(SetClock())
    tenant, target = claims_of(TENANT._replace(tokens_per_minute=None), PROVIDER, MODEL)
    for number, requests in enumerate((0, 1, 3)):
        _, grant = await caller.admit([tenant, target], 500, str(number))
        grant.settle(20 * requests, requests=requests)
        grant.settle(999)  # the second time does nothing
    assert await caller.used(target) == {
        ("providers/p", 1): 4,
        ("providers/p", 2): 80,
        ("providers/p/models/m", 2): 80,
        ("providers/p/models/m", 3): 0,
    }


@pytest.fixture
async def shared() -> AsyncIterator[RedisLimits]:
    server = await asyncio.to_thread(SERVICES.redis)
    made = RedisLimits(f"redis://127.0.0.1:{server.port}", clock=SystemClock(), metrics=Metrics())
    await made.start()
    yield made
    await made.close()


@dataclass
class Names:
    """Limits that no other test uses."""

    tenant: RateLimit
    provider: RateLimit
    model: RateLimit

    @property
    def claims(self) -> list[Claim]:
        return claims_of(self.tenant, self.provider, self.model)


@pytest.fixture
def names() -> Names:
    one = uuid.uuid4().hex
    return Names(
        TENANT._replace(owner=f"tenants/{one}"),
        PROVIDER._replace(owner=f"providers/{one}"),
        MODEL._replace(owner=f"providers/{one}/models/m"),
    )


async def test_in_redis_the_targets_refusal_leaves_nothing_with_the_tenant(
    shared: RedisLimits, names: Names
) -> None:
    caller = caller_of(SystemClock(), shared)
    tenant, target = names.claims
    others = Claim("tenants/others", ())
    for number in range(2):
        await caller.admit([others, target], 10, f"o{number}")
    for _ in range(20):  # more often than the tenant has requests or places
        error = await caller.refusal([tenant, target], 10)
        assert error.metadata == {
            "owner": names.model.owner,
            "kind": "CONCURRENT_REQUESTS",
            "limit": "2",
        }
        assert error.retry_after is None
    assert set((await caller.used(tenant)).values()) == {0}
    used = await caller.used(target)
    assert [used[(names.provider.owner, 1)], used[(names.model.owner, 3)]] == [2, 2]
    assert 0 < used[(names.provider.owner, 2)] <= 20  # they drain meanwhile


async def test_in_redis_the_tenants_refusal_touches_nothing_that_is_others_too(
    shared: RedisLimits, names: Names
) -> None:
    caller = caller_of(SystemClock(), shared)
    tenant, target = names.claims
    nobody = Claim(tenant.group, (names.tenant._replace(requests_per_minute=0),))
    for _ in range(20):
        assert (await caller.refusal([nobody, target], 10)).metadata["owner"] == names.tenant.owner
    assert set((await caller.used(target)).values()) == {0}


async def test_in_redis_a_refusal_tells_the_longest_wait_of_tenant_and_target(
    shared: RedisLimits, names: Names
) -> None:
    caller = caller_of(SystemClock(), shared)
    tenant = Claim(names.tenant.owner, (names.tenant,))
    target = Claim(names.provider.owner, (names.provider,), is_told=False)
    await caller.admit([tenant, target], 900)
    error = await caller.refusal([tenant, target], 450)
    assert error.metadata["owner"] == names.tenant.owner
    assert error.retry_after is not None
    assert 29 < error.retry_after <= 30  # until 450 of 900 are free; the provider has them in 21 s
    slower = Claim(names.provider.owner, (names.provider._replace(tokens_per_minute=600),), is_told=False)
    error = await caller.refusal([tenant, slower], 450)
    assert error.metadata["owner"] == names.provider.owner
    assert error.retry_after is not None
    assert 44 < error.retry_after <= 45  # until 450 of 600 are free: lowered, it is full with what was 900


@pytest.mark.parametrize("seed", range(4))
async def test_in_redis_as_in_memory(shared: RedisLimits, names: Names, seed: int) -> None:
    """Redis has its own clock, so nothing waits here; costs are coarse enough for what drains meanwhile."""
    draw = random.Random(seed)
    plain = caller_of(SetClock())
    caller = caller_of(SystemClock(), shared)
    coarse = names.tenant._replace(requests_per_minute=None)
    target = (names.provider._replace(requests_per_minute=None), names.model)
    under_way: list[tuple[list[Grant], list[Grant]]] = []
    for number in range(60):
        if under_way and draw.random() < 0.4:
            used = draw.choice([0, 200, 300])
            for grant in [each for both in under_way.pop(draw.randrange(len(under_way))) for each in both]:
                grant.settle(used)
            continue
        if draw.random() < 0.15:
            coarse = coarse._replace(tokens_per_minute=draw.choice([200, 500, 900, 2000]))
        claims = claims_of(coarse, *target[: draw.choice([1, 2])])
        tokens = draw.choice([100, 200, 300])
        found = await admitted(caller, claims, tokens, str(number))
        expected = await admitted(plain, claims, tokens, str(number))
        if isinstance(found, list) and isinstance(expected, list):
            under_way.append((found, expected))
        else:
            assert found == expected


async def admitted(
    caller: Caller, claims: Sequence[Claim], tokens: int, lease: str
) -> list[Grant] | dict[str, str]:
    """What was granted, or how the refusal is told."""
    try:
        return await caller.admit(claims, tokens, lease)
    except GatewayError as error:
        return error.metadata


async def test_in_redis_a_call_that_leaves_between_two_steps_takes_nothing(
    shared: RedisLimits, names: Names
) -> None:
    caller = caller_of(SystemClock(), shared)
    for turns in range(16):
        task = asyncio.create_task(caller.admit(names.claims, 500, f"l{turns}"))
        await asyncio.sleep(turns * 0.0001)
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:  # it was quicker, and has what it took
            for grant in task.result():
                grant.settle(0, requests=0)
    async with asyncio.timeout(5):
        while any((await caller.used(*names.claims)).values()):
            await asyncio.sleep(0.02)


class AwayForTargets:
    """Redis that goes away between the two steps of a call."""

    def __init__(self, behind: RedisLimits) -> None:
        self._behind = behind
        self.is_away = False
        self.probe_seconds = 1.0

    async def take(self, group: str, checks: Sequence[Check], lease: str, *, lease_seconds: float) -> Taken:
        if group.startswith("providers/"):
            raise LimitsAwayError
        return await self._behind.take(group, checks, lease, lease_seconds=lease_seconds)

    async def look(self, group: str, checks: Sequence[Check]) -> list[Refusal]:
        raise LimitsAwayError

    def settle(self, group: str, checks: Sequence[Check], lease: str, corrections: Sequence[int]) -> None:
        self._behind.settle(group, checks, lease, corrections)

    def give_back(self, group: str, checks: Sequence[Check], lease: str) -> None:
        self._behind.give_back(group, checks, lease)

    async def used(self, group: str, checks: Sequence[Check]) -> list[int]:
        return await self._behind.used(group, checks)


async def test_redis_that_goes_between_two_steps_keeps_nothing_and_the_process_counts(
    shared: RedisLimits, names: Names
) -> None:
    caller = caller_of(SystemClock(), AwayForTargets(shared))
    await caller.admit(names.claims, 10, "a")
    await caller.admit(names.claims, 10, "b")
    error = await caller.refusal(names.claims, 10, "c")
    assert (error.metadata["owner"], error.metadata["limiter"]) == (names.model.owner, "local_share")
    async with asyncio.timeout(5):
        while any((await caller.used(names.claims[0])).values()):
            await asyncio.sleep(0.02)
