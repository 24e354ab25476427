"""llmock, a mock provider nobody here wrote, behind a whole gateway."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import pytest

from aigateway import (
    UpstreamError,
    completion_text,
    completion_tool_calls,
    function_tool,
    json_schema_format,
    tool_result,
    user,
)
from aigateway.v1.chat_service_pb2 import FinishReason, GenerationConfig, ToolChoice, ToolChoiceMode
from tests.gateway.callers import Caller
from tests.judges.processes import LLMock
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

CHAT = "llmock/chat"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
WEATHER = function_tool("get_weather", SCHEMA, description="Tells the weather in a city.")
OTHER = function_tool("book_flight", SCHEMA, description="Books a flight.")


async def test_an_answer_is_what_the_judge_says_without_the_gateway(
    gateway: Gateway, llmock: LLMock, caller: Caller
) -> None:
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    plain = await llmock.ask("chat/completions", {"model": "chat-model", "messages": messages})

    answer = await check_served(gateway, await caller.call("Why is the sky blue?", model=CHAT))

    [choice] = plain["choices"]
    assert completion_text(answer) == choice["message"]["content"]
    assert answer.choices[0].finish.reason == FinishReason.FINISH_REASON_STOP
    assert answer.usage.input_tokens == plain["usage"]["prompt_tokens"]
    assert answer.usage.output_tokens == plain["usage"]["completion_tokens"]
    assert answer.served_by.provider_model == "chat-model"
    assert answer.served_by.provider_response_id.startswith("chatcmpl-")


async def test_several_choices(gateway: Gateway, llmock: LLMock, caller: Caller) -> None:
    await llmock.behave(type="reply", text="one two three", finish_reason="length")
    config = GenerationConfig(choice_count=3, max_output_tokens=5)

    answer = await check_served(gateway, await caller.call(model=CHAT, generation_config=config))

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert [part.text.text for part in choice.message.parts] == ["one two three"]
        assert choice.finish.reason == FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS


async def test_a_tool_is_called_and_its_result_brought_back(
    gateway: Gateway, llmock: LLMock, caller: Caller
) -> None:
    question = user("What is the weather in Paris?")
    tools = [OTHER, WEATHER]

    asked = await check_served(gateway, await caller.call(model=CHAT, messages=[question], tools=tools))
    [call] = completion_tool_calls(asked)
    turns = [question, asked.choices[0].message, tool_result(call, "sunny")]
    answered = await check_served(gateway, await caller.call(model=CHAT, messages=turns, tools=tools))

    assert asked.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    assert call.tool_name == "get_weather"
    assert set(json.loads(call.arguments)) == {"city", "days"}
    assert completion_tool_calls(answered) == []
    assert completion_text(answered)


async def test_several_calls_and_a_choice_of_one(gateway: Gateway, llmock: LLMock, caller: Caller) -> None:
    calls = [
        {"name": "get_weather", "arguments": {"city": "Zürich \U0001f3d4", "days": 3}},
        {"name": "book_flight", "arguments": {}},
    ]
    await llmock.behave(type="reply", text="Let me see.", tool_calls=calls)
    several = await check_served(gateway, await caller.call(model=CHAT, tools=[WEATHER, OTHER]))
    choice = ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED, allowed_tool_names=["book_flight"])
    forced = await check_served(
        gateway, await caller.call(model=CHAT, tools=[WEATHER, OTHER], tool_choice=choice)
    )

    read = completion_tool_calls(several)
    assert [call.tool_name for call in read] == ["get_weather", "book_flight"]
    assert json.loads(read[0].arguments) == calls[0]["arguments"]
    assert completion_text(several) == "Let me see."
    assert [call.tool_name for call in completion_tool_calls(forced)] == ["book_flight"]


@pytest.mark.parametrize("kind", ["malformed_arguments", "unknown_tool"])
async def test_a_broken_tool_call_reaches_the_caller_as_it_is(
    gateway: Gateway, llmock: LLMock, caller: Caller, kind: str
) -> None:
    await llmock.behave(type="tool_fault", kind=kind)

    answer = await check_served(gateway, await caller.call(model=CHAT, tools=[WEATHER]))

    [call] = completion_tool_calls(answer)
    if kind == "unknown_tool":
        assert call.tool_name == "llmock_unknown_tool"
    else:
        with pytest.raises(ValueError, match=r"."):
            json.loads(call.arguments)


async def test_an_answer_by_schema(gateway: Gateway, llmock: LLMock, caller: Caller) -> None:
    wanted = json_schema_format("trip", SCHEMA, strict=True)

    answer = await check_served(gateway, await caller.call(model=CHAT, response_format=wanted))

    assert set(json.loads(completion_text(answer))) == {"city", "days"}


async def test_embeddings_are_what_the_judge_says_without_the_gateway(
    gateway: Gateway, llmock: LLMock
) -> None:
    texts = ["a cat", "ein Käfer", "x" * 1000]
    plain = await llmock.ask("embeddings", {"model": "embeddings-model", "input": texts})
    end_user = new_user()

    answer = await gateway.client.embeddings.create("llmock/embeddings", texts, end_user_id=end_user)

    for embedding, expected in zip(answer.embeddings, plain["data"], strict=True):
        assert embedding.index == expected["index"]
        floats = struct.unpack("1536f", struct.pack("1536f", *expected["embedding"]))
        assert list(embedding.float_vector.values) == list(floats)
    assert answer.usage.input_tokens == plain["usage"]["prompt_tokens"]
    row = await record_of(gateway, end_user)
    assert row.usage == answer.usage
    assert row.usage.state == REPORTED
    assert row.cost.total_nanos == 1000 * answer.usage.input_tokens


@dataclass(frozen=True)
class Fault:
    """A behaviour of llmock, and how a call fails by it."""

    behaviour: dict[str, Any]
    expected: Failing
    #: What a streaming caller had read until then.
    text: str = ""


def fail(status: int, expected: tuple[str, str], **fields: Any) -> Fault:
    """An error in place of an answer. llmock sends Retry-After with those that are worth a retry."""
    retry_after = fields.pop("told", None)
    behaviour = {"type": "fail", "status": status, **fields}
    metadata = {"provider": "providers/llmock"}
    if expected is not LIMITED:
        metadata["http_status"] = str(status)
    return Fault(behaviour, Failing(expected, metadata, retry_after, http_status=status))


FAULTS = {
    "400": fail(400, REJECTED),
    "401": fail(401, CREDENTIAL),
    "402": fail(402, LIMITED),
    "403": fail(403, CREDENTIAL),
    "404": fail(404, REJECTED),
    "408": fail(408, UNAVAILABLE),
    "422": fail(422, REJECTED),
    "429": fail(429, LIMITED, told=1.0),
    "429 with Retry-After": fail(429, LIMITED, retry_after=7, told=7.0),
    "429 with Retry-After of less than a second": fail(429, LIMITED, retry_after=0.25, told=0.25),
    "429 for want of quota": fail(429, LIMITED, code="insufficient_quota", retry_after=9),
    "500": fail(500, UNAVAILABLE),
    "502": fail(502, UNAVAILABLE),
    "503 with Retry-After": fail(503, UNAVAILABLE, retry_after=30, told=30.0),
    "529": fail(529, UNAVAILABLE, told=1.0),
    "too many tokens": Fault(
        {"type": "fail", "status": 400, "code": "context_length_exceeded"},
        Failing(REJECTED, {"provider_code": "context_length_exceeded"}, http_status=400),
    ),
    "silence": Fault(
        {"type": "delay", "seconds": 4}, Failing(TIMEOUT, {"phase": "first_byte"}, usage=PARTIAL)
    ),
}


def broken(kind: str, after: int) -> Fault:
    """A stream that breaks after some chunks, of which the first holds no text."""
    behaviour = {"type": "stream_fault", "kind": kind, "after_chunks": after, "stall_seconds": 4}
    status, metadata = BROKEN[kind]
    text = "".join(["one ", "two ", "three "][: max(after - 1, 0)])
    return Fault(behaviour, Failing(status, metadata, usage=PARTIAL, http_status=200), text)


BROKEN = {
    "disconnect": (PROTOCOL, {"cause": "cut"}),
    "truncate": (PROTOCOL, {}),
    "malformed": (PROTOCOL, {}),
    "stall": (TIMEOUT, {"phase": "idle"}),
}
STREAM_FAULTS = {
    "a slow first token": Fault(
        {"type": "slow_first_token", "seconds": 4},
        Failing(TIMEOUT, {"phase": "idle"}, usage=PARTIAL, http_status=200),
    ),
    **{f"{kind} after {after} chunks": broken(kind, after) for kind in BROKEN for after in (0, 1, 3, 4)},
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_told_and_the_next_call_served(
    gateway: Gateway, llmock: LLMock, caller: Caller, name: str
) -> None:
    fault = FAULTS[name]
    await llmock.behave(**fault.behaviour)

    outcome = await caller.call(model=CHAT)

    await check_failure(gateway, outcome, fault.expected)
    assert outcome.events == []
    await llmock.reset()
    await check_next_call(gateway, caller, CHAT)


@pytest.mark.parametrize("name", STREAM_FAULTS)
async def test_a_broken_stream_is_told_after_what_came_and_the_next_call_served(
    gateway: Gateway, llmock: LLMock, streaming: Caller, name: str
) -> None:
    fault = STREAM_FAULTS[name]
    await llmock.behave(type="reply", text="one two three four five")
    await llmock.behave(**fault.behaviour)

    outcome = await streaming.call(model=CHAT)

    row = await check_failure(gateway, outcome, fault.expected)
    assert outcome.text == fault.text
    assert row.usage.output_tokens == -(-len(fault.text) // 4)
    [asked] = await llmock.requests()
    if fault.behaviour.get("kind") == "stall":
        assert asked["stall_waited"] < 3, "the gateway did not leave"
    await llmock.reset()
    await check_next_call(gateway, streaming, CHAT)


async def test_quotas_of_a_provider_are_told_with_the_real_wait(gateway: Gateway, llmock: LLMock) -> None:
    """Embeddings fail in the same ways."""
    await llmock.behave(type="fail", status=429, retry_after=3)
    end_user = new_user()

    with pytest.raises(UpstreamError, match="takes no more requests") as caught:
        await gateway.client.embeddings.create("llmock/embeddings", "a cat", end_user_id=end_user)

    assert caught.value.retry_after == 3
    row = await record_of(gateway, end_user)
    assert row.error_reason == "UPSTREAM_RATE_LIMITED"
    assert row.attempts[0].http_status == 429


async def test_the_judge_finds_no_fault_in_how_the_gateway_asks(
    gateway: Gateway, llmock: LLMock, caller: Caller
) -> None:
    await llmock.behave(type="fail", status=400)
    await llmock.behave(type="fail", status=429, retry_after=5)
    for _ in range(4):
        await caller.call(model=CHAT)

    # A gateway that tries once only leaves it to the caller whether to try again.
    assert await llmock.findings() <= {"gave_up"}
