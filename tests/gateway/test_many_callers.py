"""Many callers at once, and most of them leave: nothing is left of them but one row each."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from urllib.request import urlopen

from tests.gateway.callers import CallUnderWay
from tests.support.gateway import free_port, running_gateway
from tests.support.upstream import FIRST, STOP, Exchange, Upstream, text_chunk, usage_chunk

CALLERS = 200


async def murmur(exchange: Exchange) -> None:
    """A stream of some thirty small pieces."""
    await exchange.head_of()
    await exchange.events(FIRST)
    for _ in range(30):
        await exchange.events(text_chunk("word "))
        await asyncio.sleep(0.005)
    await exchange.events(STOP, usage_chunk())
    await exchange.finish()


async def gauge(port: int, name: str) -> float:
    """A metric without labels, as Prometheus would read it."""

    def read() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text: bytes = response.read()
        return text.decode()

    lines = (await asyncio.to_thread(read)).splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


async def test_of_many_streams_and_random_cancels_nothing_is_left_but_rows(
    upstream: Upstream, state_dir: Path
) -> None:
    random = Random(7)
    upstream.script = murmur
    port = free_port()

    async with running_gateway(
        state_dir, vllm_base_url=upstream.base_url, metrics_listen=f"127.0.0.1:{port}"
    ) as gateway:
        connections = upstream.connections

        async def live(call: CallUnderWay) -> str:
            """Reads a call to its end, or leaves it: at once, or somewhere in the middle."""
            wish = random.choice(["stay", "leave early", "leave", "leave"])
            try:
                if wish != "stay":
                    if wish == "leave":
                        await call.read_until("word " * random.randint(1, 29))
                    await asyncio.sleep(random.uniform(0, 0.05))
                    call.rpc.cancel()
                await call.read_to_end()
            except asyncio.CancelledError:
                return "CANCELLED"
            return ""

        calls = [CallUnderWay(gateway.client, streams=True) for _ in range(CALLERS)]
        ends = await asyncio.gather(*(live(call) for call in calls))
        assert Counter(ends).keys() == {"", "CANCELLED"}
        await upstream.settled()
        async with asyncio.timeout(5):
            while await gauge(port, "aigateway_calls_in_flight"):
                await asyncio.sleep(0.01)

        asked = [each.json["user"] for each in upstream.exchanges]
        assert len(set(asked)) == len(asked) >= CALLERS / 2
        for call, end in zip(calls, ends, strict=True):
            if call.end_user_id in asked:
                [row] = await gateway.ledger.wait(call.end_user_id)
                # A stream that was complete when its caller left has served, whatever the caller saw.
                assert row.error_reason in {end, ""}
                assert row.usage.total_tokens > 0
            else:
                assert end == "CANCELLED"
        rows = await gateway.ledger.read()
        assert len({row.end_user_id for row in rows}) == len(rows) >= len(asked)
        assert upstream.connections - connections <= CALLERS

    async with asyncio.timeout(5):
        while upstream.open > 0:
            await asyncio.sleep(0.01)
