"""A streamed answer becomes events, wherever the bytes are cut; a broken one is never a short success."""

from base64 import b64encode
from random import Random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_target,
    one_byte_pieces,
    random_pieces,
    read_stream,
    read_until_failure,
    to_sse,
)

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test-1"}


def chunk(delta: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    """A chunk with one choice."""
    return {**HEAD, "choices": [{"index": 0, "delta": delta or {}, "finish_reason": None, **choice}]}


FIRST = chunk({"role": "assistant", "content": "", "refusal": None})
STOP = chunk(finish_reason="stop")
USAGE = {**HEAD, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}


def call(index: int | None = 0, **piece: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [piece if index is None else {"index": index, **piece}]})


def named(name: str, call_id: str = "", *, index: int | None = 0, **function: Any) -> dict[str, Any]:
    return call(index, id=call_id, type="function", function={"name": name, **function})


def arguments(text: str, *, index: int | None = 0, **piece: Any) -> dict[str, Any]:
    return call(index, function={"arguments": text}, **piece)


def fold(*chunks: object, done: bool = True) -> ChatCompletion:
    return fold_stream([to_sse(chunks, done=done)])


def parts_of(*chunks: object) -> list[dict[str, Any]]:
    choice = fold(FIRST, *chunks, STOP).choices[0]
    return [MessageToDict(part) for part in choice.message.parts]


