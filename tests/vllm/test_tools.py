"""Tool calls of a real vLLM: chosen by the model, forced, several at once, and answered."""

from __future__ import annotations

import json

import pytest

from aigateway import completion_text, completion_tool_calls, function_tool, tool_result, user
from aigateway.v1.chat_service_pb2 import ChatCompletion, FinishReason, ToolChoice, ToolChoiceMode
from tests.vllm.asking import Ask

WEATHER = "What is the weather in Paris?"
BOTH = "Compare the weather in Paris and Oslo."
CAPITAL = "What is the capital of France?"

_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
GET_WEATHER = function_tool("get_weather", _CITY, description="Today's weather.", strict=True)
GET_TIME = function_tool("get_time", _CITY, strict=True)


def named(*names: str) -> ToolChoice:
    return ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED, allowed_tool_names=names)


def calls_of(completion: ChatCompletion) -> list[tuple[str, str]]:
    """Name and arguments of each call; every call has an id of its own, and the finish tells of them."""
    calls = completion_tool_calls(completion)
    ids = {call.tool_call_id for call in calls}
    assert len(ids) == len(calls)
    assert "" not in ids
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    return [(call.tool_name, call.arguments) for call in calls]


@pytest.mark.parametrize("tool_choice", ["auto", None])
async def test_the_model_chooses_to_call_a_tool(ask: Ask, tool_choice: str | None) -> None:
    completion = await ask(WEATHER, tools=[GET_WEATHER], tool_choice=tool_choice)
    assert calls_of(completion) == [("get_weather", '{"city": "Paris"}')]
    assert completion_text(completion) == ""
    assert completion.choices[0].finish.provider_reason == "tool_calls"


async def test_words_and_several_calls_keep_their_order(ask: Ask) -> None:
    completion = await ask(BOTH, tools=[GET_WEATHER])
    assert calls_of(completion) == [("get_weather", '{"city": "Paris"}'), ("get_weather", '{"city": "Oslo"}')]
    kinds = [part.WhichOneof("kind") for part in completion.choices[0].message.parts]
    assert kinds == ["text", "tool_call", "tool_call"]
    assert completion_text(completion).rstrip() == "I will look up both."


async def test_one_call_at_a_time_when_asked_for(ask: Ask) -> None:
    choice = ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_AUTO, parallel_tool_calls=False)
    completion = await ask(BOTH, tools=[GET_WEATHER], tool_choice=choice)
    assert calls_of(completion) == [("get_weather", '{"city": "Paris"}')]


@pytest.mark.parametrize("question", [WEATHER, CAPITAL])
async def test_a_required_tool_is_called_whatever_is_asked(ask: Ask, question: str) -> None:
    completion = await ask(question, tools=[GET_WEATHER], tool_choice="required")
    for name, arguments in calls_of(completion):
        assert name == "get_weather"
        assert json.loads(arguments) in [{"city": "Paris"}, {"city": "Oslo"}]


async def test_a_named_tool_is_called_against_what_the_model_would_choose(ask: Ask) -> None:
    completion = await ask(WEATHER, tools=[GET_WEATHER, GET_TIME], tool_choice=named("get_time"))
    [(name, arguments)] = calls_of(completion)
    assert name == "get_time"
    assert json.loads(arguments) in [{"city": "Paris"}, {"city": "Oslo"}]
    # The server's own word for it does not tell of the call.
    assert completion.choices[0].finish.provider_reason == "stop"


async def test_a_tools_answer_goes_back_to_the_model(ask: Ask) -> None:
    called = await ask(WEATHER, tools=[GET_WEATHER])
    [call] = completion_tool_calls(called)
    conversation = [user(WEATHER), called.choices[0].message, tool_result(call, "18 degrees")]
    completion = await ask(conversation, tools=[GET_WEATHER])
    assert completion_text(completion) == "It is 18 degrees in Paris."
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_STOP
