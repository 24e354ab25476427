"""What a stream of Anthropic says in our events, written out; and what is wrong with one."""

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent, FinishReason
from gateway_server.errors import GatewayError
from tests.support.anthropic_events import to_events
from tests.support.wire import chat_format, make_target, one_byte_pieces, read_stream, read_until_failure

TARGET = make_target("anthropic", "claude-test")
START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 3,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
            "output_tokens": 1,
        },
    },
}
STOP: dict[str, Any] = {"type": "message_stop"}
PING = {"type": "ping"}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def grow(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **delta}}


def end(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def stop(
    reason: str | None = "end_turn", usage: dict[str, Any] | None = None, **delta: Any
) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None, **delta},
        "usage": usage or {"output_tokens": 5},
    }


TEXT = begin(0, type="text", text="")


def said(*events: dict[str, Any]) -> list[ChatEvent]:
    return read_stream(chat_format("anthropic").chat_stream(TARGET), [to_events(events)])


def fold(*events: dict[str, Any]) -> ChatCompletion:
    return fold_events(said(*events))


def parts(*events: dict[str, Any]) -> list[dict[str, Any]]:
    completion = fold(START, *events, stop(), STOP)
    return [MessageToDict(part) for part in completion.choices[0].message.parts]


def failure(*events: dict[str, Any], rest: bytes = b"") -> GatewayError:
    parser = chat_format("anthropic").chat_stream(TARGET)
    _, error = read_until_failure(parser, [to_events(events) + rest])
    assert error is not None
    return error


def test_a_stream_event_by_event() -> None:
    events = said(
        START,
        begin(0, type="text", text=""),
        PING,
        grow(0, "text", text="Hel"),
        grow(0, "text", text="lo"),
        end(0),
        stop(),
        STOP,
    )

    assert [MessageToDict(event, preserving_proto_field_name=True) for event in events] == [
        {
            "start": {
                "served_by": {"provider_response_id": "msg_1", "provider_model": "claude-test-1"},
            }
        },
        {"part_start": {"part": {"text": {}}}},
        {"part_delta": {"text": "Hello"}},
        {"part_end": {}},
        {"choice_end": {"finish": {"reason": "FINISH_REASON_STOP", "provider_reason": "end_turn"}}},
        {
            "end": {
                "usage": {
                    "input_tokens": "17",
                    "output_tokens": "5",
                    "total_tokens": "22",
                    "cache_read_input_tokens": "4",
                    "cache_write_input_tokens": "3",
                    "cache_write_long_input_tokens": "2",
                    "state": "USAGE_STATE_PROVIDER_REPORTED",
                }
            }
        },
    ]


def test_what_is_read_is_given_out_at_once() -> None:
    parser = chat_format("anthropic").chat_stream(TARGET)

    def fed(*events: dict[str, Any]) -> tuple[list[str | None], bool]:
        kinds: list[str | None] = [event.WhichOneof("event") for event in parser.feed(to_events(events))]
        return kinds, parser.has_content

    assert fed(START) == (["start"], False)
    assert parser.usage is not None
    assert parser.usage.input_tokens == 17
    assert fed(TEXT, grow(0, "text", text="a")) == (["part_start", "part_delta"], True)
    assert fed(grow(0, "text", text="b")) == (["part_delta"], True)
    assert fed(end(0)) == (["part_end"], True)
    assert fed(PING) == ([], True)


def test_each_block_of_text_is_a_part() -> None:
    assert parts(
        begin(0, type="text", text="A"),
        end(0),
        begin(1, type="text", text=""),
        end(1),
        begin(3, type="text", text="B"),
        grow(3, "text", text=""),
        grow(3, "text", text="C"),
        end(3),
    ) == [{"text": {"text": "A"}}, {"text": {}}, {"text": {"text": "BC"}}]


def test_thoughts_their_signatures_and_calls_keep_their_order() -> None:
    assert parts(
        begin(0, type="thinking", thinking="", signature=""),
        grow(0, "thinking", thinking="Hm"),
        grow(0, "thinking", thinking="m"),
        grow(0, "signature", signature="sig"),
        end(0),
        begin(1, type="tool_use", id="c1", name="f", input={}),
        grow(1, "input_json", partial_json=""),
        grow(1, "input_json", partial_json='{"a": 1234567890'),
        grow(1, "input_json", partial_json="1234567890}"),
        end(1),
        begin(2, type="redacted_thinking", data="abc"),
        end(2),
        begin(3, type="thinking", thinking="So", signature="one"),
        grow(3, "signature", signature="two"),
        end(3),
        begin(4, type="tool_use", id="c2", name="f", input={}, caller={"type": "x"}),
        grow(4, "input_json", partial_json=""),
        end(4),
        begin(5, type="tool_use", id="c3", name="f", input={"a": 1}),
        end(5),
    ) == [
        {"reasoning": {"text": "Hmm"}, "providerSignature": "YW50aHJvcGljOnNpZw=="},
        {"toolCall": {"toolCallId": "c1", "toolName": "f", "arguments": '{"a": 12345678901234567890}'}},
        {"reasoning": {"redactedData": "YW50aHJvcGljOmFiYw=="}},
        {"reasoning": {"text": "So"}, "providerSignature": "YW50aHJvcGljOnR3bw=="},
        {
            "toolCall": {"toolCallId": "c2", "toolName": "f", "arguments": "{}"},
            "providerSignature": "eyJjYWxsZXIiOnsidHlwZSI6IngifX0=",
        },
        {"toolCall": {"toolCallId": "c3", "toolName": "f", "arguments": '{"a":1}'}},
    ]