def kinds_of(events: list[ChatEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def test_the_events_of_a_plain_answer() -> None:
    body = to_sse([FIRST, chunk({"content": "Hel"}), chunk({"content": "lo"}), STOP, USAGE])

    events = read_stream(chat_format().chat_stream(make_target()), [body])

    assert [MessageToDict(event) for event in events] == [
        {"start": {"servedBy": {"providerModel": "gpt-test-1", "providerResponseId": "chatcmpl-1"}}},
        {"partStart": {"part": {"text": {}}}},
        {"partDelta": {"text": "Hello"}},
        {"partEnd": {}},
        {"choiceEnd": {"finish": {"reason": "FINISH_REASON_STOP", "providerReason": "stop"}}},
        {
            "end": {
                "usage": {
                    "inputTokens": "5",
                    "outputTokens": "2",
                    "totalTokens": "7",
                    "state": "USAGE_STATE_PROVIDER_REPORTED",
                }
            }
        },
    ]


def test_content_is_given_out_as_soon_as_it_is_there() -> None:
    parser = chat_format().chat_stream(make_target())
    steps = ([FIRST], [chunk({"content": "a"})], [chunk({"content": "b"})], [STOP, USAGE])

    seen = [(kinds_of(parser.feed(to_sse(step, done=False))), parser.has_content) for step in steps]

    assert seen == [
        (["start"], False),
        (["part_start", "part_delta"], True),
        (["part_delta"], True),
        ([], True),
    ]
    assert kinds_of(parser.close()) == ["part_end", "choice_end", "end"]


def test_choices_interleave() -> None:
    def both(delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
        return [chunk(delta, index=index, finish_reason=reason) for index in (0, 1)]

    completion = fold(*both({"content": "a"}), *both({"content": "b"}), *both({}, "stop"))

    assert [choice.message.parts[0].text.text for choice in completion.choices] == ["ab", "ab"]
    assert [choice.index for choice in completion.choices] == [0, 1]


def test_parallel_calls_are_joined_by_index() -> None:
    assert parts_of(
        chunk({"content": "Wait."}),
        named("f", "c1", arguments=""),
        arguments('{"a"'),
        arguments(":1}"),
        named("g", "c2", index=1),
        arguments("{}", index=1),
    ) == [
        {"text": {"text": "Wait."}},
        {"toolCall": {"toolCallId": "c1", "toolName": "f", "arguments": '{"a":1}'}},
        {"toolCall": {"toolCallId": "c2", "toolName": "g", "arguments": "{}"}},
    ]


def test_pieces_of_calls_may_alternate() -> None:
    assert parts_of(
        named("f", "c1"),
        named("g", "c2", index=1),
        arguments("{", index=0),
        arguments("[", index=1),
        arguments("}", index=0),
        arguments("]", index=1),
    ) == [
        {"toolCall": {"toolCallId": "c1", "toolName": "f", "arguments": "{}"}},
        {"toolCall": {"toolCallId": "c2", "toolName": "g", "arguments": "[]"}},
    ]


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        # The whole call at once.
        ([named("f", "c", arguments="{}")], [("c", "f", "{}")]),
        # No id at all, or an empty one.
        ([named("f"), arguments("{}")], [("call_0_0", "f", "{}")]),
        ([named("f"), named("g", index=1)], [("call_0_0", "f", ""), ("call_0_1", "g", "")]),
        # Id and name again on every piece.
        ([named("f", "c", arguments="{"), named("f", "c", arguments="}")], [("c", "f", "{}")]),
        # Id and arguments before the name.
        ([arguments("{", id="c"), named("f", arguments="}")], [("c", "f", "{}")]),
        # No index.
        (
            [
                named("f", "c1", index=None),
                arguments("{}", index=None),
                named("g", "c2", index=None),
                arguments("[]", index=None, id="c2"),
            ],
            [("c1", "f", "{}"), ("c2", "g", "[]")],
        ),
        # Index 0 for every call.
        (
            [named("f", "c1", arguments="{}"), named("g", "c2", arguments="[]")],
            [("c1", "f", "{}"), ("c2", "g", "[]")],
        ),
        # The old field.
        (
            [
                chunk({"function_call": {"name": "f", "arguments": ""}}),
                chunk({"function_call": {"arguments": "{}"}}),
            ],
            [("call_0_0", "f", "{}")],
        ),
    ],
)
def test_how_servers_write_calls(chunks: list[dict[str, Any]], calls: list[tuple[str, str, str]]) -> None:
    parts = fold(*chunks, STOP).choices[0].message.parts

    assert [
        (part.tool_call.tool_call_id, part.tool_call.tool_name, part.tool_call.arguments) for part in parts
    ] == calls


def test_free_form_calls() -> None:
    assert parts_of(
        call(id="c", type="custom", custom={"name": "shell", "input": ""}),
        call(custom={"input": "ls {"}),
    ) == [{"toolCall": {"toolCallId": "c", "toolName": "shell", "arguments": "ls {", "freeForm": True}}]


def test_a_call_of_an_unknown_type_comes_whole_at_the_end() -> None:
    assert parts_of(
        call(id="c", type="mcp", mcp={"server": "s", "input": "a"}), call(type="mcp", mcp={"input": "b"})
    ) == [
        {
            "provider": {
                "providerType": "openai",
                "blockType": "tool_calls/mcp",
                "blockJson": '{"id":"c","type":"mcp","mcp":{"server":"s","input":"ab"}}',
            }
        }
    ]


def test_what_alternates_keeps_its_order() -> None:
    assert parts_of(
        chunk({"reasoning": "t1"}),
        chunk({"reasoning": "t2"}),
        chunk({"content": "a"}),
        chunk({"reasoning": "t3"}),
        chunk({"content": "b"}),
        named("f", "c"),
        chunk({"content": "d"}),
    ) == [
        {"reasoning": {"text": "t1t2"}},
        {"text": {"text": "a"}},
        {"reasoning": {"text": "t3"}},
        {"text": {"text": "b"}},
        {"toolCall": {"toolCallId": "c", "toolName": "f"}},
        {"text": {"text": "d"}},
    ]


@pytest.mark.parametrize(
    ("chunks", "parts"),
    [
        (
            [chunk({"reasoning_content": "t", "content": "a"})],
            [{"reasoning": {"text": "t"}}, {"text": {"text": "a"}}],
        ),
        ([chunk({"refusal": "No"}), chunk({"refusal": "."})], [{"refusal": {"text": "No."}}]),
        ([chunk({"content": "<think>"}), chunk({"content": "x"})], [{"text": {"text": "<think>x"}}]),
        (
            [chunk({"content": [{"type": "text", "text": "a"}]}), chunk({"content": [{"type": "new"}]})],
            [
                {"text": {"text": "a"}},
                {"provider": {"providerType": "openai", "blockType": "new", "blockJson": '{"type":"new"}'}},
            ],
        ),
        # A server that has not stopped after all.
        (
            [
                chunk({"content": "a"}, finish_reason="stop"),
                chunk({"content": "b"}),
                named("f", "c"),
                chunk(finish_reason="stop"),
                arguments("{}"),
            ],
            [
                {"text": {"text": "ab"}},
                {"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": "{}"}},
            ],
        ),
    ],
)
def test_other_deltas(chunks: list[dict[str, Any]], parts: list[dict[str, Any]]) -> None:
    assert parts_of(*chunks) == parts


