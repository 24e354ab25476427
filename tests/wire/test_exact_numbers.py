"""Long integers of tool arguments keep their digits, at the cost of one more look at the answer in all."""

import time
from typing import Any

import orjson
import pytest

from aigateway import completion_tool_calls
from aigateway.fold import fold_events
from tests.support.wire import chat_format, make_target, read_stream, to_sse

DIGITS = "9" * 30
COUNT = 3000


def anthropic(number: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{number}", "name": "f", "input": {"a": "@"}}


def google(number: int) -> dict[str, Any]:
    return {"functionCall": {"id": f"call_{number}", "name": "f", "args": {"a": "@"}}}


WHOLE: dict[str, dict[str, Any]] = {
    "anthropic": {"content": [anthropic(number) for number in range(COUNT)], "stop_reason": "tool_use"},
    "google": {
        "candidates": [
            {"content": {"parts": [google(number) for number in range(COUNT)]}, "finishReason": "STOP"}
        ]
    },
}


@pytest.mark.parametrize("provider_type", WHOLE)
def test_long_integers_keep_their_digits_in_linear_time(provider_type: str) -> None:
    body = orjson.dumps(WHOLE[provider_type]).replace(b'"@"', DIGITS.encode())
    began = time.process_time()

    answer = chat_format(provider_type).parse_chat(body, make_target(provider_type))

    assert time.process_time() - began < 3
    calls = completion_tool_calls(answer)
    assert len(calls) == COUNT
    assert {call.arguments for call in calls} == {f'{{"a":{DIGITS}}}'}


def test_long_integers_of_one_chunk_keep_their_digits_in_linear_time() -> None:
    body = to_sse([WHOLE["google"]], done=False).replace(b'"@"', DIGITS.encode())
    began = time.process_time()

    parser = chat_format("google").chat_stream(make_target("google"))
    calls = completion_tool_calls(fold_events(read_stream(parser, [body])))

    assert time.process_time() - began < 3
    assert {call.arguments for call in calls} == {f'{{"a":{DIGITS}}}'}
