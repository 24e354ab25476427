"""aimock as Anthropic, Azure, Bedrock and Google: their formats by people who never saw this gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from aigateway import completion_text, completion_tool_calls, function_tool, tool_result, types, user
from aigateway.v1.chat_service_pb2 import FinishReason
from tests.gateway.callers import Caller
from tests.judges.processes import AIMOCK_KEY, Aimock
from tests.judges.verdicts import (
    CREDENTIAL,
    LIMITED,
    PARTIAL,
    PROTOCOL,
    REJECTED,
    TIMEOUT,
    UNAVAILABLE,
    Failing,
    check_failure,
    check_next_call,
    check_served,
)
from tests.support.gateway import Gateway

TEXT = "Grüße \U0001f600: light of short waves is scattered more than light of long ones."
OTHER = FinishReason.FINISH_REASON_OTHER
USAGE = {"prompt_tokens": 21, "completion_tokens": 13, "total_tokens": 34}
WEATHER = function_tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}})

#: Types of providers by the name that each has here. aimock takes Bedrock's API keys, not signatures.
PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure_openai",
    "bedrock": "bedrock",
    "google": "google",
}
each_provider = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture(scope="module", autouse=True)
async def providers(gateway: Gateway, started_aimock: Aimock) -> None:
    """Each with a model ``chat``, at the price that verdicts reckon with."""
    address = started_aimock.base_url.removesuffix("/v1")
    price = types.Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=3_000_000_000)
    for name, provider_type in PROVIDERS.items():
        base_url = f"{address}/v1" if name == "anthropic" else address
        provider = types.Provider(provider_type=provider_type, base_url=base_url, credential=AIMOCK_KEY)
        if name == "bedrock":
            provider.config.update({"region": "us-east-1"})
        if name == "azure":
            provider.config.update({"surface": "deployments"})
        made = await gateway.client.admin.providers.create(provider, provider_id=f"aimock-{name}")
        model = types.Model(provider_model="chat-model", price=price)
        await gateway.client.admin.models.create(made.name, model, model_id="chat")


def chat_of(provider: str) -> str:
    return f"aimock-{provider}/chat"


@each_provider
async def test_an_answer_is_what_the_judge_was_told_to_say(
    gateway: Gateway, aimock: Aimock, caller: Caller, provider: str
) -> None:
    await aimock.answer({"content": TEXT, "usage": USAGE}, match={"userMessage": "Why is the sky blue?"})

    answer = await check_served(gateway, await caller.call("Why is the sky blue?", model=chat_of(provider)))

    assert completion_text(answer) == TEXT
    assert answer.choices[0].finish.reason == FinishReason.FINISH_REASON_STOP
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (21, 13)


@each_provider
async def test_a_tool_is_called_and_its_result_brought_back(
    gateway: Gateway, aimock: Aimock, caller: Caller, provider: str
) -> None:
    arguments = {"city": 'São "Paulo"', "note": "a\nb\\c", "deep": {"list": [1, 2.5, None, True]}}
    calls = [
        {"id": "call_judge", "name": "get_weather", "arguments": arguments},
        {"id": "call_other", "name": "get_weather", "arguments": {}},
    ]
    await aimock.answer({"content": "It is sunny.", "usage": USAGE}, match={"hasToolResult": True})
    await aimock.answer({"toolCalls": calls, "usage": USAGE}, match={"toolName": "get_weather"})
    question = user("What is the weather?")
    model = chat_of(provider)

    asked = await check_served(gateway, await caller.call(model=model, messages=[question], tools=[WEATHER]))
    first, second = completion_tool_calls(asked)
    turns = [question, asked.choices[0].message, tool_result(first, "sunny"), tool_result(second, "?")]
    answered = await check_served(gateway, await caller.call(model=model, messages=turns, tools=[WEATHER]))

    finish = asked.choices[0].finish
    if provider == "google":
        # The judge has a word of its own here; Google says STOP.
        assert (finish.reason, finish.provider_reason) == (OTHER, "FUNCTION_CALL")
    else:
        assert finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    assert [call.tool_name for call in (first, second)] == ["get_weather"] * 2
    assert json.loads(first.arguments) == arguments
    assert json.loads(second.arguments) == {}
    assert completion_text(answered) == "It is sunny."


@dataclass(frozen=True)
class Fault:
    """What aimock does instead of answering, and how a call fails by it."""

    expected: Failing
    response: dict[str, Any] | None = None
    chaos: dict[str, float] | None = None


def fail(status: int, expected: tuple[str, str], *, told: float | None = None, **more: Any) -> Fault:
    error = {"message": "prv8secret", "type": "judge_error"}
    return Fault(
        Failing(expected, retry_after=told, http_status=status), {"error": error, "status": status, **more}
    )


FAULTS = {
    "400": fail(400, REJECTED),
    "401": fail(401, CREDENTIAL),
    "403": fail(403, CREDENTIAL),
    "404": fail(404, REJECTED),
    "429": fail(429, LIMITED, told=42.0, retryAfter=42),
    "500": fail(500, UNAVAILABLE),
    "503": fail(503, UNAVAILABLE),
    "529": fail(529, UNAVAILABLE),
    "a dropped request": Fault(Failing(UNAVAILABLE, http_status=500), chaos={"dropRate": 1}),
    "a malformed answer": Fault(
        Failing(PROTOCOL, usage=PARTIAL, http_status=200), chaos={"malformedRate": 1}
    ),
    "a disconnect": Fault(Failing(UNAVAILABLE, {"cause": "reset"}), chaos={"disconnectRate": 1}),
    "silence": Fault(Failing(TIMEOUT, {"phase": "first_byte"}, usage=PARTIAL), chaos={"latencyMs": 4000}),
}


@each_provider
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_told_and_the_next_call_served(
    gateway: Gateway, aimock: Aimock, caller: Caller, provider: str, name: str
) -> None:
    fault = FAULTS[name]
    await aimock.answer(fault.response or {"content": TEXT})
    await aimock.misbehave(**fault.chaos or {})

    outcome = await caller.call(model=chat_of(provider))

    await check_failure(gateway, outcome, fault.expected)
    assert outcome.failure is not None
    assert b"prv8secret" not in outcome.failure.raw
    await aimock.reset()
    await aimock.answer({"content": TEXT, "usage": USAGE})
    await check_next_call(gateway, caller, chat_of(provider), TEXT)


@each_provider
@pytest.mark.parametrize(
    "fixture", [{"truncateAfterChunks": 4, "latency": 20}, {"disconnectAfterMs": 250, "latency": 50}], ids=str
)
async def test_a_cut_stream_is_told_after_what_came_and_the_next_call_served(
    gateway: Gateway, aimock: Aimock, streaming: Caller, provider: str, fixture: dict[str, Any]
) -> None:
    await aimock.answer({"content": TEXT, "usage": USAGE}, **fixture)

    outcome = await streaming.call(model=chat_of(provider))

    assert outcome.failure is not None
    await check_failure(gateway, outcome, Failing(PROTOCOL, {"cause": "cut"}, usage=PARTIAL, http_status=200))
    assert TEXT.startswith(outcome.text)
    assert outcome.text
    await aimock.reset()
    await aimock.answer({"content": TEXT, "usage": USAGE})
    await check_next_call(gateway, streaming, chat_of(provider), TEXT)