def test_citations_wait_for_their_text() -> None:
    def cite(url: str) -> dict[str, Any]:
        return {"annotations": [{"type": "url_citation", "url_citation": {"url": url}}]}

    assert parts_of(chunk(cite("https://a")), chunk({"content": "x"}), chunk(cite("https://b"))) == [
        {"text": {"text": "x", "citations": [{"uri": "https://a"}, {"uri": "https://b"}]}}
    ]
    lonely = fold(chunk(cite("https://a")), STOP).choices[0]
    assert MessageToDict(lonely.provider_metadata) == {"message": cite("https://a")}


def test_sound_may_be_cut_inside_a_group_of_base64() -> None:
    data = b64encode(b"\x01\x02\x03\x04\x05\x06\x07").decode()
    pieces = [
        {"id": "audio_1", "transcript": "Hel"},
        {"data": data[:3]},
        {"transcript": "lo"},
        {"data": data[3:]},
        {"expires_at": 9},
    ]

    choice = fold(*(chunk({"audio": piece}) for piece in pieces), STOP).choices[0]

    assert MessageToDict(choice.message.parts[0]) == {
        "audio": {"source": {"inlineData": data, "mimeType": "audio/pcm"}, "transcript": "Hello"},
        "providerSignature": b64encode(b"audio_1").decode(),
    }
    assert MessageToDict(choice.provider_metadata) == {"message": {"audio": {"expires_at": 9}}}


def logprobs(*tokens: str) -> dict[str, Any]:
    return {
        "content": [{"token": token, "logprob": -1.0, "bytes": None, "top_logprobs": []} for token in tokens]
    }


def test_log_probabilities_stay_in_order_when_deltas_are_joined() -> None:
    chunks = [
        chunk({"content": ""}, logprobs=logprobs("a")),
        chunk({"content": "bc"}, logprobs=logprobs("b", "c")),
        chunk({"content": "d"}, logprobs=logprobs("d")),
        chunk({}, logprobs=logprobs("e"), finish_reason="stop"),
    ]

    whole = fold_stream([to_sse(chunks)])
    cut = fold_stream(one_byte_pieces(to_sse(chunks)))

    assert [token.token for token in whole.choices[0].logprobs] == list("abcde")
    assert cut == whole


@pytest.mark.parametrize(
    "chunks",
    [
        # Where OpenAI puts it, where others do, on every chunk, and before the end.
        [STOP, USAGE],
        [{**STOP, "usage": USAGE["usage"]}],
        [{**chunk({"content": "a"}), "usage": {"prompt_tokens": 5, "completion_tokens": 1}}, STOP, USAGE],
        [{**USAGE, "choices": None}, STOP],
        [{**FIRST, "usage": None}, {**STOP, "usage": USAGE["usage"]}, {**HEAD, "choices": [], "usage": None}],
    ],
)
def test_usage_is_taken_wherever_it_is(chunks: list[dict[str, Any]]) -> None:
    usage = fold(FIRST, *chunks).usage

    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (5, 2, 7)


def test_usage_so_far_is_known_while_the_stream_goes_on() -> None:
    parser = chat_format().chat_stream(make_target())

    parser.feed(to_sse([FIRST], done=False))
    before = parser.usage
    parser.feed(to_sse([{**FIRST, "usage": {"prompt_tokens": 5, "completion_tokens": 1}}], done=False))
    after = parser.usage

    assert before is None
    assert after is not None
    assert after.total_tokens == 6


def test_a_stream_without_usage_has_none() -> None:
    assert not fold(FIRST, STOP).HasField("usage")


