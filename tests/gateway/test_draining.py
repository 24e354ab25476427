"""SIGTERM, as a supervisor sends it: calls under way end, newcomers are told, every row is in the file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aigateway.v1.usage_pb2 import UsageState
from tests.gateway.callers import Caller, CallUnderWay
from tests.support.gateway import (
    Gateway,
    client_of,
    empty_default_profile,
    gateway_process,
    reading_ledger,
    running_gateway,
)
from tests.support.upstream import STOP, Exchange, Upstream, talking, text_chunk, usage_chunk

CHAT = "aigateway.v1.ChatService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health_of(channel: grpc.aio.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


async def check(address: str, service: str = CHAT) -> int:
    """What a health check by a newcomer says."""
    async with grpc.aio.insecure_channel(address) as channel:
        response = await health_of(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(response.status)


async def until_not_serving(address: str) -> None:
    async with asyncio.timeout(5):
        while await check(address) != NOT_SERVING:
            await asyncio.sleep(0.01)


async def test_a_drain_lets_a_stream_finish_and_loses_no_row(upstream: Upstream, state_dir: Path) -> None:
    go_on = asyncio.Event()

    async def rest(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.events(text_chunk("there"), STOP, usage_chunk())
        await exchange.finish()

    async with (
        gateway_process(state_dir, vllm_base_url=upstream.base_url) as process,
        reading_ledger(state_dir) as ledger,
    ):
        assert await process.ready(), process.log
        async with client_of(process.address) as client, client_of(process.address) as newcomer:
            await empty_default_profile(client)
            done = [await Caller(client, streams=n % 2 == 0).call() for n in range(10)]
            upstream.script = talking("Hello ", then=rest)
            call = CallUnderWay(client, streams=True)
            await call.read_until("Hello ")
            watch = health_of(client.channel).Watch(health_pb2.HealthCheckRequest(service=CHAT))
            assert (await watch.read()).status == SERVING

            process.terminate()

            assert (await watch.read()).status == NOT_SERVING
            for service in (CHAT, "aigateway.v1.EmbeddingsService", ""):
                assert await check(process.address, service) == NOT_SERVING
            for each in (client, newcomer):
                refused = await Caller(each, streams=False).call()
                assert refused.failure is not None
                assert refused.failure.code == grpc.StatusCode.UNAVAILABLE
                assert refused.failure.reason == "SHUTTING_DOWN"
                assert refused.failure.retry_after is not None

            go_on.set()
            answer = await call.read_to_end()
            ended_at = time.monotonic()
        assert answer.choices[0].message.parts[0].text.text == "Hello there"
        # A watcher of its health does not keep a gateway alive.
        assert await process.exit_code() == 0
        assert time.monotonic() - ended_at < 5
        rows = {row.end_user_id: row for row in await ledger.read()}

    assert rows.keys() == {call.end_user_id, *(outcome.end_user_id for outcome in done)}
    assert {row.error_reason for row in rows.values()} == {""}
    row = rows[call.end_user_id]
    assert row.usage == answer.usage
    assert row.usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED
    assert "Traceback" not in process.log


async def test_calls_that_outlast_the_drain_are_cancelled_and_settled(
    upstream: Upstream, state_dir: Path
) -> None:
    upstream.script = talking("Hello ", "there")
    async with (
        gateway_process(state_dir, vllm_base_url=upstream.base_url, drain_seconds=0.2) as process,
        reading_ledger(state_dir) as ledger,
    ):
        assert await process.ready(), process.log
        async with client_of(process.address) as client:
            await empty_default_profile(client)
            calls = [CallUnderWay(client, streams=True) for _ in range(50)]
            for call in calls:
                await call.read_until("Hello there")
            process.terminate()
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read_to_end()
                assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert await process.exit_code() == 0
        await upstream.settled()
        rows = {row.end_user_id: row for row in await ledger.read()}

    assert rows.keys() == {call.end_user_id for call in calls}
    for row in rows.values():
        assert row.error_reason == "CANCELLED"
        assert row.usage.state == UsageState.USAGE_STATE_PARTIAL
        assert row.usage.output_tokens == 3
    assert "Traceback" not in process.log


async def test_a_stop_in_the_same_moment_as_many_ends_loses_no_row(
    upstream: Upstream, state_dir: Path
) -> None:
    """Calls that answer while the listener goes down are settled too."""
    go_on = asyncio.Event()

    async def together(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.events(text_chunk("Hello"), STOP, usage_chunk())
        await exchange.finish()

    upstream.script = talking("", then=together)
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url, drain_seconds=5) as gateway:
        calls = [asyncio.ensure_future(Caller(gateway.client, streams=True).call()) for _ in range(40)]
        for _ in calls:
            await upstream.next()
        gateway.stop.set()
        await until_not_serving(gateway.address)
        go_on.set()
        outcomes = await asyncio.gather(*calls)
        await gateway.ended
        rows = await gateway.ledger.read()
    assert [outcome.failure for outcome in outcomes] == [None] * len(calls)
    assert {row.end_user_id for row in rows} == {outcome.end_user_id for outcome in outcomes}


async def test_a_second_server_on_the_port_fails_loudly(gateway: Gateway, state_dir: Path) -> None:
    async with gateway_process(state_dir, listen=gateway.address) as second:
        assert not await second.ready()
        assert await second.exit_code() != 0
        assert f"cannot listen on {gateway.address}" in second.log
        assert "Traceback" not in second.log
    assert await check(gateway.address) == SERVING
