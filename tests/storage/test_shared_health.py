"""What processes tell each other of targets in Redis: what arrives, what does not, how long it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import RoutingStrategy
from bench.routing import router_of
from gateway_server.clock import SystemClock
from gateway_server.errors import GatewayError
from gateway_server.metrics import Metrics
from gateway_server.redis_script import RedisScript
from gateway_server.router.breaker import BreakerState, Cooldown
from gateway_server.router.router import Router
from gateway_server.router.shared_health import SharedHealth
from tests.support.services import SERVICES, Service

UNAVAILABLE = GatewayError(ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE, "", retryable=True)
KEY = "aigw:{targets}:health"


class Process:
    """One of several that share what they know: a router over p/m0, p/m1 and p/m2."""

    def __init__(self, port: int) -> None:
        self.router: Router = router_of(3, RoutingStrategy.ROUTING_STRATEGY_PRIORITY)
        self.metrics = Metrics()
        self.shared = SharedHealth(
            f"redis://127.0.0.1:{port}", self.router, clock=SystemClock(), metrics=self.metrics
        )

    def attempt(self, target: str, error: GatewayError | None = None) -> bool:
        """Makes an attempt, if it may; whether it was made."""
        book = self.router.health
        passage = book.begin(book.of(target))
        if passage is not None:
            book.end(book.of(target), passage, error)
        return passage is not None

    def fail(self, target: str) -> None:
        for _ in range(5):
            self.attempt(target, UNAVAILABLE)
        assert self.state(target) is BreakerState.OPEN

    def limit(self, target: str, seconds: float) -> None:
        reason = ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED
        assert self.attempt(target, GatewayError(reason, "", retryable=True, retry_after=seconds))

    def state(self, target: str) -> BreakerState:
        book = self.router.health
        return book.of(target).breaker.state(book.now())

    def cooldown(self, target: str) -> Cooldown | None:
        book = self.router.health
        return book.of(target).breaker.cooldown(book.now())

    def left(self, target: str) -> float:
        """For how many seconds it is left alone yet."""
        cooldown = self.cooldown(target)
        return 0.0 if cooldown is None else cooldown.until - self.router.health.now()

    @property
    def shares(self) -> bool:
        return self.metrics.registry.get_sample_value("aigateway_target_health_shared") == 1


@asynccontextmanager
async def processes(server: Service, count: int) -> AsyncIterator[list[Process]]:
    started = [Process(server.port) for _ in range(count)]
    for process in started:
        await process.shared.start()
    try:
        yield started
    finally:
        for process in started:
            await process.shared.close()


@pytest.fixture
async def server() -> AsyncIterator[Service]:
    service = await asyncio.to_thread(SERVICES.own, "redis")
    yield service
    await asyncio.to_thread(service.kill)


async def redis_command(server: Service, *command: Any) -> Any:
    script = RedisScript(f"redis://127.0.0.1:{server.port}", "", connect_seconds=1)
    try:
        return (await script.exchange([command]))[0]
    finally:
        await script.close()


async def within(seconds: float, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


async def test_an_open_breaker_and_a_told_wait_reach_the_others_within_a_second(server: Service) -> None:
    async with processes(server, 3) as (one, two, three):
        one.fail("p/m0")
        one.limit("p/m1", 30.0)
        for other in (two, three):
            await within(1, lambda other=other: not other.attempt("p/m0"))  # type: ignore[misc]
            await within(1, lambda other=other: not other.attempt("p/m1"))  # type: ignore[misc]
            assert 28 < other.left("p/m1") <= 30
            assert other.attempt("p/m2")
    async with processes(server, 1) as [newcomer]:
        await within(1, lambda: 25 < newcomer.left("p/m1") <= 30)


async def test_a_probe_that_serves_lets_the_others_probe_at_once(server: Service) -> None:
    async with processes(server, 2) as (one, two):
        two.fail("p/m0")
        await asyncio.sleep(2.0)
        two.attempt("p/m0", UNAVAILABLE)
        assert two.left("p/m0") > 3.9
        await within(3, lambda: one.state("p/m0") is BreakerState.HALF_OPEN)
        assert one.attempt("p/m0")
        assert one.state("p/m0") is BreakerState.CLOSED
        await within(1, lambda: two.state("p/m0") is BreakerState.HALF_OPEN)
        two.attempt("p/m0", UNAVAILABLE)  # what one can do, the other cannot
        assert two.left("p/m0") > 7.9
        await asyncio.sleep(1)
        assert two.left("p/m0") > 6.5, "the same news do not count twice"
        assert one.state("p/m0") is BreakerState.CLOSED, "it has seen for itself that the target is well"


async def test_without_redis_each_goes_on_alone_and_what_holds_is_told_again(server: Service) -> None:
    async with processes(server, 2) as (one, two):
        one.limit("p/m0", 60.0)
        await within(1, lambda: two.left("p/m0") > 50)
        assert one.shares

        await asyncio.to_thread(server.kill)
        await within(3, lambda: not one.shares and not two.shares)
        assert two.left("p/m0") > 40, "what was heard holds"
        one.limit("p/m1", 60.0)
        one.fail("p/m2")
        await asyncio.sleep(1.2)
        assert two.attempt("p/m1")
        assert two.attempt("p/m2")

        await asyncio.to_thread(server.start)
        await within(3, lambda: one.shares and two.shares)
        await within(1, lambda: two.left("p/m1") > 50)
        await within(3, lambda: two.attempt("p/m2"))
    async with processes(server, 1) as [newcomer]:  # the Redis that came back knew nothing
        await within(1, lambda: newcomer.left("p/m0") > 40)


async def test_a_redis_that_does_not_answer_is_as_good_as_none(server: Service) -> None:
    async with processes(server, 2) as (one, two):
        await within(1, lambda: one.shares)
        await asyncio.to_thread(server.pause)
        await within(3, lambda: not one.shares and not two.shares)
        one.limit("p/m0", 60.0)
        await asyncio.to_thread(server.resume)
        await within(3, lambda: one.shares and two.shares)
        await within(1, lambda: two.left("p/m0") > 50)
        await asyncio.to_thread(server.pause)
    await asyncio.to_thread(server.resume)


async def test_what_is_written_wrongly_or_by_others_is_passed_over(server: Service) -> None:
    now = int((await redis_command(server, "TIME"))[0]) * 1000
    hour = now + 3_600_000
    words = {
        "limited p/m0 ": hour,  # of a clock that was put back, or a lie
        "limited p/m1 another-state-of-p": now + 60_000,
        "limited p/nobody ": now + 60_000,
        "limited q/m1 ": now + 60_000,
        "limited p/m1": now + 60_000,
        "burnt p/m1 ": now + 60_000,
        "opened p/m2 ": "nan",
        "opened p/m1 ": "soon",
        "limited p/m2 ": "inf",
        b"\xff\xfe p/m1 ": now + 60_000,
    }
    await redis_command(server, "HSET", KEY, *(each for word in words.items() for each in word))
    async with processes(server, 1) as [process]:
        process.limit("p/m0", 1.0)
        await asyncio.sleep(0.8)
        assert process.shares
        assert process.left("p/m0") < 1
        assert process.attempt("p/m1")
        assert process.attempt("p/m2")
        assert {health.name for health in process.router.health} == {"p/m0", "p/m1", "p/m2"}
        assert await redis_command(server, "HEXISTS", KEY, "opened p/m2 ") == 0
        assert 0 < await redis_command(server, "PTTL", KEY) <= 600_000

        await redis_command(server, "HSET", KEY, *(each for n in range(20_000) for each in (f"x{n}", hour)))
        await asyncio.sleep(0.6)
        assert await redis_command(server, "HLEN", KEY) <= 1
        await redis_command(server, "DEL", KEY)
        await redis_command(server, "SET", KEY, "something else")
        await within(2, lambda: not process.shares)
        await redis_command(server, "DEL", KEY)
        await within(3, lambda: process.shares)


async def test_a_storm_of_failures_costs_a_few_round_trips(server: Service) -> None:
    async with processes(server, 1) as [process]:
        await asyncio.sleep(0.3)
        before = await redis_command(server, "INFO", "commandstats")
        for _ in range(1000):
            passage = process.router.health.begin(process.router.health.of("p/m0"))
            reason = ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED
            error = GatewayError(reason, "", retryable=True, retry_after=5.0)
            if passage is not None:
                process.router.health.end(process.router.health.of("p/m0"), passage, error)
            await asyncio.sleep(0.001)
        after = await redis_command(server, "INFO", "commandstats")
        assert calls_of(after) - calls_of(before) < 20


def calls_of(stats: bytes) -> int:
    [line] = [line for line in stats.decode().splitlines() if line.startswith("cmdstat_evalsha:")]
    return int(line.partition("calls=")[2].partition(",")[0])