def test_what_has_no_field_is_handed_on() -> None:
    completion = fold(
        {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {**chunk({"content": "a", "images": ["x"]}), "service_tier": "default", "obfuscation": "zzz"},
        chunk({"images": ["y"]}, content_filter_results={"hate": {"filtered": False}}, token_ids=[1]),
        chunk(
            {},
            content_filter_results={"violence": {"filtered": True}},
            token_ids=[2],
            finish_reason="stop",
            stop_reason=7,
        ),
        {**USAGE, "usage": {**USAGE["usage"], "latency_ms": 5}},  # type: ignore[dict-item]
    )

    assert MessageToDict(completion.provider_metadata) == {
        "prompt_filter_results": [{"prompt_index": 0}],
        "service_tier": "default",
        "usage": {"latency_ms": 5},
    }
    assert MessageToDict(completion.choices[0].provider_metadata) == {
        "content_filter_results": {"hate": {"filtered": False}, "violence": {"filtered": True}},
        "token_ids": [1, 2],
        "stop_reason": 7,
        "message": {"images": ["x", "y"]},
    }
    assert completion.served_by.provider_response_id == "chatcmpl-1"


@pytest.mark.parametrize(
    "ending",
    [
        b"",
        b"data: [DONE]",
        b"data: [DONE]\n",
        b"data: [DONE]\r\n\r\n",
        b"data: [DONE]\n\n: bye\n\n \n",
        b"data: [DONE]\n\ndata: [DONE]\n\n",
        b"data:\n\n",
    ],
)
def test_a_stream_ends_with_or_without_its_mark(ending: bytes) -> None:
    body = to_sse([FIRST, chunk({"content": "a"}), STOP], done=False) + ending

    assert fold_stream([body]).choices[0].message.parts[0].text.text == "a"


def test_a_last_event_without_its_blank_line_still_counts() -> None:
    body = to_sse([FIRST, STOP, USAGE], done=False).removesuffix(b"\n\n")

    assert fold_stream([body]).usage.total_tokens == 7


def outcome(body: bytes, *, cut: bool) -> tuple[list[ChatEvent], GatewayError | None]:
    parser = chat_format().chat_stream(make_target())
    return read_until_failure(parser, one_byte_pieces(body) if cut else [body])


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "the stream holds no answer"),
        (b"<html>\n", "the stream holds no answer"),
        (b"<html>", "the stream ended in the middle of an event"),
        (b'{"choices": []}', "the stream ended in the middle of an event"),
        (to_sse([FIRST, STOP], done=False) + b"data", "the stream ended in the middle of an event"),
        (to_sse([FIRST, STOP], done=False) + b"data: ", "the stream ended in the middle of an event"),
        (b"data: [DONE]\n\n", "the stream holds no answer"),
        (to_sse([USAGE]), "the stream holds no answer"),
        (to_sse([FIRST], done=False), "the stream ended before choice 0 was finished"),
        (to_sse([FIRST, chunk({"content": "a"})]), "the stream ended before choice 0 was finished"),
        (
            to_sse([STOP, chunk({"content": "a"}, index=1)]),
            "the stream ended before choice 1 was finished",
        ),
        (to_sse([FIRST, chunk(finish_reason="")]), "the stream ended before choice 0 was finished"),
        (
            to_sse([FIRST, STOP, chunk({"content": "a"})])[:-40],
            "an event of the stream is not JSON, or was cut off",
        ),
        (b"data: {\n\n", "an event of the stream is not JSON, or was cut off"),
        (b'data: {"choices": "\xff"}\n\n', "an event of the stream is not JSON, or was cut off"),
        (b"data: 5\n\n", "an event of the stream is not a JSON object"),
        (b"data: null\n\n", "an event of the stream is not a JSON object"),
        (to_sse([FIRST, STOP]) + to_sse([FIRST]), "the stream goes on after [DONE]"),
        (to_sse([{**HEAD, "choices": {}}]), "chunk.choices is not a list"),
        (to_sse([{**HEAD, "choices": [1]}]), "choices[] is not an object"),
        (to_sse([{**FIRST, "id": 5}]), "chunk.id is not text"),
        (to_sse([chunk({}, index="0")]), "choices[].index is not an index"),
        (to_sse([chunk({}, index=[])]), "choices[].index is not an index"),
        (to_sse([{**HEAD, "choices": [{"delta": "a"}]}]), "choices[0].delta is not an object"),
        (to_sse([chunk({"content": 5})]), "choices[0].delta.content is not text"),
        (to_sse([chunk({"content": {}, "x": 1})]), "choices[0].delta.content is not text"),
        (to_sse([chunk({}, finish_reason=5)]), "choices[0].finish_reason is not text"),
        (to_sse([chunk({}, logprobs=5)]), "choices[0].logprobs is not an object"),
        (to_sse([chunk({"tool_calls": {}})]), "choices[0].delta.tool_calls is not a list"),
        (to_sse([chunk({"tool_calls": [5]})]), "choices[0].delta.tool_calls[] is not an object"),
        (to_sse([call(-1)]), "choices[0].delta.tool_calls[].index is not an index"),
        (to_sse([call(function="f")]), "choices[0].delta.tool_calls[].function is not an object"),
        (to_sse([arguments("{}", id="c"), STOP]), "choices[0].delta.tool_calls[] has no name"),
        (to_sse([named("f", "c"), named("g", "c", index=1)]), "two tool calls have the same id"),
        (to_sse([named("f", "c"), named("g")]), "a tool call changes its name"),
        (to_sse([chunk({"audio": {"data": "a"}}), STOP]), "choices[0].delta.audio.data is not base64"),
        (to_sse([chunk({"audio": {"data": "????"}}), STOP]), "choices[0].delta.audio.data is not base64"),
        (to_sse([{**FIRST, "usage": 5}]), "chunk.usage is not an object"),
        (to_sse([STOP, {**USAGE, "usage": {"prompt_tokens": -5}}]), "usage.prompt_tokens is negative"),
    ],
)
def test_what_cannot_be_read_is_told(body: bytes, cause: str) -> None:
    for cut in (False, True):
        _, error = outcome(body, cut=cut)

        assert error is not None
        assert error.reason == ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR
        assert error.metadata == {"provider": "providers/my-openai", "cause": cause}


