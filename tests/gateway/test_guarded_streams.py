"""Streams under the default profile, with the models that ship: nothing leaks, and prose does not wait."""

# ruff: noqa: RUF001 - digits of other scripts are meant.

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aigateway.v1.chat_service_pb2 import ChatCompletion
from aigateway.v1.routing_pb2 import GuardrailResult
from gateway_server.guardrails.first_profiles import first_profiles
from gateway_server.providers.wire.sse import SseDecoder
from tests.gateway.callers import Caller
from tests.support.gateway import Gateway, chat_request, running_gateway
from tests.support.upstream import (
    FIRST,
    STOP,
    Exchange,
    Upstream,
    chunk,
    completion,
    send_json,
    text_chunk,
    usage_chunk,
)
from tests.support.wire import to_sse

#: Values written in characters of one to four bytes, beside prose of as many; what they become.
MASKED = {
    "grüße, 我的号码是 ２１９－１６－９９９４。": "grüße, 我的号码是 [SSN_REDACTED]。",
    "کارت ٤١١١ ١١١١ ١١١١ ١١١١ است": "کارت [CREDIT_CARD_REDACTED] است",
    "𝟐𝟏𝟗-𝟏𝟔-𝟗𝟗𝟗𝟒 😀 jo@acme.io—oui": "[SSN_REDACTED] 😀 [EMAIL_REDACTED]—oui",
    "Tél. ＋１\u200b 415 555 2671, “ja”": "Tél. [PHONE_REDACTED], “ja”",
}


@pytest.fixture(scope="module")
async def gateway(
    shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    state_dir = tmp_path_factory.mktemp("guarded") / "state"
    async with running_gateway(state_dir, vllm_base_url=shared_upstream.base_url) as gateway:
        default = first_profiles()["default"]
        default.name = "guardrailProfiles/default"
        await gateway.client.admin.guardrail_profiles.update(default)
        yield gateway


@pytest.mark.parametrize("escaped", [False, True], ids=["utf-8", "escaped"])
@pytest.mark.parametrize("written", MASKED)
async def test_single_bytes_from_the_provider_fold_into_the_masked_answer(
    gateway: Gateway, upstream: Upstream, written: str, escaped: bool
) -> None:
    arguments = json.dumps({"note": written, "grüße": "四"}, ensure_ascii=escaped)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "reasoning_content": written, "content": written, "tool_calls": [call]}
    whole = {**completion(), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    first_call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunks = [
        *(chunk({"reasoning_content": each}) for each in written),
        *(chunk({"content": each}) for each in written),
        chunk({"tool_calls": [first_call]}),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": each}}]}) for each in arguments),
    ]
    body = sse([FIRST, *chunks, STOP, usage_chunk()], escaped=escaped)

    async def script(exchange: Exchange) -> None:
        if not exchange.streams:
            await send_json(exchange, whole)
            return
        await exchange.head_of()
        await send_bytes(exchange, body)
        await exchange.finish()

    upstream.script = script
    unary = await Caller(gateway.client, streams=False).call()
    stream = await Caller(gateway.client, streams=True).call()
    assert unary.answer is not None
    assert stream.answer is not None
    reasoning, text, tool_call = unary.answer.choices[0].message.parts
    assert reasoning.reasoning.text == text.text.text == MASKED[written]
    assert json.loads(tool_call.tool_call.arguments) == {"note": MASKED[written], "grüße": "四"}
    assert list(stream.answer.choices) == list(unary.answer.choices)
    assert findings(stream.answer) == findings(unary.answer)
    for event in stream.events:
        assert not event.part_delta.text.strip().startswith(("2", "4", "𝟐", "٤", "２", "＋"))


async def test_the_gateway_does_read_single_bytes(
    gateway: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above rests on."""
    sizes: list[int] = []
    feed = SseDecoder.feed

    def watched(self: SseDecoder, data: bytes) -> Any:
        sizes.append(len(data))
        return feed(self, data)

    monkeypatch.setattr(SseDecoder, "feed", watched)
    body = sse([FIRST, text_chunk("四" * 200), STOP, usage_chunk()], escaped=False)

    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        await send_bytes(exchange, body)
        await exchange.finish()

    upstream.script = script
    assert (await Caller(gateway.client, streams=True).call()).text == "四" * 200
    assert sizes.count(1) > len(body) // 2


PROSE = "The gateway passes on what a model says, word for word: über Größe, 四 or 😀, and 3 of 12 things."


async def test_of_prose_at_most_one_token_waits(gateway: Gateway, upstream: Upstream) -> None:
    """A provider that goes on only once its caller has read all but the last word."""
    words = [f"{word} " for word in PROSE.split()]
    seen = asyncio.Event()
    shown = ""
    needed = 0

    async def script(exchange: Exchange) -> None:
        nonlocal needed
        await exchange.head_of()
        await exchange.events(FIRST)
        for count, word in enumerate(words):
            needed = len("".join(words[:count]).rstrip())
            seen.clear()
            await exchange.events(text_chunk(word))
            if len(shown) < needed:
                async with asyncio.timeout(10):
                    await seen.wait()
        await exchange.events(STOP, usage_chunk())
        await exchange.finish()

    upstream.script = script
    stream = gateway.client.stubs.chat.StreamChatCompletion(
        chat_request("hello"), metadata=gateway.client.metadata, timeout=30
    )
    async for part in stream:
        shown += "".join(event.part_delta.text for event in part.events)
        if len(shown) >= needed:
            seen.set()
    assert shown == "".join(words)


async def send_bytes(exchange: Exchange, body: bytes) -> None:
    """Each byte by itself, with time for the gateway, on the same event loop, to read it."""
    for byte in body:
        await exchange.send(bytes([byte]))
        for _ in range(4):
            await asyncio.sleep(0)


async def test_the_first_message_has_the_first_words(gateway: Gateway, upstream: Upstream) -> None:
    """None is sent, and no time passes until the next, for the beginning of a text that is still held."""

    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        await exchange.events(FIRST, text_chunk("One "))
        await asyncio.sleep(0.1)  # the gateway reads this by itself
        await exchange.events(text_chunk("two "))
        await exchange.gone()

    upstream.script = script
    stream = gateway.client.stubs.chat.StreamChatCompletion(
        chat_request("hello"), metadata=gateway.client.metadata, timeout=30
    )
    first = await anext(aiter(stream))
    stream.cancel()
    assert [event.WhichOneof("event") for event in first.events] == ["start", "part_start", "part_delta"]
    assert first.events[-1].part_delta.text == "One "


def sse(chunks: list[Any], *, escaped: bool) -> bytes:
    """A streamed body whose JSON has other than ASCII characters as they are, or escaped."""
    if escaped:
        return to_sse(chunks)
    lines = [json.dumps(each, ensure_ascii=False) for each in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def findings(answer: ChatCompletion) -> list[tuple[str, str, int, dict[str, int], float]]:
    def told_exactly(each: GuardrailResult) -> tuple[str, str, int, dict[str, int], float]:
        return each.guardrail_profile, each.rule, each.action, dict(each.findings), each.score

    return [told_exactly(each) for each in answer.guardrail_results]