def test_citations_come_with_their_text() -> None:
    page = {
        "type": "page_location",
        "cited_text": "a",
        "document_index": 0,
        "document_title": "T",
        "start_page_number": 1,
        "end_page_number": 2,
    }
    citation = {
        "citedText": "a",
        "title": "T",
        "document": {"unit": "LOCATION_UNIT_PAGE", "start": 1, "end": 2},
    }

    assert parts(
        begin(0, type="text", text="", citations=[page]),
        grow(0, "citations", citation=page),
        grow(0, "text", text="Hi"),
        end(0),
    ) == [{"text": {"text": "Hi", "citations": [citation, citation]}}]


def test_blocks_without_a_kind_of_their_own_are_kept_whole() -> None:
    blocks = [
        part["provider"]["blockJson"]
        for part in parts(
            begin(0, type="server_tool_use", id="s", name="web_search", input={}),
            grow(0, "input_json", partial_json='{"query": '),
            grow(0, "input_json", partial_json="12345678901234567890123}"),
            end(0),
            begin(1, type="server_tool_use", id="t", name="x", input={}),
            end(1),
            begin(2, type="web_search_tool_result", tool_use_id="s", content=[{"url": "u"}]),
            end(2),
            begin(3, type="compaction", content=None, pieces=["a"], words="x"),
            grow(3, "compaction", content="Sum", pieces=["b"], words="y"),
            grow(3, "compaction", content="mary"),
            end(3),
        )
    ]

    assert blocks == [
        '{"type":"server_tool_use","id":"s","name":"web_search","input":{"query": 12345678901234567890123}}',
        '{"type":"server_tool_use","id":"t","name":"x","input":{}}',
        '{"type":"web_search_tool_result","tool_use_id":"s","content":[{"url":"u"}]}',
        '{"type":"compaction","content":"Summary","pieces":["a","b"],"words":"xy"}',
    ]


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"output_tokens": 5}, (17, 5, 4, 3, 2)),
        # Sums up to here, so they replace what was told before.
        ({"input_tokens": 20, "cache_read_input_tokens": 8, "output_tokens": 9}, (31, 9, 8, 3, 2)),
        ({"input_tokens": None, "cache_creation_input_tokens": 7, "output_tokens": 9}, (21, 9, 4, 7, 2)),
    ],
)
def test_usage_at_the_end_replaces_what_was_told_before(usage: dict[str, Any], told: tuple[int, ...]) -> None:
    completion = fold(START, stop(usage={"output_tokens": 99}), stop(usage=usage), STOP)

    read = completion.usage
    assert told == (
        read.input_tokens,
        read.output_tokens,
        read.cache_read_input_tokens,
        read.cache_write_input_tokens,
        read.cache_write_long_input_tokens,
    )


def test_what_has_no_field_is_metadata() -> None:
    start = {**START, "message": {**START["message"], "diagnostics": {"a": 1}}}
    last = {**stop(usage={"output_tokens": 5, "server_tool_use": {"web_search_requests": 2}}), "x": True}
    last["delta"]["container"] = {"id": "c"}

    completion = fold(start, last, STOP)

    assert MessageToDict(completion.provider_metadata) == {
        "diagnostics": {"a": 1.0},
        "container": {"id": "c"},
        "x": True,
        "usage": {"server_tool_use": {"web_search_requests": 2.0}},
    }


def test_a_refusal() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "No."}

    (choice,) = fold(START, stop("refusal", stop_details=details), STOP).choices

    assert [MessageToDict(part) for part in choice.message.parts] == [
        {"refusal": {"text": "No.", "category": "bio"}}
    ]
    assert choice.finish.reason == FinishReason.FINISH_REASON_REFUSAL
    assert MessageToDict(choice.provider_metadata) == {"stop_details": details}