def test_an_error_in_mid_stream_comes_after_what_was_said() -> None:
    said = {"error": {"message": "Overloaded", "type": "server_error", "code": None}}
    body = to_sse([FIRST, chunk({"content": "a"}), said])

    for cut in (False, True):
        events, error = outcome(body, cut=cut)

        assert kinds_of(events) == ["start", "part_start", "part_delta"]
        assert error is not None
        assert error.reason == ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE
        assert error.metadata == {"provider": "providers/my-openai", "cause": "server_error"}


def test_after_a_failure_nothing_is_read_any_more() -> None:
    parser = chat_format().chat_stream(make_target())
    with pytest.raises(GatewayError):
        parser.feed(b"data: {\n\n")

    with pytest.raises(GatewayError):
        parser.feed(to_sse([FIRST, STOP]))
    with pytest.raises(GatewayError):
        parser.close()


def test_an_endless_event_ends_the_stream() -> None:
    parser = chat_format().chat_stream(make_target())
    piece = b"x" * 1_000_000

    with pytest.raises(GatewayError) as caught:
        for _ in range(20):
            assert parser.feed(piece) == []

    assert caught.value.metadata["cause"] == "an event of the stream is too large"


CONVERSATION = to_sse(
    [
        FIRST,
        chunk({"reasoning": "Hm, é"}),
        chunk({"content": "Ça"}, logprobs=logprobs("Ça")),
        chunk({"content": " va 🙂"}, logprobs=logprobs(" va", " 🙂")),
        named("f", "c1", arguments=""),
        arguments('{"a": "ü'),
        arguments('"}'),
        named("g", "c2", index=1, arguments="{}"),
        chunk(finish_reason="tool_calls"),
        USAGE,
    ]
)


def test_the_answer_does_not_depend_on_the_cuts() -> None:
    whole = fold_stream([CONVERSATION])

    assert fold_stream(one_byte_pieces(CONVERSATION)) == whole
    assert fold_stream(one_byte_pieces(CONVERSATION.replace(b"\n", b"\r\n"))) == whole
    for seed in range(20):
        assert fold_stream(random_pieces(CONVERSATION, Random(seed))) == whole


def test_a_stream_cut_anywhere_before_its_finish_reason_is_an_error() -> None:
    finished = CONVERSATION.index(b'"finish_reason":"tool_calls"')

    for length in range(0, finished, 7):
        events, error = outcome(CONVERSATION[:length], cut=False)

        assert kinds_of(events)[-1:] != ["end"]
        assert error is not None
        assert error.reason == ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR


def test_neighbouring_deltas_of_one_piece_of_the_body_become_one_event() -> None:
    body = to_sse([FIRST, *[chunk({"content": str(number)}) for number in range(50)], STOP, USAGE])

    events = read_stream(chat_format().chat_stream(make_target()), [body])

    assert kinds_of(events) == ["start", "part_start", "part_delta", "part_end", "choice_end", "end"]
    assert fold_events(events).choices[0].message.parts[0].text.text == "".join(map(str, range(50)))
