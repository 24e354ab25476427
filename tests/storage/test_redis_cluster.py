"""Nodes of a real Redis Cluster, whose redirections are not followed: limits are away, and say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from redis.exceptions import MovedError

from gateway_server.clock import SystemClock
from gateway_server.limits.checks import REQUESTS, Check, check_of
from gateway_server.limits.limiter import LimitsAwayError
from gateway_server.limits.redis_limits import RedisLimits
from gateway_server.metrics import Metrics
from gateway_server.redis_script import RedisScript
from tests.support.services import SERVICES, Service

#: Names of tenants whose keys are in the first half of the slots, and in the second.
FIRST, SECOND = "b", "a"


def new_node() -> tuple[Service, int]:
    node = SERVICES.own("redis")
    node.stop()
    bus_port = node.join_cluster()
    node.start()
    return node, bus_port


@pytest.fixture
async def node() -> AsyncIterator[Service]:
    made, _ = await asyncio.to_thread(new_node)
    yield made
    await asyncio.to_thread(made.kill)


def url_of(node: Service) -> str:
    return f"redis://127.0.0.1:{node.port}"


async def tell(node: Service, *command: str | int) -> object:
    script = RedisScript(url_of(node), "return 1", connect_seconds=1)
    [answer] = await script.exchange([command])
    await script.close()
    return answer


async def take(limits: RedisLimits, group: str) -> bool:
    """Whether the limit was counted in Redis."""
    check: Check = check_of(group, "", REQUESTS, 1_000, 1)
    with suppress(LimitsAwayError):
        return not (await limits.take(group, [check], "l", lease_seconds=1)).refusals
    return False


@pytest.fixture
async def limits(node: Service) -> AsyncIterator[RedisLimits]:
    made = RedisLimits(url_of(node), clock=SystemClock(), metrics=Metrics())
    await made.start()
    yield made
    await made.close()


async def test_a_node_that_has_all_slots_is_as_good_as_a_single_server(
    node: Service, limits: RedisLimits
) -> None:
    for _ in range(3):
        assert not await take(limits, FIRST)  # CLUSTERDOWN: nobody has the slot
    assert limits.is_away
    await tell(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    async with asyncio.timeout(10):
        while not await take(limits, FIRST):
            await asyncio.sleep(0.1)
    assert await take(limits, SECOND)
    assert not limits.is_away


async def test_a_node_that_redirects_is_away_for_all_tenants_and_the_log_says_why(
    node: Service, limits: RedisLimits, caplog: pytest.LogCaptureFixture
) -> None:
    other, bus_port = await asyncio.to_thread(new_node)
    await tell(node, "CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    await tell(other, "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    await tell(node, "CLUSTER", "MEET", "127.0.0.1", other.port, bus_port)
    async with asyncio.timeout(20):
        while not isinstance(await tell(node, "GET", f"{{{SECOND}}}"), MovedError):
            await asyncio.sleep(0.1)
    assert await take(limits, FIRST)
    assert not await take(limits, SECOND)
    assert limits.is_away
    for _ in range(3):
        assert not await take(limits, FIRST), "limits must not be shared for some tenants only"
    assert limits.is_away
    assert 50 < limits.probe_seconds <= 60
    assert caplog.text.count("redirections are not followed") == 1
    await asyncio.to_thread(other.kill)
