"""aimock, a mock provider nobody here wrote, behind a whole gateway."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import pytest

from aigateway import (
    UpstreamError,
    completion_text,
    completion_tool_calls,
    function_tool,
    image_url,
    tool_result,
    user,
)
from aigateway.v1.chat_service_pb2 import FinishReason
from tests.gateway.callers import Caller
from tests.judges.processes import AIMOCK_KEY, Aimock
from tests.judges.verdicts import (
    CREDENTIAL,
    LIMITED,
    PARTIAL,
    PROTOCOL,
    REJECTED,
    REPORTED,
    TIMEOUT,
    UNAVAILABLE,
    Failing,
    check_failure,
    check_next_call,
    check_served,
    record_of,
)
from tests.support.gateway import Gateway, new_user

CHAT = "aimock-vllm/chat"
TEXT = "Grüße \U0001f600: light of short waves is scattered more than light of long ones."
USAGE = {"prompt_tokens": 21, "completion_tokens": 13, "total_tokens": 34}
WEATHER = function_tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.mark.parametrize("model", ["aimock-openai/chat", "aimock-vllm/chat"])
async def test_an_answer_is_what_the_judge_was_told_to_say(
    gateway: Gateway, aimock: Aimock, caller: Caller, model: str
) -> None:
    response = {"content": TEXT, "usage": USAGE, "id": "chatcmpl-judge", "systemFingerprint": "fp_judge"}
    await aimock.answer(response, match={"userMessage": "Why is the sky blue?"})

    answer = await check_served(gateway, await caller.call("Why is the sky blue?", model=model))

    assert completion_text(answer) == TEXT
    assert answer.choices[0].finish.reason == FinishReason.FINISH_REASON_STOP
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (21, 13)
    assert answer.served_by.provider_response_id == "chatcmpl-judge"
    assert answer.provider_metadata["system_fingerprint"] == "fp_judge"


async def test_reasoning_comes_before_the_text(gateway: Gateway, aimock: Aimock, caller: Caller) -> None:
    await aimock.answer({"content": "42", "reasoning": "Let me think about it.", "finishReason": "length"})

    answer = await check_served(gateway, await caller.call(model=CHAT))

    kinds = [part.WhichOneof("kind") for part in answer.choices[0].message.parts]
    assert kinds == ["reasoning", "text"]
    assert answer.choices[0].message.parts[0].reasoning.text == "Let me think about it."
    assert answer.choices[0].finish.reason == FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS


async def test_a_tool_is_called_and_its_result_brought_back(
    gateway: Gateway, aimock: Aimock, caller: Caller
) -> None:
    await aimock.answer({"content": "It is sunny."}, match={"toolCallId": "call_judge"})
    arguments = {"city": 'São "Paulo"', "note": "a\nb\\c", "deep": {"list": [1, 2.5, None, True]}}
    calls = [
        {"id": "call_judge", "name": "get_weather", "arguments": arguments},
        {"id": "call_other", "name": "get_weather", "arguments": {}},
    ]
    await aimock.answer({"toolCalls": calls}, match={"toolName": "get_weather"})
    question = user("What is the weather?", image_url("https://example.com/a.png"))

    asked = await check_served(gateway, await caller.call(model=CHAT, messages=[question], tools=[WEATHER]))
    # aimock looks at the last result.
    call, other = completion_tool_calls(asked)
    turns = [question, asked.choices[0].message, tool_result(other, "?"), tool_result(call, "sunny")]
    answered = await check_served(gateway, await caller.call(model=CHAT, messages=turns, tools=[WEATHER]))

    assert asked.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    assert (call.tool_call_id, call.tool_name) == ("call_judge", "get_weather")
    assert json.loads(call.arguments) == arguments
    assert completion_text(answered) == "It is sunny."


async def test_a_call_before_the_text(gateway: Gateway, aimock: Aimock, caller: Caller) -> None:
    blocks = [
        {"type": "toolCall", "name": "get_weather", "arguments": {"city": "Rome"}},
        {"type": "text", "text": "I am looking it up."},
    ]
    await aimock.answer({"blocks": blocks})

    answer = await check_served(gateway, await caller.call(model=CHAT, tools=[WEATHER]))

    # Only a stream tells the order: a whole message has one text and then its calls.
    kinds = [part.WhichOneof("kind") for part in answer.choices[0].message.parts]
    assert kinds == (["tool_call", "text"] if caller.streams else ["text", "tool_call"])
    assert completion_text(answer) == "I am looking it up."
    assert json.loads(completion_tool_calls(answer)[0].arguments) == {"city": "Rome"}


async def test_a_slow_stream_is_read_to_its_end(gateway: Gateway, aimock: Aimock, streaming: Caller) -> None:
    # Longer as a whole than any pause that is allowed within it.
    await aimock.answer({"content": "x" * 80}, latency=100)

    answer = await check_served(gateway, await streaming.call(model=CHAT))

    assert completion_text(answer) == "x" * 80


async def test_a_key_that_the_judge_does_not_take(gateway: Gateway, aimock: Aimock, caller: Caller) -> None:
    await aimock.answer({"content": TEXT})
    admin = gateway.client.admin
    provider = await admin.providers.get("providers/aimock-openai")
    provider.credential = "sk-wrong"
    await admin.providers.update(provider, update_mask=["credential"])
    try:
        outcome = await caller.call(model="aimock-openai/chat")
    finally:
        provider.credential, provider.etag = AIMOCK_KEY, ""
        await admin.providers.update(provider, update_mask=["credential"])

    await check_failure(gateway, outcome, Failing(CREDENTIAL, {"http_status": "401"}, http_status=401))
    await check_next_call(gateway, caller, "aimock-openai/chat", TEXT)


async def test_embeddings(gateway: Gateway, aimock: Aimock) -> None:
    vector = [0.1, -0.25, 1e-9, 3.0]
    await aimock.answer({"embedding": vector}, match={"inputText": "a cat"})
    end_user = new_user()

    told = await gateway.client.embeddings.create(
        "aimock-vllm/embeddings", ["a cat", "a dog"], end_user_id=end_user
    )
    made_up = await gateway.client.embeddings.create("aimock-vllm/embeddings", "a fish", dimensions=64)

    expected = list(struct.unpack("4f", struct.pack("4f", *vector)))
    assert [list(each.float_vector.values) for each in told.embeddings] == [expected, expected]
    assert [each.index for each in told.embeddings] == [0, 1]
    assert len(made_up.embeddings[0].float_vector.values) == 64
    row = await record_of(gateway, end_user)
    assert (row.status_code, row.usage.state) == (0, REPORTED)


@dataclass(frozen=True)
class Fault:
    """What aimock answers, or does instead, and how a call fails by it."""

    expected: Failing
    response: dict[str, Any] = field(default_factory=lambda: {"content": TEXT})
    chaos: dict[str, float] = field(default_factory=dict)


def fail(status: int, expected: tuple[str, str], *, told: float | None = None, **response: Any) -> Fault:
    """An error in place of an answer."""
    metadata = {"provider": "providers/aimock-vllm"}
    if expected is not LIMITED:
        metadata["http_status"] = str(status)
    error = {"message": "prv8secret", "type": "judge_error", **response.pop("error", {})}
    return Fault(
        Failing(expected, metadata, told, http_status=status),
        {"error": error, "status": status, **response},
    )


FAULTS = {
    "400": fail(400, REJECTED),
    "401": fail(401, CREDENTIAL),
    "404": fail(404, REJECTED),
    "429": fail(429, LIMITED, told=1.0),
    "429 with Retry-After": fail(429, LIMITED, retryAfter=42, told=42.0),
    "429 for want of quota": fail(429, LIMITED, retryAfter=42, error={"code": "insufficient_quota"}),
    "500": fail(500, UNAVAILABLE),
    "503": fail(503, UNAVAILABLE),
    "too many tokens": fail(400, REJECTED, error={"code": "context_length_exceeded"}),
    "a dropped request": Fault(
        Failing(UNAVAILABLE, {"cause": "chaos_drop"}, http_status=500), chaos={"dropRate": 1}
    ),
    "a rate limit by chance": Fault(
        Failing(LIMITED, {"provider_code": "chaos_ratelimit"}, 1.0, http_status=429),
        chaos={"rateLimitRate": 1},
    ),
    "a malformed answer": Fault(
        Failing(PROTOCOL, usage=PARTIAL, http_status=200), chaos={"malformedRate": 1}
    ),
    "a disconnect": Fault(Failing(UNAVAILABLE, {"cause": "reset"}), chaos={"disconnectRate": 1}),
    "silence": Fault(Failing(TIMEOUT, {"phase": "first_byte"}, usage=PARTIAL), chaos={"latencyMs": 4000}),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_told_and_the_next_call_served(
    gateway: Gateway, aimock: Aimock, caller: Caller, name: str
) -> None:
    fault = FAULTS[name]
    await aimock.answer(fault.response)
    await aimock.misbehave(**fault.chaos)

    outcome = await caller.call(model=CHAT)

    await check_failure(gateway, outcome, fault.expected)
    assert outcome.events == []
    assert outcome.failure is not None
    assert b"prv8secret" not in outcome.failure.raw
    await aimock.reset()
    await aimock.answer({"content": TEXT})
    await check_next_call(gateway, caller, CHAT, TEXT)


@dataclass(frozen=True)
class Broken:
    """Timing or end of a stream, how a call fails by it, and the text read until then."""

    fixture: dict[str, Any]
    expected: Failing
    text: str


def timed(*delays_ms: int) -> dict[str, Any]:
    """A stream whose chunks come after these pauses."""
    first, *rest = delays_ms
    return {
        "recordedTimings": {"ttftMs": first, "interChunkDelaysMs": rest, "totalDurationMs": sum(delays_ms)}
    }


CUT = Failing(PROTOCOL, {"cause": "cut"}, usage=PARTIAL, http_status=200)
STALLED = Failing(TIMEOUT, {"phase": "idle"}, usage=PARTIAL, http_status=200)
#: aimock cuts the text into chunks of eight UTF-16 units; the chunk before them holds none. What it writes
#: last before it cuts is never sent.
BROKEN = {
    "cut at once": Broken({"truncateAfterChunks": 1}, Failing(UNAVAILABLE, {"cause": "reset"}), ""),
    "cut after one chunk": Broken({"truncateAfterChunks": 2, "latency": 20}, CUT, ""),
    "cut after three chunks": Broken({"truncateAfterChunks": 4, "latency": 20}, CUT, TEXT[:15]),
    "disconnected in time": Broken({"disconnectAfterMs": 250, "latency": 100}, CUT, TEXT[:7]),
    "stalled at the first chunk": Broken(
        timed(4000, 0), Failing(TIMEOUT, {"phase": "first_byte"}, usage=PARTIAL), ""
    ),
    "stalled before any text": Broken(timed(0, 4000), STALLED, ""),
    "stalled in the middle": Broken(timed(0, 0, 0, 4000), STALLED, TEXT[:15]),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_stream_is_told_after_what_came_and_the_next_call_served(
    gateway: Gateway, aimock: Aimock, streaming: Caller, name: str
) -> None:
    broken = BROKEN[name]
    await aimock.answer({"content": TEXT}, **broken.fixture)

    outcome = await streaming.call(model=CHAT)

    row = await check_failure(gateway, outcome, broken.expected)
    assert outcome.text == broken.text
    assert row.usage.output_tokens == -(-len(broken.text) // 4)
    await aimock.reset()
    await aimock.answer({"content": TEXT})
    await check_next_call(gateway, streaming, CHAT, TEXT)


async def test_a_rate_limit_on_embeddings(gateway: Gateway, aimock: Aimock) -> None:
    await aimock.answer({"error": {"message": "slow down"}, "status": 429, "retryAfter": 11})
    end_user = new_user()

    with pytest.raises(UpstreamError) as caught:
        await gateway.client.embeddings.create("aimock-vllm/embeddings", "a cat", end_user_id=end_user)

    assert (caught.value.reason, caught.value.retry_after) == ("UPSTREAM_RATE_LIMITED", 11)
    assert (await record_of(gateway, end_user)).error_reason == "UPSTREAM_RATE_LIMITED"


async def test_a_question_that_the_judge_does_not_know(
    gateway: Gateway, aimock: Aimock, caller: Caller
) -> None:
    outcome = await caller.call("nobody expects this", model=CHAT)

    expected = Failing(REJECTED, {"provider_code": "no_fixture_match"}, http_status=404)
    await check_failure(gateway, outcome, expected)
