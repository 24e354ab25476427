"""Reports about usage take turns: few at once, fewer of one tenant, each tenant in its line."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from gateway_server.errors import GatewayError
from gateway_server.limits.report_turns import ReportTurns


class Readers:
    """Reports that end when they are told to."""

    def __init__(self, turns: ReportTurns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self.running: Counter[str] = Counter()
        self.ends: dict[str, list[asyncio.Event]] = {}

    async def read(self, tenant_id: str) -> None:
        async with self.turns.turn(tenant_id):
            self.began.append(tenant_id)
            self.running[tenant_id] += 1
            end = asyncio.Event()
            self.ends.setdefault(tenant_id, []).append(end)
            await end.wait()
            self.running[tenant_id] -= 1

    async def end(self, tenant_id: str) -> None:
        self.ends[tenant_id].pop(0).set()
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_tenant_leaves_room_and_others_get_their_turn_first() -> None:
    readers = Readers(ReportTurns(at_once=3, per_tenant=2, patience=60))
    async with asyncio.TaskGroup() as tasks:
        for tenant_id in "aaaaabbc":
            tasks.create_task(readers.read(tenant_id))
        await settled()
        assert readers.running == {"a": 2, "b": 1}
        await readers.end("a")
        assert readers.began[3:] == ["c"]
        await readers.end("c")
        await readers.end("b")
        assert +readers.running == {"a": 2, "b": 1}
        assert readers.began[4:] == ["a", "b"]
        for tenant_id in "aaaab":
            await readers.end(tenant_id)
    assert +readers.running == {}
    assert Counter(readers.began) == {"a": 5, "b": 2, "c": 1}


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    turns = ReportTurns(at_once=1, patience=0.01)
    async with turns.turn("a"):
        with pytest.raises(GatewayError) as caught:
            async with turns.turn("b"):
                pass
    assert (caught.value.reason_name, caught.value.retry_after) == ("OVERLOADED", 1.0)
    async with turns.turn("b"):
        pass


async def test_a_line_has_an_end() -> None:
    readers = Readers(ReportTurns(at_once=1, max_waiting=2, patience=60))
    waiting = [asyncio.create_task(readers.read("a")) for _ in range(3)]
    await settled()
    with pytest.raises(GatewayError, match="too many wait"):
        await readers.read("a")
    for _ in waiting:
        await readers.end("a")
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("as_its_turn_comes", [False, True])
async def test_who_leaves_the_line_takes_no_turn_along(as_its_turn_comes: bool) -> None:
    turns = ReportTurns(at_once=1, patience=60)
    async with AsyncExitStack() as first:
        await first.enter_async_context(turns.turn("a"))
        leaving = asyncio.create_task(Readers(turns).read("b"))
        await settled()
        if as_its_turn_comes:
            await first.aclose()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    assert leaving.cancelled()
    async with asyncio.timeout(5), turns.turn("c"):
        pass


async def test_whoever_goes_while_a_turn_gets_free_takes_none_along() -> None:
    readers = Readers(ReportTurns(at_once=1, per_tenant=1, patience=60))
    first, second = (asyncio.create_task(readers.read("a")) for _ in range(2))
    await settled()
    readers.ends["a"].pop().set()
    second.cancel()  # and has not heard of it when the first leaves
    await asyncio.gather(first, second, return_exceptions=True)
    assert first.exception() is None
    third = asyncio.create_task(readers.read("a"))
    await settled()
    assert +readers.running == {"a": 1}
    await readers.end("a")
    await third
