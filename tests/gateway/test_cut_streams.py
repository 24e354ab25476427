"""A stream that breaks off anywhere: what had come is delivered, the failure is told, and nothing is lost."""

from __future__ import annotations

import json
from random import Random

import pytest

from aigateway.v1.usage_pb2 import UsageState
from tests.gateway.callers import Caller
from tests.support.gateway import Gateway
from tests.support.upstream import (
    FIRST,
    STOP,
    Exchange,
    Script,
    Upstream,
    completion,
    running_usage,
    send_stream,
    text_chunk,
    usage_chunk,
)
from tests.support.wire import to_sse

WORDS = ["One ", "two ", "three, ", "grüße ", "四"]
TEXT = "".join(WORDS)
STREAM = to_sse([FIRST, *map(text_chunk, WORDS), STOP, usage_chunk()])
#: Whoever has read this much has the whole answer; only its usage may be missing.
COMPLETE_FROM = STREAM.index(b'"finish_reason":"stop"')
WHOLE = json.dumps(completion(TEXT)).encode()

#: How a response can say how long it is, and what its connection does in the end.
FRAMINGS = ("chunked", "with a length", "until the connection closes", "until a reset")


def cut(at: int, framing: str) -> Script:
    """The good answer up to a byte, and then no more."""

    async def script(exchange: Exchange) -> None:
        data = STREAM if exchange.streams else WHOLE
        match framing:
            case "chunked":
                await exchange.head_of()
            case "with a length":
                await exchange.head_of(length=len(data))
            case "until the connection closes":
                await exchange.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            case _:
                await exchange.head_of()
        if at:
            await exchange.send(data[:at])
        if framing == "until a reset":
            exchange.reset()

    return script


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_stream_cut_at_any_byte_is_never_a_short_success(
    gateway: Gateway, upstream: Upstream, framing: str
) -> None:
    caller = Caller(gateway.client, streams=True)
    random = Random(framing)
    cuts = sorted({0, 1, *random.sample(range(COMPLETE_FROM), 20), COMPLETE_FROM})
    outcomes = []
    for at in cuts:
        upstream.script = cut(at, framing)
        outcome = await caller.call()
        outcomes.append(outcome)
        assert outcome.failure is not None, at
        assert outcome.failure.reason == "UPSTREAM_PROTOCOL_ERROR", at
        assert not outcome.has_end, at
        whole_events = [word for word in WORDS if STREAM.index(to_sse([text_chunk(word)], done=False)) < at]
        read = "".join(whole_events)
        if framing == "until a reset":  # which may overtake what was sent before it
            assert TEXT.startswith(outcome.text), at
        else:
            assert outcome.text in {read, read.removesuffix(whole_events[-1] if whole_events else "")}, at
    await upstream.settled()
    for outcome in outcomes:
        row = await gateway.ledger.wait_one(outcome.end_user_id)
        assert row.error_reason == "UPSTREAM_PROTOCOL_ERROR"
        assert row.usage.state == UsageState.USAGE_STATE_PARTIAL
        assert row.usage.output_tokens == -(-len(outcome.text) // 4)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_whole_answer_cut_at_any_byte_is_an_error(
    gateway: Gateway, upstream: Upstream, framing: str
) -> None:
    caller = Caller(gateway.client, streams=False)
    for at in sorted({0, 1, *Random(framing).sample(range(len(WHOLE)), 10), len(WHOLE) - 1}):
        upstream.script = cut(at, framing)
        outcome = await caller.call()
        assert outcome.failure is not None, at
        assert outcome.failure.reason == "UPSTREAM_PROTOCOL_ERROR", at
    await upstream.settled()


async def test_what_a_provider_reported_before_the_cut_is_what_is_settled(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        await exchange.events(FIRST, running_usage(40, 1, "One "), running_usage(40, 2, "two "))

    upstream.script = script
    outcome = await Caller(gateway.client, streams=True).call()
    assert outcome.failure is not None
    row = await gateway.ledger.wait_one(outcome.end_user_id)
    usage = row.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (40, 2, 42)
    assert usage.state == UsageState.USAGE_STATE_PARTIAL


async def test_a_stream_that_fails_before_its_first_content_sends_nothing(
    gateway: Gateway, upstream: Upstream
) -> None:
    """Until then another target could have taken over, so the caller must not have seen a start."""

    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        await exchange.events(FIRST)

    upstream.script = script
    outcome = await Caller(gateway.client, streams=True).call()
    assert outcome.failure is not None
    assert outcome.events == []


async def test_the_finish_of_a_stream_without_its_usage_is_an_answer_with_estimated_usage(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await send_stream(exchange, [FIRST, *map(text_chunk, WORDS), STOP])

    upstream.script = script
    outcome = await Caller(gateway.client, streams=True).call()
    assert outcome.answer is not None
    assert outcome.answer.usage.state == UsageState.USAGE_STATE_ESTIMATED
