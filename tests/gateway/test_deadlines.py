"""Deadlines and slow callers: what ends a call ends the provider's part, and the row says which it was."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from aigateway.v1.routing_pb2 import GatewayOptions
from aigateway.v1.usage_pb2 import UsageState
from aigateway.v1.usage_service_pb2 import UsageRecord
from tests.gateway.callers import Caller, Outcome
from tests.support.gateway import Gateway, chat_request, new_user, running_gateway
from tests.support.statuses import read_failure
from tests.support.told import tell_seconds
from tests.support.upstream import FIRST, Exchange, Upstream, talking, text_chunk

PARTIAL = UsageState.USAGE_STATE_PARTIAL
DEADLINE = (grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "DEADLINE_EXCEEDED")


@pytest.fixture(params=["unary", "stream"])
def caller(request: pytest.FixtureRequest, gateway: Gateway) -> Caller:
    return Caller(gateway.client, streams=request.param == "stream")


async def keep_alive(exchange: Exchange) -> None:
    """Never silent for as long as any idle limit, and never done."""
    await exchange.head_of()
    while True:
        await exchange.send(b": still here\n\n" if exchange.streams else b" ")
        await asyncio.sleep(0.02)


def options(seconds: float) -> GatewayOptions:
    wanted = GatewayOptions()
    wanted.timeout.FromNanoseconds(round(seconds * 1e9))
    return wanted


async def assert_ended_on_time(
    gateway: Gateway, outcome: Outcome, exchange: Exchange, due_at: float
) -> UsageRecord:
    """The provider's connection was closed at the deadline, and the row is settled."""
    async with asyncio.timeout(5):
        late = await exchange.gone() - due_at
    tell_seconds("from the deadline to the close of the provider's connection", late)
    assert -0.05 < late < 0.5
    row = await gateway.ledger.wait_one(outcome.end_user_id)
    assert (row.status_code, row.error_reason) == DEADLINE
    assert [(each.status_code, each.error_reason) for each in row.attempts] == [DEADLINE]
    assert row.usage.state == PARTIAL
    assert row.usage.input_tokens > 0
    return row


async def test_a_callers_deadline_reaches_the_provider(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    upstream.script = keep_alive
    due_at = time.monotonic() + 0.3
    outcome = await caller.call(timeout=0.3)
    assert outcome.failure is not None
    assert outcome.failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await assert_ended_on_time(gateway, outcome, await upstream.next(), due_at)


async def test_a_timeout_in_the_request_reaches_the_provider(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    upstream.script = keep_alive
    due_at = time.monotonic() + 0.3
    outcome = await caller.call(gateway_options=options(0.3))
    assert outcome.failure is not None
    assert outcome.failure.reason == "DEADLINE_EXCEEDED"
    assert outcome.failure.metadata["timeout_ms"] == "300"
    await assert_ended_on_time(gateway, outcome, await upstream.next(), due_at)


async def test_what_was_read_until_the_deadline_is_settled(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = talking(*["word "] * 8, then=keep_talking)
    due_at = time.monotonic() + 0.3
    outcome = await Caller(gateway.client, streams=True).call(gateway_options=options(0.3))
    assert outcome.failure is not None
    assert outcome.failure.reason == "DEADLINE_EXCEEDED"
    assert outcome.text.startswith("word " * 8)
    assert not outcome.has_end
    row = await assert_ended_on_time(gateway, outcome, await upstream.next(), due_at)
    assert row.usage.output_tokens >= len(outcome.text) // 4


async def keep_talking(exchange: Exchange) -> None:
    while True:
        await exchange.events(text_chunk("word "))
        await asyncio.sleep(0.02)


async def test_the_row_tells_a_deadline_from_a_cancel(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    """Caller and gateway measure the same deadline on clocks of their own; the caller's may strike first."""
    upstream.script = keep_alive
    # Above a second, gRPC's C core tells it rounded up to ten milliseconds, and cancels at its own.
    timeouts = [*(0.8 + n * 0.013 for n in range(12)), 1.001, 1.002]
    end_user_id = new_user()
    await asyncio.gather(*(caller.call(end_user_id=end_user_id, timeout=timeout) for timeout in timeouts))
    await upstream.settled()
    # A call may end before a busy machine takes it; whatever came to the provider has its row.
    served = len(upstream.exchanges)
    assert served > 0
    rows = await gateway.ledger.wait(end_user_id, served)
    assert len(rows) <= len(timeouts)
    assert {(row.status_code, row.error_reason) for row in rows} == {DEADLINE}


async def test_a_call_without_a_deadline_gets_the_default_and_none_more_than_the_maximum(
    upstream: Upstream, state_dir: Path
) -> None:
    upstream.script = keep_alive
    async with running_gateway(
        state_dir,
        vllm_base_url=upstream.base_url,
        default_timeout_seconds=0.6,
        max_timeout_seconds=1.2,
    ) as gateway:
        chat = gateway.client.stubs.chat
        for timeout, expected in ((None, "600"), (30, "1200")):
            begun_at = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await chat.CreateChatCompletion(chat_request(), metadata=gateway.metadata, timeout=timeout)
            failure = read_failure(caught.value)
            assert (failure.reason, failure.metadata["timeout_ms"]) == ("DEADLINE_EXCEEDED", expected)
            exchange = await upstream.next()
            assert await exchange.gone() - begun_at < int(expected) / 1000 + 5


async def pour(exchange: Exchange) -> None:
    """As much text as the gateway takes, far more than any buffer holds."""
    await exchange.head_of()
    await exchange.events(FIRST)
    for _ in range(4000):
        await exchange.events(text_chunk("x" * 100_000))


async def test_a_caller_that_stops_reading_is_ended_and_holds_no_memory(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.script = pour
    end_user_id = new_user()
    call = gateway.client.stubs.chat.StreamChatCompletion(
        chat_request(end_user_id=end_user_id), metadata=gateway.metadata, timeout=30
    )
    await call.read()
    exchange = await upstream.next()
    stopped_at = time.monotonic()

    async with asyncio.timeout(10):
        ended_at = await exchange.gone()

    # The fixture's gateway waits a second for a reader.
    assert 0.9 < ended_at - stopped_at < 2.5
    # What is in buffers of sockets and of HTTP/2 along the way, not what the provider had to say.
    assert exchange.sent_bytes < 24 * 2**20
    row = await gateway.ledger.wait_one(end_user_id)
    assert (row.status_code, row.error_reason) == (grpc.StatusCode.ABORTED.value[0], "SLOW_READER")
    assert row.usage.state == PARTIAL
    assert row.usage.output_tokens >= 25_000
    await upstream.settled()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    failure = read_failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "SLOW_READER")
    assert failure.metadata["timeout_ms"] == "1000"


async def test_a_caller_that_never_reads_again_does_not_hold_its_handler(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.script = pour
    before = set(asyncio.all_tasks())
    end_user_id = new_user()
    call = gateway.client.stubs.chat.StreamChatCompletion(
        chat_request(end_user_id=end_user_id), metadata=gateway.metadata, timeout=60
    )
    await call.read()
    row = await gateway.ledger.wait_one(end_user_id)
    assert row.error_reason == "SLOW_READER"

    # The status waits as long for its reader as the message before it did.
    async with asyncio.timeout(3):
        while any("HandleExceptions" in task.get_name() for task in set(asyncio.all_tasks()) - before):
            await asyncio.sleep(0.01)

    with pytest.raises(grpc.aio.AioRpcError) as caught:  # who comes back after all is told
        while await call.read() is not grpc.aio.EOF:
            pass
    assert read_failure(caught.value).reason == "SLOW_READER"
