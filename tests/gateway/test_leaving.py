"""A caller that leaves, however it does: the provider's connection is closed at once, and what was used is
settled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from aigateway import AsyncClient
from aigateway.v1.usage_pb2 import UsageState
from aigateway.v1.usage_service_pb2 import UsageRecord
from tests.gateway.callers import CallUnderWay
from tests.support.gateway import (
    ADMIN_KEY,
    Gateway,
    Ledger,
    client_of,
    gateway_process,
    new_user,
    reading_ledger,
    running_gateway,
)
from tests.support.told import tell_seconds
from tests.support.upstream import (
    FIRST,
    MODEL,
    Exchange,
    Script,
    Upstream,
    silent,
    talking,
    text_chunk,
)

#: Most seconds from leaving until the provider sees its connection closed; on a busy machine.
AT_ONCE = 0.5
#: The same for a caller whose process is killed: the kernel of a busy machine takes its time to tell.
SOON = 3.0

PARTIAL = UsageState.USAGE_STATE_PARTIAL


async def silent_after_head(exchange: Exchange) -> None:
    await exchange.head_of()
    await silent(exchange)


async def silent_in_a_whole_answer(exchange: Exchange) -> None:
    await exchange.head_of(content_type="application/json", length=1000)
    await exchange.send(b'{"id": "chatcmpl-1", "choices": [')
    await silent(exchange)


async def silent_before_content(exchange: Exchange) -> None:
    await exchange.head_of()
    await exchange.events(FIRST)
    await silent(exchange)


async def talk_for_ever(exchange: Exchange) -> None:
    await exchange.head_of()
    await exchange.events(FIRST)
    while True:
        await exchange.events(text_chunk("word "))
        await asyncio.sleep(0.001)


#: Where in an answer the caller leaves: what the provider does until then, and what is read of a stream.
STAGES: dict[str, tuple[Script, str | None]] = {
    "whole, before the headers": (silent, None),
    "whole, after the headers": (silent_after_head, None),
    "whole, in the body": (silent_in_a_whole_answer, None),
    "stream, before the headers": (silent, ""),
    "stream, after the headers": (silent_after_head, ""),
    "stream, before the first content": (silent_before_content, ""),
    "stream, after content": (talking("Hello ", "there"), "Hello there"),
    "stream, while content comes": (talk_for_ever, "word word word"),
}


async def reach(stage: str, client: AsyncClient, upstream: Upstream) -> tuple[CallUnderWay, Exchange]:
    """A call at that stage, and the provider's side of it."""
    script, text = STAGES[stage]
    upstream.script = script
    call = CallUnderWay(client, streams=text is not None)
    exchange = await upstream.next()
    if text:
        await call.read_until(text)
    elif script is not talk_for_ever:
        await exchange.is_quiet.wait()
        for _ in range(10):  # until what was said is in the gateway, which runs on this loop
            await asyncio.sleep(0)
    return call, exchange


def assert_cancelled(row: UsageRecord) -> None:
    assert (row.status_code, row.error_reason) == (grpc.StatusCode.CANCELLED.value[0], "CANCELLED")
    [attempt] = row.attempts
    assert (attempt.status_code, attempt.error_reason) == (row.status_code, row.error_reason)
    assert row.usage.state == attempt.usage.state == PARTIAL
    assert row.usage.input_tokens == 20  # 80 characters at four a token


@pytest.mark.parametrize("way", ["cancel", "close of the channel"])
@pytest.mark.parametrize("stage", STAGES)
async def test_leaving_closes_the_providers_connection_at_once(
    gateway: Gateway, upstream: Upstream, stage: str, way: str
) -> None:
    async with client_of(gateway.address) as client:
        call, exchange = await reach(stage, client, upstream)
        left_at = time.monotonic()
        if way == "cancel":
            call.rpc.cancel()
        else:
            await client.close()
        async with asyncio.timeout(5):
            seconds = await exchange.gone() - left_at

    tell_seconds(f"from {way} to the close of the provider's connection", seconds)
    assert seconds < AT_ONCE
    row = await gateway.ledger.wait_one(call.end_user_id)
    assert_cancelled(row)
    match stage:
        case "stream, after content":
            assert row.usage.output_tokens == 3  # "Hello there"
        case "stream, while content comes":
            assert row.usage.output_tokens >= 4
        case _:
            assert row.usage.output_tokens == 0
    await upstream.settled()


