"""Two tool calls of one answer never have the same id, in any format: results could not be told apart."""

from typing import Any

import orjson
import pytest

from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_target, read_until_failure, to_sse

OPENAI_CALL = {"id": "same", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ANTHROPIC_CALL = {"type": "tool_use", "id": "same", "name": "f", "input": {"a": 1}}
GOOGLE_CALL = {"functionCall": {"id": "same", "name": "f", "args": {}}}

WHOLE: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"message": {"tool_calls": [OPENAI_CALL, OPENAI_CALL]}, "finish_reason": "stop"}]},
    "anthropic": {"content": [ANTHROPIC_CALL, ANTHROPIC_CALL], "stop_reason": "tool_use"},
    "google": {"candidates": [{"content": {"parts": [GOOGLE_CALL, GOOGLE_CALL]}, "finishReason": "STOP"}]},
}


def block(index: int) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": ANTHROPIC_CALL},
        {"type": "content_block_stop", "index": index},
    ]


STREAMED: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"id": "1", "choices": [{"index": 0, "delta": {"tool_calls": [{**OPENAI_CALL, "index": index}]}}]}
        for index in range(2)
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "1", "content": []}},
        *block(0),
        *block(1),
    ],
    "google": [{"candidates": [{"content": {"parts": [GOOGLE_CALL]}}]} for _ in range(2)],
}


@pytest.mark.parametrize("provider_type", WHOLE)
def test_equal_ids_in_a_whole_answer_are_refused(provider_type: str) -> None:
    body = orjson.dumps(WHOLE[provider_type])

    with pytest.raises(GatewayError, match="two tool calls have the same id"):
        chat_format(provider_type).parse_chat(body, make_target(provider_type))


@pytest.mark.parametrize("provider_type", STREAMED)
def test_equal_ids_in_a_stream_are_refused(provider_type: str) -> None:
    parser = chat_format(provider_type).chat_stream(make_target(provider_type))

    _, failure = read_until_failure(parser, [to_sse(STREAMED[provider_type], done=False)])

    assert failure is not None
    assert "two tool calls have the same id" in failure.message
