"""The law of streams, end to end: folded, a stream is the answer that the unary call returns."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigateway.v1.chat_service_pb2 import ChatCompletion
from tests.gateway.callers import Caller
from tests.support.gateway import Gateway
from tests.support.upstream import MODEL, Exchange, Script, Upstream, send_json
from tests.support.wire import to_sse

HEAD = {"id": "chatcmpl-1", "created": 1, "model": MODEL}
FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter", "something_new")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    """The text in pieces, none of them empty."""
    places = st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=6).map(sorted)
    return places.map(
        lambda cuts: [
            piece for start, end in zip([0, *cuts], [*cuts, None], strict=True) if (piece := text[start:end])
        ]
    )


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes, list[int]]:
    """An answer, the same as a stream, and where the stream's bytes are cut."""
    choices = []
    queues: list[list[dict[str, Any]]] = []
    for index in range(draw(st.integers(1, 3))):
        message: dict[str, Any] = {"role": "assistant", "content": None}
        deltas: list[dict[str, Any]] = [{"role": "assistant"}]
        for key in ("reasoning_content", "content", "refusal"):
            if draw(st.booleans()):
                message[key] = draw(texts)
                deltas += [{key: piece} for piece in draw(pieces(message[key]))]
        calls = []
        for number in range(draw(st.integers(0, 2))):
            call_id, arguments = f"call_{index}_{number}", draw(texts)
            calls.append(
                {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
            )
            first = {"index": number, "id": call_id, "type": "function", "function": {"name": "f"}}
            deltas.append({"tool_calls": [first]})
            deltas += [
                {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}
                for piece in draw(pieces(arguments))
            ]
        if calls:
            message["tool_calls"] = calls
        reason = draw(st.sampled_from(FINISH_REASONS))
        choices.append({"index": index, "message": message, "finish_reason": reason})
        queue = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        queues.append([*queue, {"index": index, "delta": {}, "finish_reason": reason}])
    usage = draw(usages)
    chunks = [{**HEAD, "choices": [choice]} for choice in interleave(draw, queues)]
    if usage is not None:
        chunks.append({**HEAD, "choices": [], "usage": usage})
    stream = to_sse(chunks)
    cuts = sorted(draw(st.sets(st.integers(1, len(stream) - 1), max_size=20)))
    return {**HEAD, "choices": choices, "usage": usage}, stream, cuts


usages = st.none() | st.builds(
    lambda prompt, output, cached: {
        "prompt_tokens": prompt + cached,
        "completion_tokens": output,
        "total_tokens": prompt + cached + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    },
    *[st.integers(0, 10_000)] * 3,
)


def interleave(draw: st.DrawFn, queues: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All choices' chunks, each choice's in order."""
    order = draw(st.permutations([index for index, queue in enumerate(queues) for _ in queue]))
    return [queues[index].pop(0) for index in order]


def say(whole: dict[str, Any], stream: bytes, cuts: list[int]) -> Script:
    async def script(exchange: Exchange) -> None:
        if not exchange.streams:
            await send_json(exchange, whole)
            return
        await exchange.head_of()
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            await exchange.send(stream[start:end])
            await asyncio.sleep(0)
        await exchange.finish()

    return script


def comparable(answer: ChatCompletion) -> ChatCompletion:
    """The answer without what two calls never share: id and times."""
    copy = ChatCompletion()
    copy.CopyFrom(answer)
    copy.ClearField("id")
    copy.ClearField("create_time")
    for attempt in copy.attempts:
        attempt.ClearField("latency")
        attempt.ClearField("time_to_first_token")
    for result in copy.guardrail_results:
        result.ClearField("latency")
    return copy


@given(case=answers())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
async def test_a_folded_stream_is_the_unary_answer(
    gateway: Gateway, upstream: Upstream, case: tuple[dict[str, Any], bytes, list[int]]
) -> None:
    upstream.script = say(*case)

    whole = await Caller(gateway.client, streams=False).call()
    stream = await Caller(gateway.client, streams=True).call()

    assert whole.failure is None
    assert stream.failure is None
    assert whole.answer is not None
    assert stream.answer is not None
    assert comparable(stream.answer) == comparable(whole.answer)