CLIENT = f"""
import sys
from aigateway import Client

with Client(sys.argv[1], api_key="{ADMIN_KEY}") as client:
    for event in client.chat.stream("{MODEL}", "x" * 80, end_user_id=sys.argv[2]):
        print("read", flush=True)
"""


@asynccontextmanager
async def either_gateway(kind: str, state_dir: Path, **settings: Any) -> AsyncIterator[tuple[str, Ledger]]:
    """Address and ledger of a gateway in this process, on asyncio, or of a process, on uvloop."""
    async with AsyncExitStack() as stack:
        if kind == "process":
            process = await stack.enter_async_context(gateway_process(state_dir, **settings))
            assert await process.ready(), process.log
            address = process.address
        else:
            address = (await stack.enter_async_context(running_gateway(state_dir, **settings))).address
        yield address, await stack.enter_async_context(reading_ledger(state_dir))


@pytest.mark.parametrize("kind", ["process", "this process"])
async def test_a_killed_caller_is_noticed_at_once(upstream: Upstream, state_dir: Path, kind: str) -> None:
    upstream.script = talking("Hello ", "there")
    end_user_id = new_user()
    async with either_gateway(kind, state_dir, vllm_base_url=upstream.base_url) as (address, ledger):
        caller = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, address, end_user_id, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert caller.stdout is not None
            exchange = await upstream.next()
            await exchange.is_quiet.wait()
            assert await caller.stdout.readline() == b"read\n"
            killed_at = time.monotonic()
            caller.kill()
            async with asyncio.timeout(5):
                seconds = await exchange.gone() - killed_at
        finally:
            if caller.returncode is None:
                caller.kill()
            await caller.communicate()

        tell_seconds(f"from SIGKILL of the caller to that close, gateway in {kind}", seconds)
        assert seconds < SOON
        row = await ledger.wait_one(end_user_id)
        assert_cancelled(row)
        assert row.usage.output_tokens > 0


#: How gRPC names the two tasks of a call in a server.
_HANDLERS = ("rpc_task", "HandleExceptions")


async def test_a_second_cancel_while_settling_loses_nothing(upstream: Upstream, state_dir: Path) -> None:
    upstream.script = talking("Hello ", "there")
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url) as gateway:
        before = asyncio.all_tasks()
        calls = [CallUnderWay(gateway.client, streams=True) for _ in range(30)]
        for call in calls:
            await call.read_until("Hello there")
        handlers = [task for task in asyncio.all_tasks() - before if task.get_name().startswith(_HANDLERS)]
        assert len(handlers) == 2 * len(calls)
        for call in calls:
            call.rpc.cancel()
        # And again on each turn of the loop, whatever the handlers are at.
        for _ in range(50):
            for handler in handlers:
                handler.cancel()
            await asyncio.sleep(0)
        await upstream.settled()
        for call in calls:
            row = await gateway.ledger.wait_one(call.end_user_id)
            assert_cancelled(row)
            assert row.usage.output_tokens == 3


async def test_what_was_read_but_not_yet_passed_on_is_settled_too(
    upstream: Upstream, state_dir: Path
) -> None:
    upstream.script = talking("Hello ", "x" * 394, pause=0.05)
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url, stream_flush_ms=10_000) as gateway:
        call = CallUnderWay(gateway.client, streams=True)
        await call.read_until("Hello ")
        exchange = await upstream.next()
        await exchange.is_quiet.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        call.rpc.cancel()
        row = await gateway.ledger.wait_one(call.end_user_id)
    assert_cancelled(row)
    assert row.usage.output_tokens == 100
