"""Rate limits are what a plain model says they are, in memory and in Redis alike."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.clock import SystemClock
from gateway_server.limits.buckets import Buckets
from gateway_server.limits.checks import CONCURRENT, MINUTE, REQUESTS, TOKENS, Check, Taken, check_of
from gateway_server.limits.limiter import LimitsAwayError
from gateway_server.limits.redis_limits import RedisLimits
from gateway_server.metrics import Metrics
from gateway_server.redis_script import Command
from tests.support.services import SERVICES, Service


@dataclass
class Model:
    """Limits by plain fractions: what is in a bucket, as it drains by the limit that it goes by."""

    levels: dict[str, Fraction] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    places: dict[str, dict[str, int]] = field(default_factory=dict)
    now: int = 0

    def advance(self, micros: int) -> None:
        self.now += micros
        for key, level in self.levels.items():
            self.levels[key] = max(level - Fraction(micros * self.limits[key], MINUTE), Fraction(0))

    def take(self, checks: list[Check], lease: str, end: int) -> bool:
        for check in checks:
            if check.kind != CONCURRENT:
                self.change(check)
        for check in checks:
            if check.kind == CONCURRENT:
                living = [e for e in self.places.get(check.key, {}).values() if e > self.now]
                if len(living) >= check.limit:
                    return False
            elif self.levels[check.key] + check.cost > check.limit:
                return False
        for check in checks:
            if check.kind == CONCURRENT:
                self.places.setdefault(check.key, {})[lease] = end
            else:
                self.levels[check.key] += check.cost
        return True

    def change(self, check: Check) -> None:
        """The bucket goes by this limit from now on; a lower one leaves it at most full."""
        level = self.levels.get(check.key, Fraction(0))
        if check.limit < self.limits.get(check.key, check.limit):
            level = min(level, Fraction(check.limit))
        self.levels[check.key] = level
        self.limits[check.key] = check.limit

    def settle(self, checks: list[Check], lease: str, corrections: list[int]) -> None:
        for check, correction in zip(checks, corrections, strict=True):
            if check.kind == CONCURRENT:
                self.places.get(check.key, {}).pop(lease, None)
            elif correction:
                before = self.levels.get(check.key, Fraction(0))
                if not before:
                    self.limits[check.key] = check.limit
                after = max(before + correction, Fraction(0))
                if check.limit > self.limits[check.key]:  # lowered meanwhile: no debt
                    after = min(after, max(before, Fraction(self.limits[check.key])))
                self.levels[check.key] = after


LIMITS = {"r": 7, "t": 1000, "c": 2}
KINDS = {"r": REQUESTS, "t": TOKENS, "c": CONCURRENT}


def checks_of(kinds: str, tokens: int, limits: dict[str, int] = LIMITS) -> list[Check]:
    return [
        check_of("tenants/acme", "", KINDS[kind], limits[kind], tokens if kind == "t" else 1)
        for kind in kinds
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.sampled_from(["r", "t", "c", "rt", "rtc", "tc"]), st.integers(0, 1000)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(-500, 1500)),
        st.tuples(st.just("wait"), st.integers(0, 30_000_000), st.just(0)),
        st.tuples(st.just("limit"), st.sampled_from("rtc"), st.integers(0, 2000)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_in_memory_limits_are_those_of_the_model(steps: list[tuple[str, object, int]]) -> None:
    model, buckets = Model(), Buckets()
    limits = dict(LIMITS)
    under_way: list[tuple[str, list[Check]]] = []
    for number, (step, value, amount) in enumerate(steps):
        match step:
            case "wait":
                assert isinstance(value, int)
                model.advance(value)
            case "limit":
                assert isinstance(value, str)
                limits[value] = amount
            case "take":
                assert isinstance(value, str)
                checks, lease = checks_of(value, amount, limits), str(number)
                end = model.now + 40_000_000
                taken = buckets.take(checks, lease, now=model.now, lease_end=end)
                assert (not taken.refusals) == model.take(checks, lease, end)
                if taken.refusals:
                    check_waits(taken, model)
                else:
                    under_way.append((lease, checks))
                    check_remaining(taken, checks, model)
            case "settle" if under_way:
                assert isinstance(value, int)
                lease, checks = under_way.pop(value % len(under_way))
                corrections = [amount if check.kind == TOKENS else 0 for check in checks]
                buckets.settle(checks, lease, corrections, now=model.now)
                model.settle(checks, lease, corrections)
            case _:
                pass


def check_waits(taken: Taken, model: Model) -> None:
    """Waiting as long as is told is enough, and a microsecond less is not."""
    for refusal in taken.refusals:
        if refusal.wait is None:
            continue
        check = refusal.check
        excess = (model.levels[check.key] + check.cost - check.limit) * MINUTE
        assert (refusal.wait - 1) * check.limit < excess <= refusal.wait * check.limit


def check_remaining(taken: Taken, checks: list[Check], model: Model) -> None:
    for check, remaining in zip(checks, taken.remaining, strict=True):
        if check.kind == CONCURRENT:
            continue
        assert remaining == (check.limit - model.levels[check.key]).__floor__()


def test_what_is_idle_is_forgotten() -> None:
    buckets = Buckets()
    for number in range(100_000):
        check = check_of(f"tenants/t{number}", "", REQUESTS, 60, 1)
        buckets.take([check], "x", now=number * 10_000, lease_end=0)
    assert len(buckets) < 1_000


def test_what_is_idle_is_forgotten_as_fast_as_calls_with_many_limits_make_it() -> None:
    buckets = Buckets()
    for number in range(10_000):
        kinds = (REQUESTS, TOKENS, CONCURRENT)
        checks = [check_of(f"tenants/t{number}", "", kind, 60, 1) for kind in kinds]
        now = number * 1_000_000  # whatever is of a second ago is idle
        buckets.take(checks, "x", now=now, lease_end=now + 60_000_000)
        buckets.settle(checks, "x", [0, 0, 0], now=now)
        assert len(buckets) < 20


def test_settling_forgets_what_is_idle_too() -> None:
    buckets = Buckets()
    for number in range(10_000):
        check = check_of(f"tenants/t{number}", "", TOKENS, 60, 0)
        buckets.settle([check], "x", [1], now=number * 1_000_000)
        assert len(buckets) < 20


@pytest.fixture
def server() -> Service:
    return SERVICES.redis()


@pytest.fixture
async def limits(server: Service) -> AsyncIterator[RedisLimits]:
    made = RedisLimits(f"redis://127.0.0.1:{server.port}", clock=SystemClock(), metrics=Metrics())
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def group() -> str:
    return f"tenants/{uuid.uuid4().hex}"


async def test_in_redis_too_all_or_nothing(limits: RedisLimits, group: str) -> None:
    requests, tokens, places = checks_of("rtc", 900)
    first = await limits.take(group, [requests, tokens, places], "a", lease_seconds=60)
    assert first.refusals == []
    assert first.remaining == [6, 100, 1]
    second = await limits.take(group, [requests, tokens, places], "b", lease_seconds=60)
    [refusal] = second.refusals
    assert refusal.check == tokens
    assert refusal.wait is not None
    assert 47_000_000 < refusal.wait <= 48_000_000  # until 800 of the 1000 are free again
    assert await limits.used(group, [requests, tokens, places]) == [1, 900, 1]


async def test_in_redis_a_settled_call_took_what_it_took(limits: RedisLimits, group: str) -> None:
    checks = checks_of("rtc", 900)
    await limits.take(group, checks, "a", lease_seconds=60)
    limits.settle(group, checks, "a", [0, -890, 0])
    requests, tokens, places = await limits.used(group, checks)
    assert (requests, places) == (1, 0)
    assert tokens <= 10
    limits.settle(group, checks, "a", [0, 2000, 0])  # more than there is: a debt
    taken = await limits.take(group, checks_of("t", 1), "b", lease_seconds=60)
    assert taken.refusals[0].wait is not None
    assert taken.refusals[0].wait > 59_000_000


async def test_in_redis_a_lower_limit_leaves_a_bucket_that_is_full_and_a_debt_stays(
    limits: RedisLimits, group: str
) -> None:
    def tokens(limit: int) -> list[Check]:
        return checks_of("t", 1, {"t": limit})

    async def wait(limit: int) -> float:
        [refusal] = (await limits.take(group, tokens(limit), "b", lease_seconds=60)).refusals
        assert refusal.wait is not None
        return refusal.wait / MINUTE

    await limits.take(group, checks_of("t", 900), "a", lease_seconds=60)
    assert 0.08 < await wait(10) <= 0.1  # full, and one of ten is free in six seconds
    assert await limits.used(group, tokens(10)) == [10]
    limits.settle(group, checks_of("t", 900), "a", [5000])  # began under the limit of 1000
    assert await wait(10) <= 0.1
    limits.settle(group, tokens(10), "c", [20])
    assert 2.08 < await wait(10) <= 2.1
    await asyncio.sleep(0.1)
    assert 2.07 < await wait(10) < 2.1  # refusals change nothing


@pytest.mark.parametrize("step", ["take", "look", "used"])
async def test_in_redis_a_clock_that_was_set_back_makes_nobody_wait_longer(
    limits: RedisLimits, group: str, step: str
) -> None:
    [full] = checks_of("t", 6_000, {"t": 6_000})
    assert (await limits.take(group, [full], "a", lease_seconds=60)).refusals == []
    key = f"aigw:{{{group}}}:{full.key}"
    [[seconds, _], [level]] = await limits._script.exchange([("TIME",), ("HMGET", key, "l")])
    ahead = (int(seconds) + 3600) * 1_000_000
    await limits._script.exchange([("HSET", key, "l", level, "t", ahead)])
    [some] = checks_of("t", 30, {"t": 6_000})
    match step:
        case "take":
            assert (await limits.take(group, [some], "b", lease_seconds=60)).refusals
        case "look":
            assert await limits.look(group, [some])
        case _:
            assert await limits.used(group, [some]) == [6_000]
    await asyncio.sleep(0.35)  # 35 of them are free again
    assert (await limits.take(group, [some], "c", lease_seconds=60)).refusals == []


async def test_in_redis_a_lease_ends_by_itself(limits: RedisLimits, group: str) -> None:
    [place] = checks_of("c", 0)
    for lease in ("a", "b"):
        assert (await limits.take(group, [place], lease, lease_seconds=0.1)).refusals == []
    assert (await limits.take(group, [place], "c", lease_seconds=1)).refusals
    await asyncio.sleep(0.15)
    assert (await limits.take(group, [place], "c", lease_seconds=1)).refusals == []


@pytest.mark.parametrize("seed", range(6))
async def test_in_redis_too_limits_are_those_of_the_model(limits: RedisLimits, group: str, seed: int) -> None:
    """Redis has its own clock, so nothing waits here; costs are coarse enough for what drains meanwhile."""
    draw, model, kept = random.Random(seed), Model(), dict(LIMITS)
    under_way: list[tuple[str, list[Check]]] = []
    for number in range(80):
        if draw.random() < 0.1:
            kept["t"] = draw.choice([0, 200, 500, 1000, 2000])
        if under_way and draw.random() < 0.4:
            lease, checks = under_way.pop(draw.randrange(len(under_way)))
            corrections = [draw.choice([-200, 0, 300]) if check.kind == TOKENS else 0 for check in checks]
            limits.settle(group, checks, lease, corrections)
            model.settle(checks, lease, corrections)
        else:
            checks = checks_of(draw.choice(["t", "c", "tc"]), draw.choice([100, 200, 300]), kept)
            taken = await limits.take(group, checks, str(number), lease_seconds=60)
            assert (not taken.refusals) == model.take(checks, str(number), 1)
            if not taken.refusals:
                under_way.append((str(number), checks))


async def test_two_processes_share_one_limit(limits: RedisLimits, server: Service, group: str) -> None:
    other = RedisLimits(f"redis://127.0.0.1:{server.port}", clock=SystemClock(), metrics=Metrics())
    await other.start()
    check = check_of(group, "", REQUESTS, 50, 1)
    taken = await asyncio.gather(
        *(each.take(group, [check], str(n), lease_seconds=1) for n in range(60) for each in (limits, other))
    )
    assert sum(not each.refusals for each in taken) == 50
    await other.close()


async def test_a_call_that_leaves_takes_nothing(limits: RedisLimits, group: str) -> None:
    checks = checks_of("rtc", 500)
    for turns in range(8):
        task = asyncio.create_task(limits.take(group, checks, f"l{turns}", lease_seconds=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():  # it was quicker, and has what it took
            limits.settle(group, checks, f"l{turns}", [-1, -500, 0])
    async with asyncio.timeout(5):
        while await limits.used(group, checks) != [0, 0, 0]:
            await asyncio.sleep(0.02)


async def test_a_redis_that_forgets_its_scripts_is_told_again(limits: RedisLimits, group: str) -> None:
    checks = checks_of("r", 0)
    await limits.take(group, checks, "a", lease_seconds=1)
    await limits._script.exchange([("SCRIPT", "FLUSH")])
    assert (await limits.take(group, checks, "b", lease_seconds=1)).refusals == []
    await limits._script.exchange([("FLUSHALL",)])
    assert (await limits.take(group, checks, "c", lease_seconds=1)).remaining == [6]


async def test_what_redis_cannot_count_is_nobody_elses_matter(limits: RedisLimits, group: str) -> None:
    """A key of another kind, and more tokens than Redis can keep the time of."""
    broken, good = f"{group}-broken", [check_of(f"{group}-good", "", REQUESTS, 1_000, 1)]
    [places] = checks_of("c", 0)
    await limits._script.exchange([("SET", f"aigw:{{{broken}}}:{places.key}", "foreign")])
    many = [check_of(f"{group}-many", "", TOKENS, 1, 1)]
    await limits.take(f"{group}-many", many, "m", lease_seconds=1)
    limits.settle(f"{group}-many", many, "m", [2**53])
    limits.settle(broken, [places], "b", [0])
    for number in range(5):
        both = await asyncio.gather(
            limits.take(broken, [places], "b", lease_seconds=1),
            limits.take(f"{group}-good", good, "g", lease_seconds=1),
            return_exceptions=True,
        )
        assert isinstance(both[0], LimitsAwayError)
        assert isinstance(both[1], Taken)
        assert both[1].remaining == [999 - number]
    assert not limits.is_away


async def test_in_redis_the_largest_limit_there_is_leaves_as_much_as_in_memory(
    limits: RedisLimits, group: str
) -> None:
    most = 2**63 - 1
    checks = checks_of("rtc", 300, {"r": most, "t": most, "c": most})
    for number, lease in enumerate(("a", "b"), 1):
        taken = await limits.take(group, checks, lease, lease_seconds=60)
        assert taken.refusals == []
        assert taken.remaining == [most - 1, most - 300, most - number]  # one microsecond drains a bucket
    assert Buckets().take(checks, "a", now=0, lease_end=1).remaining == [most - 1, most - 300, most - 1]


async def find_away(limits: RedisLimits, group: str, checks: list[Check]) -> None:
    for _ in range(10):  # three round trips fail, two of them with a new connection
        with pytest.raises(LimitsAwayError):
            await limits.take(group, checks, "b", lease_seconds=60)
    assert limits.is_away


async def find_again(limits: RedisLimits, group: str, checks: list[Check]) -> None:
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.05)
            with suppress(LimitsAwayError):
                await limits.take(group, checks, "d", lease_seconds=0.01)
                return


async def test_a_redis_that_is_away_is_noticed_and_found_again(group: str) -> None:
    server = await asyncio.to_thread(SERVICES.own, "redis")
    limits = RedisLimits(f"redis://127.0.0.1:{server.port}", clock=SystemClock(), metrics=Metrics())
    await limits.start()
    checks = checks_of("rc", 0)
    await limits.take(group, checks, "a", lease_seconds=60)
    for how in (server.pause, server.kill):
        await asyncio.to_thread(how)
        await find_away(limits, group, checks)
        limits.settle(group, checks, "a", [0, 0])
        await asyncio.to_thread(server.resume if how == server.pause else server.start)
        await find_again(limits, group, checks)
        async with asyncio.timeout(5):
            while (await limits.used(group, checks))[1]:  # what ended meanwhile holds no place
                await asyncio.sleep(0.02)
    await limits.close()
    await asyncio.to_thread(server.kill)


async def waits_of(limits: RedisLimits, group: str, checks: list[Check], delays: list[float]) -> list[float]:
    """How long each of these calls waits for a Redis that does not answer."""

    async def wait(number: int, delay: float) -> float:
        await asyncio.sleep(delay)
        begin = time.monotonic()
        with pytest.raises(LimitsAwayError):
            if number % 2:
                await limits.look(group, checks)
            else:
                await limits.take(group, checks, f"w{number}", lease_seconds=60)
        return time.monotonic() - begin

    return list(await asyncio.gather(*(wait(*each) for each in enumerate(delays))))


async def test_nobody_waits_long_for_a_redis_that_hangs_and_nothing_stays_taken(group: str) -> None:
    server = await asyncio.to_thread(SERVICES.own, "redis")
    limits = RedisLimits(f"redis://127.0.0.1:{server.port}", clock=SystemClock(), metrics=Metrics())
    await limits.start()
    checks = checks_of("c", 0, {"c": 100})
    await limits.take(group, checks, "a", lease_seconds=0.01)
    await asyncio.to_thread(server.pause)
    waits = await waits_of(limits, group, checks, [n * 0.004 for n in range(30)])
    assert statistics.median(waits) < 0.09
    await find_away(limits, group, checks)
    await asyncio.to_thread(server.resume)
    await find_again(limits, group, checks)
    async with asyncio.timeout(5):
        while (await limits.used(group, checks))[0]:
            await asyncio.sleep(0.02)
    await limits.close()
    await asyncio.to_thread(server.kill)


async def test_what_redis_takes_for_a_call_that_has_gone_on_without_it_is_given_back(
    limits: RedisLimits, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = checks_of("rtc", 500)
    await limits.used(group, checks)
    run, begun = limits._script.run, asyncio.Event()

    async def run_slowly(commands: Sequence[Command]) -> list[Any]:
        begun.set()
        await asyncio.sleep(0.03)
        return await run(commands)

    with monkeypatch.context() as slow:
        slow.setattr(limits._script, "run", run_slowly)
        before = asyncio.create_task(limits.used(group, checks))
        await begun.wait()
        with pytest.raises(LimitsAwayError):  # its turn comes in time, its answer does not
            await limits.take(group, checks, "a", lease_seconds=60)
        assert await before == [0, 0, 0]
    async with asyncio.timeout(5):
        while await limits.used(group, checks) != [0, 0, 0]:
            await asyncio.sleep(0.02)
    assert not limits.is_away
