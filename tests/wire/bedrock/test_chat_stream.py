"""Bedrock's streams as events; boto3 reads what the test upstream frames before that upstream is trusted."""

import struct
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import orjson
import pytest
from botocore.exceptions import EventStreamError

from aigateway.v1.chat_service_pb2 import ChatCompletion, FinishReason
from aigateway.v1.content_pb2 import LocationUnit
from gateway_server.errors import GatewayError
from gateway_server.providers.wire.json_values import from_struct
from tests.support.event_stream import encode_message, event, exception, to_event_stream
from tests.support.wire import chat_format, fold_stream, make_target, one_byte_pieces, read_until_failure

CLAUDE = make_target("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
NOVA = make_target("bedrock", "us.amazon.nova-2-lite-v1:0")
USAGE = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}
START: dict[str, Any] = {"messageStart": {"role": "assistant", "p": "abc"}}
END: dict[str, Any] = {"messageStop": {"stopReason": "end_turn"}}
METADATA: dict[str, Any] = {"metadata": {"usage": USAGE, "metrics": {"latencyMs": 9}, "p": "abcdef"}}


def delta(content: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": content, "p": "ab"}}


def begin(start: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"contentBlockStart": {"contentBlockIndex": index, "start": start}}


def stop(index: int = 0) -> dict[str, Any]:
    return {"contentBlockStop": {"contentBlockIndex": index}}


def text(words: str, index: int = 0) -> dict[str, Any]:
    return delta({"text": words}, index)


def thought(content: dict[str, Any]) -> dict[str, Any]:
    return delta({"reasoningContent": content})


CALL = {"toolUse": {"toolUseId": "t1", "name": "get_weather"}}
ALL = [
    START,
    delta({"reasoningContent": {"text": "Hm"}}),
    delta({"reasoningContent": {"signature": "c2ln"}}),
    stop(),
    delta({"reasoningContent": {"redactedContent": b64encode(b"RXQ=").decode()}}, 1),
    stop(1),
    text("He", 2),
    text("llo", 2),
    stop(2),
    begin(CALL, 3),
    delta({"toolUse": {"input": '{"city":'}}, 3),
    delta({"toolUse": {"input": ' "Graz"}'}}, 3),
    stop(3),
    {"messageStop": {"stopReason": "tool_use"}},
    METADATA,
]


def fold(events: list[dict[str, Any]]) -> ChatCompletion:
    return fold_stream([to_event_stream(events)], CLAUDE)


# The judge.


def ask_boto3(body: bytes) -> list[dict[str, Any]]:
    """The events that boto3 reads from a server that streams this body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/vnd.amazon.eventstream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        session = boto3.Session("AKIAIOSFODNN7EXAMPLE", "secret", region_name="us-east-1")
        client = session.client("bedrock-runtime", endpoint_url=f"http://127.0.0.1:{server.server_port}")
        asked = [{"role": "user", "content": [{"text": "Hi"}]}]
        events: list[dict[str, Any]] = []
        try:
            answer = client.converse_stream(modelId="m", messages=asked)
            events += answer["stream"]
        finally:
            thread.join()
            client.close()
    return events


def without_padding(value: Any) -> Any:
    return {key: item for key, item in value.items() if key != "p"} if isinstance(value, dict) else value


def test_boto3_reads_what_the_test_upstream_frames() -> None:
    read = ask_boto3(to_event_stream(ALL))

    told = [{kind: without_padding(payload) for kind, payload in each.items()} for each in ALL]
    # boto3 gives bytes for base64.
    told[4]["contentBlockDelta"]["delta"] = {"reasoningContent": {"redactedContent": b"RXQ="}}
    assert read == told


@pytest.mark.parametrize("kind", ["throttlingException", "modelStreamErrorException", "validationException"])
def test_boto3_raises_what_the_test_upstream_raises(kind: str) -> None:
    with pytest.raises(EventStreamError, match=kind):
        ask_boto3(to_event_stream([START]) + exception(kind))


# What is read.


def test_a_stream_with_everything() -> None:
    body = to_event_stream(ALL)

    completion = fold_stream([body], CLAUDE)

    assert fold_stream(one_byte_pieces(body), CLAUDE) == completion
    thought, sealed, words, call = completion.choices[0].message.parts
    assert (thought.reasoning.text, thought.provider_signature) == ("Hm", b"anthropic:c2ln")
    assert sealed.reasoning.redacted_data == b"anthropic:RXQ="
    assert words.text.text == "Hello"
    assert (call.tool_call.tool_call_id, call.tool_call.tool_name) == ("t1", "get_weather")
    assert call.tool_call.arguments == '{"city": "Graz"}'
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    assert completion.usage.total_tokens == 7
    assert completion.served_by.provider_model == CLAUDE.provider_model
    assert from_struct(completion.provider_metadata) == {"metrics": {"latencyMs": 9}}


def test_a_stream_says_what_the_whole_answer_says() -> None:
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": b64encode(b"RXQ=").decode()}},
        {"text": "Hello"},
        {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Graz"}}},
    ]
    answer = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use",
        "usage": USAGE,
        "metrics": {"latencyMs": 9},
    }

    whole = chat_format("bedrock").parse_chat(orjson.dumps(answer), CLAUDE)

    streamed = fold(ALL)
    assert streamed.choices[0].message.parts[3].tool_call.arguments == '{"city": "Graz"}'
    streamed.choices[0].message.parts[3].tool_call.arguments = '{"city":"Graz"}'
    assert streamed == whole


def test_seals_of_other_models_are_their_own() -> None:
    body = to_event_stream(
        [
            START,
            delta({"reasoningContent": {"text": "Hm", "signature": "s"}}),
            stop(),
            delta({"reasoningContent": {"redactedContent": "AAE="}}, 1),
            END,
        ]
    )

    thought, sealed = fold_stream([body], NOVA).choices[0].message.parts

    assert thought.provider_signature == b"bedrock:s"
    assert sealed.reasoning.redacted_data == b"bedrock:AAE="


def test_usage_counts_what_was_cached() -> None:
    usage = {
        "inputTokens": 3,
        "outputTokens": 4,
        "totalTokens": 107,
        "cacheReadInputTokens": 60,
        "cacheWriteInputTokens": 40,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 10}],
        "serverToolUsage": {"webSearchRequests": 1},
    }

    completion = fold([START, text("Hi"), END, {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}])

    read = completion.usage
    assert (read.input_tokens, read.output_tokens, read.total_tokens) == (103, 4, 107)
    assert (read.cache_read_input_tokens, read.cache_write_input_tokens) == (60, 40)
    assert read.cache_write_long_input_tokens == 30
    assert from_struct(completion.provider_metadata)["usage"] == {"serverToolUsage": {"webSearchRequests": 1}}


@pytest.mark.parametrize("pieces", [[], [""], ["", ""]])
def test_a_call_without_arguments_is_an_empty_object(pieces: list[str]) -> None:
    deltas = [delta({"toolUse": {"input": piece}}) for piece in pieces]

    completion = fold([START, begin(CALL), *deltas, delta({"toolUse": {}}), stop(), END])

    assert completion.choices[0].message.parts[0].tool_call.arguments == "{}"
    # By presence, whatever the word.
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS


def test_tools_that_the_provider_runs_are_sent_back_as_they_came() -> None:
    call = {"toolUseId": "s1", "name": "nova_code_interpreter", "type": "server_tool_use"}
    result = {"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success"}
    completion = fold(
        [
            START,
            begin({"toolUse": call}),
            delta({"toolUse": {"input": '{"a": 12345678901234567890123}'}}),
            stop(),
            begin({"toolResult": result}, 1),
            delta({"toolResult": [{"json": {"exitCode": 0}}, {"text": "a"}]}, 1),
            delta({"toolResult": [{"text": "b"}]}, 1),
            stop(1),
            text("Done", 2),
            END,
        ]
    )

    first, second, words = completion.choices[0].message.parts
    assert (first.provider.provider_type, first.provider.block_type) == ("bedrock", "toolUse")
    assert first.provider.block_json == (
        '{"toolUse":{"toolUseId":"s1","name":"nova_code_interpreter","type":"server_tool_use",'
        '"input":{"a": 12345678901234567890123}}}'
    )
    assert second.provider.block_json == (
        '{"toolResult":{"toolUseId":"s1","type":"nova_code_interpreter_result","status":"success",'
        '"content":[{"json":{"exitCode":0}},{"text":"ab"}]}}'
    )
    assert words.text.text == "Done"
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_STOP


def test_citations_belong_to_their_text() -> None:
    place = {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}}
    cited = {"title": "T", "sourceContent": [{"text": "a"}, {"text": "b"}], "location": place}
    web = {"title": "W", "location": {"web": {"url": "https://example.com", "domain": "example.com"}}}
    found = {"source": "s3://x", "location": {"searchResultLocation": {"searchResultIndex": 0}}}

    completion = fold(
        [START, text("Hi"), *(delta({"citation": each}) for each in (cited, web, found)), stop(), END]
    )

    [part] = completion.choices[0].message.parts
    document, page, source = part.text.citations
    assert (document.title, document.cited_text, document.document.document_index) == ("T", "ab", 1)
    assert document.document.unit == LocationUnit.LOCATION_UNIT_PAGE
    assert (document.document.start, document.document.end) == (2, 3)
    assert (page.uri, source.uri) == ("https://example.com", "s3://x")
    assert page.provider_signature.startswith(b'{"bedrock":{')


def test_a_picture_grows() -> None:
    png = b"\x89PNG\r\n\x1a\n123"
    halves = [b64encode(png[:6]).decode(), b64encode(png[6:]).decode()]

    completion = fold(
        [
            START,
            begin({"image": {"format": "png"}}),
            *(delta({"image": {"source": {"bytes": half}}}) for half in halves),
            stop(),
            END,
        ]
    )

    source = completion.choices[0].message.parts[0].image.source
    assert (source.mime_type, source.inline_data) == ("image/png", png)


def test_blocks_of_kinds_that_are_not_known_are_kept() -> None:
    completion = fold(
        [
            START,
            begin({"hologram": {"id": "h1", "depth": 3}}),
            delta({"hologram": {"voxels": "ab", "list": [1]}}),
            delta({"hologram": {"voxels": "cd", "list": [2]}}),
            stop(),
            END,
        ]
    )

    block = completion.choices[0].message.parts[0].provider
    assert (block.block_type, block.block_json) == (
        "hologram",
        '{"hologram":{"id":"h1","depth":3,"voxels":"abcd","list":[1,2]}}',
    )


@pytest.mark.parametrize(
    "events",
    [
        [text("Hi"), stop(), END, METADATA],
        [START, text("Hi"), END],
        [START, text("Hi"), {"somethingNew": {"a": 1}}, stop(), END, {"somethingNew": {}}],
        [START, text(""), text("H"), text("i"), stop(), END, METADATA],
        [START, begin({}), text("Hi"), stop(), END],
    ],
)
def test_streams_that_differ_in_what_does_not_matter(events: list[dict[str, Any]]) -> None:
    completion = fold(events)

    assert [part.text.text for part in completion.choices[0].message.parts] == ["Hi"]
    assert completion.HasField("usage") == (METADATA in events)


def test_an_empty_answer() -> None:
    completion = fold([START, stop(), END, METADATA])

    assert not completion.choices[0].message.parts
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_STOP


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.FINISH_REASON_STOP),
        ("stop_sequence", FinishReason.FINISH_REASON_STOP_SEQUENCE),
        ("max_tokens", FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS),
        ("model_context_window_exceeded", FinishReason.FINISH_REASON_CONTEXT_WINDOW),
        ("tool_use", FinishReason.FINISH_REASON_TOOL_CALLS),
        ("guardrail_intervened", FinishReason.FINISH_REASON_CONTENT_FILTER),
        ("content_filtered", FinishReason.FINISH_REASON_CONTENT_FILTER),
        ("malformed_tool_use", FinishReason.FINISH_REASON_MALFORMED_TOOL_CALL),
        ("malformed_model_output", FinishReason.FINISH_REASON_OTHER),
        ("something_new", FinishReason.FINISH_REASON_OTHER),
    ],
)
def test_how_answers_end(word: str, reason: FinishReason.ValueType) -> None:
    finish = fold([START, text("Hi"), {"messageStop": {"stopReason": word}}]).choices[0].finish

    assert (finish.reason, finish.provider_reason) == (reason, word)


def test_traces_do_not_tell_the_account() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:guardrail/abc"
    trace = {"guardrail": {"inputAssessment": {arn: [{"guardrailArn": arn, "count": 123456789012}]}}}

    completion = fold([START, END, {"metadata": {"usage": USAGE, "trace": trace}}])

    masked = "arn:aws:bedrock:us-east-1::guardrail/abc"
    assert from_struct(completion.provider_metadata)["trace"] == {
        "guardrail": {"inputAssessment": {masked: [{"guardrailArn": masked, "count": 123456789012}]}}
    }


def fail(body: bytes) -> GatewayError:
    """The failure of a stream, the same wherever it is cut."""
    failures: list[GatewayError] = []
    for pieces in ([body], one_byte_pieces(body)):
        _, failure = read_until_failure(chat_format("bedrock").chat_stream(CLAUDE), pieces)
        assert failure is not None
        failures.append(failure)
    whole, cut = failures
    assert (whole.reason_name, whole.message) == (cut.reason_name, cut.message)
    return whole


@pytest.mark.parametrize(
    "events",
    [
        [],
        [START],
        [START, text("Hi"), stop(), METADATA],
        [START, START],
        [START, text("Hi"), END, text("more")],
        [START, text("Hi"), END, END],
        [START, text("Hi"), {"messageStop": {}}],
        [START, text("Hi", 1), text("back", 0), END],
        [START, text("Hi"), stop(), text("again"), END],
        [START, text("Hi"), stop(), stop(), END],
        [START, begin(CALL), text("Hi"), END],
        [START, begin(CALL), stop(), begin(CALL, 1), stop(1), END],
        [START, begin({"toolUse": {"name": "f"}}), END],
        [START, text("Hi"), delta({"toolUse": {"input": "{}"}}), END],
        [
            START,
            delta({"reasoningContent": {"text": "Hm"}}),
            delta({"reasoningContent": {"redactedContent": "AA=="}}),
            END,
        ],
        [START, delta({"reasoningContent": {"redactedContent": "no base64"}}), END],
        [START, begin({"image": {"format": "png"}}), delta({"image": {"error": {"message": "x"}}}), END],
        [START, {"contentBlockDelta": {"contentBlockIndex": 0}}, END],
        [START, {"contentBlockDelta": {"delta": {"text": "Hi"}}}, END],
        [START, delta({"text": 5}), END],
        [START, text("Hi"), END, {"metadata": {"usage": {"inputTokens": -1}}}],
        [START, text("Hi"), END, {"metadata": {"usage": [1]}}],
        [START, begin({}), delta({"toolUse": {"input": "{}"}}), stop(), END, METADATA],
        [START, delta({"toolUse": {"input": "{}"}}), stop(), END, METADATA],
        [START, delta({"image": {"source": {"bytes": "aGk="}}}), stop(), END, METADATA],
        [
            START,
            begin({"toolUse": {"toolUseId": "s", "name": "n", "type": "server_tool_use"}}),
            delta({"toolUse": {"input": "{"}}),
            stop(),
            END,
        ],
    ],
)
def test_streams_that_break_their_format(events: list[dict[str, Any]]) -> None:
    assert fail(to_event_stream(events)).reason_name == "UPSTREAM_PROTOCOL_ERROR"


EVENT = {":event-type": "messageStart", ":message-type": "event"}


@pytest.mark.parametrize(
    "body",
    [
        b"data: {}\n\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\0" * 20,
        encode_message(EVENT, b"not JSON"),
        encode_message(EVENT, b"[]") + event("contentBlockDelta", []),
        encode_message({}, b""),
        encode_message({":message-type": "gossip"}, b"{}"),
        event("messageStart", {})[:-1],
        event("messageStart", {}) + b"\0\0",
    ],
)
def test_bytes_that_are_no_stream(body: bytes) -> None:
    assert fail(body).reason_name == "UPSTREAM_PROTOCOL_ERROR"


def _damage(place: Callable[[bytes], int]) -> bytes:
    message = event("messageStart", {"role": "assistant"})
    damaged = bytearray(message)
    damaged[place(message)] ^= 1
    return bytes(damaged) + to_event_stream([text("Hi"), END])


@pytest.mark.parametrize("place", [0, 4, 8, 12, 20, 60, -5, -1])
def test_both_checksums_are_checked(place: int) -> None:
    assert "damaged" in fail(_damage(lambda message: place % len(message))).message


def test_a_length_that_was_made_up_is_not_waited_for() -> None:
    lengths = struct.pack("!II", 2**31, 0)
    parser = chat_format("bedrock").chat_stream(CLAUDE)

    with pytest.raises(GatewayError, match="damaged or too large"):
        parser.feed(lengths + struct.pack("!I", zlib.crc32(lengths)))


def test_what_came_before_a_damage_is_given_out_first() -> None:
    parser = chat_format("bedrock").chat_stream(CLAUDE)

    events = parser.feed(to_event_stream([START, text("Hi")]) + b"\xff" * 16)

    assert [each.WhichOneof("event") for each in events] == ["start", "part_start", "part_delta"]
    with pytest.raises(GatewayError):
        parser.feed(b"")