def test_a_stop_sequence_and_a_pause() -> None:
    stopped = fold(START, stop("stop_sequence", stop_sequence="END"), STOP).choices[0].finish
    paused = fold(START, stop("pause_turn"), STOP).choices[0].finish

    assert (stopped.reason, stopped.stop_sequence) == (FinishReason.FINISH_REASON_STOP_SEQUENCE, "END")
    assert paused.reason == FinishReason.FINISH_REASON_PAUSE


def test_events_that_may_be_added_are_passed_over() -> None:
    assert fold(START, {"type": "news", "x": 1}, stop(), PING, STOP, PING).choices


def test_a_stream_without_message_stop_is_whole_once_it_has_its_reason() -> None:
    assert fold(START, begin(0, type="text", text="a"), end(0), stop()).choices


CALL = begin(0, type="tool_use", id="c", name="f", input={})


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([], "the stream ended before the message was finished"),
        ([START], "the stream ended before the message was finished"),
        ([START, TEXT, end(0), stop(None)], "the stream ended before the message was finished"),
        ([START, TEXT, stop()], "a block was not closed"),
        ([START, TEXT, begin(1, type="text", text="")], "a block was not closed"),
        ([START, START], "the message begins twice"),
        ([TEXT], "a block stands outside of the message"),
        ([START, stop(), TEXT], "a block stands outside of the message"),
        ([stop()], "the message ends before it begins"),
        ([START, stop(), STOP, stop()], "the stream goes on after message_stop"),
        ([START, grow(0, "text", text="a")], "content_block_delta is not for the open block"),
        ([START, TEXT, grow(1, "text", text="a")], "content_block_delta is not for the open block"),
        ([START, TEXT, end(0), grow(0, "text", text="a")], "content_block_delta is not for the open block"),
        ([START, end(0)], "content_block_stop is not for the open block"),
        ([START, TEXT, end(1)], "content_block_stop is not for the open block"),
        (
            [START, TEXT, end(0), begin(0, type="text", text="")],
            "content_block_start.index is not the index of a new block",
        ),
        ([START, TEXT, grow(0, "thinking", thinking="a")], "content_block_delta does not fit the open block"),
        ([START, TEXT, grow(0, "odd")], "content_block_delta does not fit the open block"),
        ([START, TEXT, grow(0, "text", text=1)], "content_block_delta.delta.text is not text"),
        ([START, CALL, grow(0, "text", text="a")], "content_block_delta does not fit the open block"),
        (
            [START, TEXT, grow(0, "input_json", partial_json="{}")],
            "input_json_delta is for a block without input",
        ),
        ([START, CALL, end(0), {**CALL, "index": 1}], "two tool calls have the same id"),
        (
            [START, begin(0, type="server_tool_use"), grow(0, "input_json", partial_json="{"), end(0)],
            "content_block.input is not JSON",
        ),
        ([{**START, "message": {"content": [{"type": "text"}]}}], "the message begins with content"),
        ([{"type": 5}], "event.type is not text"),
    ],
)
def test_streams_that_break_their_own_format(events: list[dict[str, Any]], cause: str) -> None:
    framed = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)
    parser = chat_format("anthropic").chat_stream(TARGET)

    _, error = read_until_failure(parser, [framed])

    assert error is not None
    assert error.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert error.metadata["cause"] == cause


@pytest.mark.parametrize("rest", [b"data: {", b"data: []\n\n", b"data: nonsense\n\n"])
def test_events_that_cannot_be_read(rest: bytes) -> None:
    assert failure(START, stop(), rest=rest).reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize(
    ("kind", "reason", "retryable"),
    [
        ("overloaded_error", "UPSTREAM_UNAVAILABLE", True),
        ("api_error", "UPSTREAM_UNAVAILABLE", True),
        ("rate_limit_error", "UPSTREAM_RATE_LIMITED", True),
        ("invalid_request_error", "UPSTREAM_REJECTED", False),
        ("authentication_error", "UPSTREAM_CREDENTIAL_REJECTED", False),
        ("something_new", "UPSTREAM_UNAVAILABLE", True),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_error_in_mid_stream_comes_after_what_was_said(
    kind: str, reason: str, retryable: bool, in_pieces: bool
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "Secret words"}, "request_id": "r"}
    body = to_events([START, TEXT, grow(0, "text", text="Hi"), error])
    pieces = one_byte_pieces(body) if in_pieces else [body]

    events, failed = read_until_failure(chat_format("anthropic").chat_stream(TARGET), pieces)

    assert "".join(event.part_delta.text for event in events) == "Hi"
    assert failed is not None
    assert (failed.reason_name, failed.retryable) == (reason, retryable)
    assert "Secret" not in failed.message
    assert "http_status" not in failed.metadata
