"""What an answer of Anthropic says in our words, written out."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict

from aigateway.v1.chat_service_pb2 import ChatCompletion, FinishReason
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from tests.support.wire import chat_format, make_endpoint, make_target

TARGET = make_target("anthropic", "claude-test")
USAGE = {"input_tokens": 10, "output_tokens": 5}
ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-test-1",
    "content": [],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}


def parse(**changes: Any) -> ChatCompletion:
    return chat_format("anthropic").parse_chat(orjson.dumps({**ANSWER, **changes}), TARGET)


def parts(*content: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    (choice,) = parse(content=list(content), **changes).choices
    return [MessageToDict(part) for part in choice.message.parts]


def seal(text: str) -> str:
    return b64encode(text.encode()).decode()


def fault(body: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat_format("anthropic").parse_chat(body, TARGET)
    return caught.value


def test_an_answer() -> None:
    completion = parse(content=[{"type": "text", "text": "Hi"}], context_management={"applied_edits": []})

    assert MessageToDict(completion, preserving_proto_field_name=True) == {
        "served_by": {"provider_response_id": "msg_1", "provider_model": "claude-test-1"},
        "choices": [
            {
                "message": {"role": "ROLE_ASSISTANT", "parts": [{"text": {"text": "Hi"}}]},
                "finish": {"reason": "FINISH_REASON_STOP", "provider_reason": "end_turn"},
            }
        ],
        "usage": {
            "input_tokens": "10",
            "output_tokens": "5",
            "total_tokens": "15",
            "state": "USAGE_STATE_PROVIDER_REPORTED",
        },
        "provider_metadata": {"context_management": {"applied_edits": []}},
    }


def test_an_answer_may_be_empty() -> None:
    (choice,) = parse().choices

    assert not choice.message.parts
    assert choice.finish.reason == FinishReason.FINISH_REASON_STOP


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "", "citations": None}, {"text": {}}),
        (
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"reasoning": {"text": "Hm"}, "providerSignature": seal("anthropic:sig")},
        ),
        ({"type": "thinking", "thinking": "Hm"}, {"reasoning": {"text": "Hm"}}),
        (
            {"type": "redacted_thinking", "data": "abc"},
            {"reasoning": {"redactedData": seal("anthropic:abc")}},
        ),
        (
            {"type": "tool_use", "id": "c", "name": "f", "input": {"z": 1, "a": 2}},
            {"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": '{"z":1,"a":2}'}},
        ),
        (
            {"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": {"type": "direct"}},
            {"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": "{}"}},
        ),
        (
            {"type": "tool_use", "id": "c", "name": "f"},
            {"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": "{}"}},
        ),
        (
            {"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": {"type": "x"}},
            {
                "toolCall": {"toolCallId": "c", "toolName": "f", "arguments": "{}"},
                "providerSignature": seal('{"caller":{"type":"x"}}'),
            },
        ),
        (
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}},
            {
                "provider": {
                    "providerType": "anthropic",
                    "blockType": "server_tool_use",
                    "blockJson": '{"type":"server_tool_use","id":"s","name":"web_search","input":{"q":1}}',
                }
            },
        ),
        ({"z": 1}, {"provider": {"providerType": "anthropic", "blockJson": '{"z":1}'}}),
    ],
)
def test_blocks(block: dict[str, Any], part: dict[str, Any]) -> None:
    assert parts(block) == [part]


def test_integers_keep_all_their_digits() -> None:
    body = orjson.dumps({**ANSWER, "content": ["HERE"]})
    call = b'{"type":"tool_use","id":"c","name":"f","input":{"n":12345678901234567890123,"s":"\xc3\xa4"}}'
    other = b'{"type":"odd","n":[-9223372036854775809]}'

    completion = chat_format("anthropic").parse_chat(body.replace(b'"HERE"', call + b"," + other), TARGET)

    first, second = completion.choices[0].message.parts
    assert first.tool_call.arguments == '{"n":12345678901234567890123,"s":"ä"}'
    assert second.provider.block_json == '{"type":"odd","n":[-9223372036854775809]}'


@pytest.mark.parametrize(
    ("cited", "citation"),
    [
        (
            {
                "type": "char_location",
                "cited_text": "a",
                "document_index": 1,
                "document_title": "T",
                "start_char_index": 2,
                "end_char_index": 3,
                "file_id": None,
            },
            {
                "citedText": "a",
                "title": "T",
                "document": {"documentIndex": 1, "unit": "LOCATION_UNIT_CHARACTER", "start": 2, "end": 3},
            },
        ),
        (
            {
                "type": "page_location",
                "cited_text": "a",
                "document_index": 0,
                "document_title": None,
                "start_page_number": 1,
                "end_page_number": 2,
            },
            {"citedText": "a", "document": {"unit": "LOCATION_UNIT_PAGE", "start": 1, "end": 2}},
        ),
        (
            {
                "type": "content_block_location",
                "cited_text": "a",
                "document_index": 0,
                "document_title": None,
                "start_block_index": 1,
                "end_block_index": 2,
            },
            {"citedText": "a", "document": {"unit": "LOCATION_UNIT_BLOCK", "start": 1, "end": 2}},
        ),
        (
            {
                "type": "web_search_result_location",
                "cited_text": "a",
                "title": "T",
                "url": "https://example.com",
                "encrypted_index": "x",
            },
            {
                "citedText": "a",
                "title": "T",
                "uri": "https://example.com",
                "providerSignature": seal('{"type":"web_search_result_location","encrypted_index":"x"}'),
            },
        ),
        (
            {
                "type": "search_result_location",
                "cited_text": "a",
                "title": None,
                "source": "s",
                "search_result_index": 0,
            },
            {
                "citedText": "a",
                "uri": "s",
                "providerSignature": seal('{"type":"search_result_location","search_result_index":0}'),
            },
        ),
        (
            {"type": "odd", "cited_text": "a"},
            {"citedText": "a", "providerSignature": seal('{"type":"odd","cited_text":"a"}')},
        ),
    ],
)
def test_citations(cited: dict[str, Any], citation: dict[str, Any]) -> None:
    block = {"type": "text", "text": "Hi", "citations": [cited]}

    assert parts(block) == [{"text": {"text": "Hi", "citations": [citation]}}]


CALL = {"type": "tool_use", "id": "c", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("stop_reason", "content", "reason"),
    [
        ("end_turn", [], "STOP"),
        ("end_turn", [CALL], "TOOL_CALLS"),
        ("tool_use", [CALL], "TOOL_CALLS"),
        ("max_tokens", [CALL], "MAX_OUTPUT_TOKENS"),
        ("model_context_window_exceeded", [], "CONTEXT_WINDOW"),
        ("refusal", [], "REFUSAL"),
        ("pause_turn", [], "PAUSE"),
        ("something_new", [], "OTHER"),
        (None, [], "OTHER"),
    ],
)
def test_finish_reasons(stop_reason: str | None, content: list[Any], reason: str) -> None:
    finish = parse(stop_reason=stop_reason, content=content).choices[0].finish

    assert FinishReason.Name(finish.reason) == f"FINISH_REASON_{reason}"
    assert finish.provider_reason == (stop_reason or "")


def test_the_stop_sequence_that_matched() -> None:
    finish = parse(stop_reason="stop_sequence", stop_sequence="END").choices[0].finish

    assert finish.reason == FinishReason.FINISH_REASON_STOP_SEQUENCE
    assert finish.stop_sequence == "END"


def test_why_it_was_refused() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "No.", "recommended_model": "m"}

    (choice,) = parse(stop_reason="refusal", stop_details=details).choices

    assert [MessageToDict(part) for part in choice.message.parts] == [
        {"refusal": {"text": "No.", "category": "cyber"}}
    ]
    assert MessageToDict(choice.provider_metadata) == {"stop_details": details}


@pytest.mark.parametrize(
    "details",
    [None, {"type": "refusal", "category": None, "explanation": None}, {"type": "odd", "category": "x"}],
)
def test_a_refusal_without_words_has_no_part(details: Any) -> None:
    assert parts(stop_reason="refusal", stop_details=details) == []


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (USAGE, (10, 5, 15, 0, 0, 0, 0)),
        (
            {**USAGE, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20},
            (130, 5, 135, 100, 20, 0, 0),
        ),
        (
            {
                **USAGE,
                "cache_creation_input_tokens": 20,
                "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8},
            },
            (30, 5, 35, 0, 20, 8, 0),
        ),
        (
            {**USAGE, "cache_creation": {"ephemeral_1h_input_tokens": 8}},
            (18, 5, 23, 0, 8, 8, 0),
        ),
        (
            {
                **USAGE,
                "cache_read_input_tokens": None,
                "cache_creation_input_tokens": None,
                "cache_creation": None,
            },
            (10, 5, 15, 0, 0, 0, 0),
        ),
        ({**USAGE, "output_tokens_details": {"thinking_tokens": 3}}, (10, 5, 15, 0, 0, 0, 3)),
        ({**USAGE, "output_tokens_details": {"thinking_tokens": 7}}, (10, 7, 17, 0, 0, 0, 7)),
        ({}, (0, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_usage(usage: dict[str, Any], told: tuple[int, ...]) -> None:
    read = parse(usage=usage).usage

    assert told == (
        read.input_tokens,
        read.output_tokens,
        read.total_tokens,
        read.cache_read_input_tokens,
        read.cache_write_input_tokens,
        read.cache_write_long_input_tokens,
        read.reasoning_output_tokens,
    )


def test_what_else_was_used() -> None:
    usage = {**USAGE, "service_tier": "standard", "server_tool_use": {"web_search_requests": 1}, "x": 0}

    metadata = MessageToDict(parse(usage=usage).provider_metadata)

    assert metadata == {
        "usage": {"service_tier": "standard", "server_tool_use": {"web_search_requests": 1.0}}
    }


def test_no_usage() -> None:
    assert not parse(usage=None).HasField("usage")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"content": None}, "the answer has no content"),
        ({"content": "Hi"}, "the answer has no content"),
        ({"content": ["Hi"]}, "content[0] is not an object"),
        ({"content": [{"type": 1}]}, "content.0.type is not text"),
        ({"content": [{"type": "text", "text": 1}]}, "content.0.text is not text"),
        ({"content": [{"type": "tool_use", "name": "f"}]}, "content.0 is a tool call without id or name"),
        ({"content": [CALL, CALL]}, "two tool calls have the same id"),
        ({"content": [{**CALL, "input": "{}"}]}, "content.0.input is not an object"),
        ({"usage": {"input_tokens": -1}}, "usage.input_tokens is negative"),
        ({"stop_reason": 1}, "answer.stop_reason is not text"),
        ({"stop_details": []}, "answer.stop_details is not an object"),
    ],
)
def test_an_answer_that_breaks_its_own_format(changes: dict[str, Any], cause: str) -> None:
    error = fault(orjson.dumps({**ANSWER, **changes}))

    assert error.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert error.metadata["cause"] == cause


def test_an_error_in_place_of_an_answer() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'

    error = fault(body)

    assert error.reason_name == "UPSTREAM_UNAVAILABLE"
    assert error.retryable


def test_counts() -> None:
    endpoint = make_endpoint("anthropic")
    assert isinstance(endpoint, CountTokensEndpoint)

    response = endpoint.count_format.parse_count(b'{"input_tokens":12,"context_management":{}}', TARGET)

    assert (response.input_tokens, response.estimated) == (12, False)
    assert response.served_by.provider_model == "claude-test"
    for body in (b"{}", b'{"input_tokens":"12"}', b'{"error":{"type":"api_error"}}'):
        with pytest.raises(GatewayError):
            endpoint.count_format.parse_count(body, TARGET)
