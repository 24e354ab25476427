"""What a left stream used is what its provider says, where that is waited for; else what was read of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aigateway.v1.usage_pb2 import UsageState
from tests.gateway.callers import CallUnderWay
from tests.support.gateway import running_gateway
from tests.support.upstream import STOP, Exchange, Upstream, talking, text_chunk, usage_chunk


async def finish_well(exchange: Exchange) -> None:
    """Writes on for a while, and then tells the usage."""
    for _ in range(5):
        await asyncio.sleep(0.02)
        await exchange.events(text_chunk("more "))
    await exchange.events(STOP, usage_chunk(50, 700))
    await exchange.send(b"data: [DONE]\n\n")
    await exchange.finish()


@pytest.mark.parametrize("seconds", [0, 5])
async def test_the_usage_of_a_left_stream(upstream: Upstream, state_dir: Path, seconds: float) -> None:
    settings = {"vllm_base_url": upstream.base_url, "cancel_drain_seconds": seconds}
    async with running_gateway(state_dir, **settings) as gateway:
        upstream.script = talking("Hello ", then=finish_well)
        call = CallUnderWay(gateway.client, streams=True)
        await call.read_until("Hello ")
        call.rpc.cancel()
        record = await gateway.ledger.wait_one(call.end_user_id)
    assert record.error_reason == "CANCELLED"
    if seconds:
        assert record.usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED
        assert (record.usage.input_tokens, record.usage.output_tokens) == (50, 700)
    else:
        assert record.usage.state == UsageState.USAGE_STATE_PARTIAL
        assert record.usage.output_tokens < 10


async def test_a_provider_that_never_ends_is_not_waited_for_longer(
    upstream: Upstream, state_dir: Path
) -> None:
    settings = {"vllm_base_url": upstream.base_url, "cancel_drain_seconds": 0.2}
    async with running_gateway(state_dir, **settings) as gateway:
        upstream.script = talking("Hello ")
        call = CallUnderWay(gateway.client, streams=True)
        await call.read_until("Hello ")
        call.rpc.cancel()
        record = await gateway.ledger.wait_one(call.end_user_id)
        await upstream.settled()
    assert record.error_reason == "CANCELLED"
    assert record.usage.state == UsageState.USAGE_STATE_PARTIAL


async def test_a_gateway_that_stops_does_not_wait_for_those_who_left(
    upstream: Upstream, state_dir: Path
) -> None:
    settings = {"vllm_base_url": upstream.base_url, "cancel_drain_seconds": 3600}
    async with running_gateway(state_dir, **settings) as gateway:
        upstream.script = talking("Hello ")
        call = CallUnderWay(gateway.client, streams=True)
        await call.read_until("Hello ")
        call.rpc.cancel()
        await asyncio.sleep(0.1)
        gateway.stop.set()
        await gateway.ended
        record = await gateway.ledger.wait_one(call.end_user_id)
    assert record.error_reason == "CANCELLED"


async def test_with_a_drain_streams_are_served_as_without(upstream: Upstream, state_dir: Path) -> None:
    settings = {"vllm_base_url": upstream.base_url, "cancel_drain_seconds": 5}
    async with running_gateway(state_dir, **settings) as gateway:
        async with gateway.client.chat.stream("test-model", "hello") as stream:
            text = "".join([piece async for piece in stream.text_stream])
        assert text == "Hello there"
        assert stream.completion.usage.total_tokens == 7
