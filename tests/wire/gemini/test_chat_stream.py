"""A streamed answer becomes events, wherever the bytes are cut; a broken one is never a short success."""

from base64 import b64encode
from random import Random
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent, FinishReason
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.errors import GatewayError
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_target,
    one_byte_pieces,
    random_pieces,
    read_stream,
    read_until_failure,
)

TARGET = make_target("google", "gemini-test")
HEAD = {"modelVersion": "gemini-test-001", "responseId": "r1"}


def chunk(
    *parts: dict[str, Any], reason: str | None = None, index: int | None = 0, **more: Any
) -> dict[str, Any]:
    """A chunk with one candidate."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if reason is not None:
        candidate["finishReason"] = reason
    if index is not None:
        candidate["index"] = index
    return {"candidates": [{**candidate, **more}], **HEAD}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"text": words, **more}


STOP = chunk(reason="STOP")


def to_sse(*chunks: object) -> bytes:
    """Chunks as Google frames them: with CRLF, and nothing at the end."""
    return b"".join(b"data: " + orjson.dumps(each) + b"\r\n\r\n" for each in chunks)


def events_of(*chunks: object) -> list[ChatEvent]:
    return read_stream(chat_format("google").chat_stream(TARGET), [to_sse(*chunks)])


def fold(*chunks: object) -> ChatCompletion:
    return fold_stream([to_sse(*chunks)], TARGET)


def parts_of(*chunks: object) -> list[dict[str, Any]]:
    return [MessageToDict(part) for part in fold(*chunks, STOP).choices[0].message.parts]


def failure_of(body: bytes) -> tuple[list[ChatEvent], GatewayError]:
    events, failure = read_until_failure(chat_format("google").chat_stream(TARGET), [body])
    assert failure is not None
    return events, failure


def signed(signature: str) -> str:
    return b64encode(b"gemini:" + signature.encode()).decode()


def test_a_plain_stream() -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}

    events = events_of(chunk(text("Hel")), {**chunk(text("lo"), reason="STOP"), "usageMetadata": usage})

    assert [MessageToDict(event) for event in events] == [
        {"start": {"servedBy": {"providerResponseId": "r1", "providerModel": "gemini-test-001"}}},
        {"partStart": {"part": {"text": {}}}},
        {"partDelta": {"text": "Hello"}},
        {"partEnd": {}},
        {"choiceEnd": {"finish": {"reason": "FINISH_REASON_STOP", "providerReason": "STOP"}}},
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


def test_each_piece_is_given_out_at_once() -> None:
    parser = chat_format("google").chat_stream(TARGET)

    first = parser.feed(to_sse(chunk(text("Hel"))))
    assert parser.has_content
    second = parser.feed(to_sse(chunk(text("lo"))))

    assert [event.WhichOneof("event") for event in first] == ["start", "part_start", "part_delta"]
    assert [event.part_delta.text for event in second] == ["lo"]


def test_thoughts_words_and_calls_keep_their_order() -> None:
    assert parts_of(
        chunk(text("H", thought=True)),
        chunk(text("m.", thought=True)),
        chunk(text("Look")),
        chunk(text("ing."), {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}),
        chunk({"functionCall": {"name": "g", "id": "x1"}}, text("")),
        chunk(text("Hm.", thought=True), text("Done.")),
    ) == [
        {"reasoning": {"text": "Hm.", "isSummary": True}},
        {"text": {"text": "Looking."}},
        {
            "toolCall": {"toolCallId": "aigw_r1_0_0", "toolName": "f", "arguments": '{"a":1}'},
            "providerSignature": signed("s"),
        },
        {"toolCall": {"toolCallId": "x1", "toolName": "g", "arguments": "{}"}},
        {"reasoning": {"text": "Hm.", "isSummary": True}},
        {"text": {"text": "Done."}},
    ]


def test_a_signature_makes_a_part_of_its_own() -> None:
    """Joined with the text around it, it would not be on the part that was signed."""
    assert parts_of(
        chunk(text("A")),
        chunk(text("B", thoughtSignature="s-1")),
        chunk(text("C")),
        chunk(text("D")),
        chunk(text("", thoughtSignature="s-2")),
    ) == [
        {"text": {"text": "A"}},
        {"text": {"text": "B"}, "providerSignature": signed("s-1")},
        {"text": {"text": "CD"}},
        {"text": {}, "providerSignature": signed("s-2")},
    ]
    assert parts_of(
        chunk(text("A", thought=True)),
        chunk(text("", thought=True, thoughtSignature="s-1")),
        chunk(text("B", thought=True)),
    ) == [
        {"reasoning": {"text": "A", "isSummary": True}},
        {"reasoning": {"isSummary": True}, "providerSignature": signed("s-1")},
        {"reasoning": {"text": "B", "isSummary": True}},
    ]


def test_blocks_and_pictures_come_whole() -> None:
    data = b64encode(b"png").decode()

    assert parts_of(
        chunk({"executableCode": {"code": "1"}}),
        chunk({"inlineData": {"mimeType": "image/png", "data": data}}),
        chunk({"inlineData": {"mimeType": "image/png", "data": data}}),
    ) == [
        {
            "provider": {
                "providerType": "google",
                "blockType": "executableCode",
                "blockJson": '{"executableCode":{"code":"1"}}',
            }
        },
        {"image": {"source": {"inlineData": data, "mimeType": "image/png"}}},
        {"image": {"source": {"inlineData": data, "mimeType": "image/png"}}},
    ]


def sound(data: bytes, mime_type: str = "audio/L16;rate=24000", **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": b64encode(data).decode()}, **more}


def test_pieces_of_raw_sound_are_one_sound() -> None:
    completion = fold(
        chunk(sound(b"ab")),
        chunk(sound(b"cd")),
        chunk(text("And")),
        chunk(sound(b"ef")),
        chunk(sound(b"gh", thoughtSignature="s")),
        chunk(sound(b"ij")),
        chunk(sound(b"kl", "audio/L16;rate=16000")),
        chunk(sound(b"mn", "audio/wav"), sound(b"op", "audio/wav")),
        STOP,
    )

    sounds = [part.audio.source for part in completion.choices[0].message.parts if part.HasField("audio")]
    assert [source.inline_data for source in sounds] == [b"abcd", b"ef", b"gh", b"ij", b"kl", b"mn", b"op"]


def test_candidates_come_side_by_side() -> None:
    both = {
        "candidates": [
            {"content": {"parts": [text("A")]}, "index": 0},
            {"content": {"parts": [text("B")]}, "index": 1},
        ],
        **HEAD,
    }

    completion = fold(both, both, chunk(reason="STOP", index=1), chunk(reason="MAX_TOKENS", index=None))

    assert [choice.message.parts[0].text.text for choice in completion.choices] == ["AA", "BB"]
    assert [choice.finish.provider_reason for choice in completion.choices] == ["MAX_TOKENS", "STOP"]


def test_calls_are_counted_for_each_candidate() -> None:
    call = {"functionCall": {"name": "f"}}

    completion = fold(
        chunk(call), chunk(call, index=1), chunk(call), chunk(reason="STOP", index=1), chunk(reason="STOP")
    )

    ids = [[part.tool_call.tool_call_id for part in choice.message.parts] for choice in completion.choices]
    assert ids == [["aigw_r1_0_0", "aigw_r1_0_1"], ["aigw_r1_1_0"]]
    assert {choice.finish.reason for choice in completion.choices} == {FinishReason.FINISH_REASON_TOOL_CALLS}


# -- calls in pieces ---------------------------------------------------------------------------------------


def piece(*arguments: dict[str, Any], more: bool = True, **call: Any) -> dict[str, Any]:
    if arguments:
        call["partialArgs"] = list(arguments)
    if more:
        call["willContinue"] = True
    return {"functionCall": call}


def at(path: str, **value: Any) -> dict[str, Any]:
    return {"jsonPath": path, **value}


def test_a_call_in_pieces_is_put_together() -> None:
    assert parts_of(
        chunk({**piece(name="f"), "thoughtSignature": "s"}),
        chunk(piece(at("$.city", stringValue="Ro", willContinue=True))),
        chunk(piece(at("$.city", stringValue="me"), at("$.days[0].n", numberValue=1))),
        chunk(
            piece(at("$.days[0]['is it']", boolValue=True), at('$.days[1]["a\\"b"]', nullValue="NULL_VALUE"))
        ),
        chunk(piece(at("$.days[1].list[0]", stringValue="x"))),
        chunk(piece(more=False)),
        chunk(piece(at("$.a", numberValue=2), name="g", id="x1", more=False)),
    ) == [
        {
            "toolCall": {
                "toolCallId": "aigw_r1_0_0",
                "toolName": "f",
                "arguments": '{"city":"Rome","days":[{"n":1,"is it":true},{"a\\"b":null,"list":["x"]}]}',
            },
            "providerSignature": signed("s"),
        },
        {"toolCall": {"toolCallId": "x1", "toolName": "g", "arguments": '{"a":2}'}},
    ]


@pytest.mark.parametrize(
    ("chunks", "cause"),
    [
        ([piece(name="f")], "the answer ended in the middle of a function call"),
        ([piece(more=False)], "a function call has no name"),
        ([piece(name="f"), piece(name="g")], "begins before another call has ended"),
        ([piece(at("$.a"), name="f")], "has no value"),
        ([piece(at("a", numberValue=1), name="f")], "is not the path of an argument"),
        ([piece(at("$", numberValue=1), name="f")], "is not the path of an argument"),
        ([piece(at("$.a[x]", numberValue=1), name="f")], "is not the path of an argument"),
        ([piece(at("$" + ".a" * 65, numberValue=1), name="f")], "is not the path of an argument"),
        ([piece(at("$[0]", numberValue=1), name="f")], "leads nowhere"),
        ([piece(at("$.a[1]", numberValue=1), name="f")], "leads nowhere"),
        ([piece(at("$.a[999999999]", numberValue=1), name="f")], "leads nowhere"),
        ([piece(at("$.a", numberValue=1), at("$.a.b", numberValue=1), name="f")], "leads nowhere"),
        (
            [piece(at("$.a", stringValue="x", willContinue=True), at("$.a", numberValue=1), name="f")],
            "goes on with something that is no text",
        ),
    ],
)
def test_calls_in_pieces_that_do_not_fit(chunks: list[dict[str, Any]], cause: str) -> None:
    _, failure = failure_of(to_sse(*(chunk(each) for each in chunks), STOP))

    assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert failure.message.endswith(cause)


# -- what comes with it ------------------------------------------------------------------------------------


def test_the_last_usage_counts() -> None:
    completion = fold(
        {**chunk(text("A")), "usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 50}},
        {**chunk(text("B")), "usageMetadata": {"promptTokenCount": 9}},
        {
            **chunk(reason="STOP"),
            "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 2, "serviceTier": "standard"},
        },
    )

    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (8, 2)
    assert MessageToDict(completion.provider_metadata) == {"usageMetadata": {"serviceTier": "standard"}}


def test_the_usage_so_far_is_known_at_any_time() -> None:
    parser = chat_format("google").chat_stream(TARGET)
    seen = [parser.usage]

    for count in (9, -9):
        parser.feed(to_sse({**chunk(text("A")), "usageMetadata": {"promptTokenCount": count}}))
        seen.append(parser.usage)

    reported = TokenUsage(input_tokens=9, total_tokens=9, state=UsageState.USAGE_STATE_PROVIDER_REPORTED)
    assert seen == [None, reported, None]


def test_metadata_of_the_last_chunk_that_has_any_counts() -> None:
    low = [{"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "LOW"}]

    completion = fold(
        chunk(text("A"), safetyRatings=low, urlContextMetadata={"urlMetadata": [{"retrievedUrl": "u"}]}),
        chunk(text("B"), safetyRatings=low, groundingMetadata={}),
        {**chunk(reason="STOP", groundingMetadata={"webSearchQueries": ["q"]}), "modelStatus": {"a": 1}},
    )

    assert MessageToDict(completion.choices[0].provider_metadata) == {
        "safetyRatings": low,
        "urlContextMetadata": {"urlMetadata": [{"retrievedUrl": "u"}]},
        "groundingMetadata": {"webSearchQueries": ["q"]},
    }
    assert MessageToDict(completion.provider_metadata) == {"modelStatus": {"a": 1}}


def test_log_probabilities_come_with_their_words() -> None:
    def tokens(*words: str) -> dict[str, Any]:
        return {"chosenCandidates": [{"token": word, "logProbability": -1} for word in words]}

    events = events_of(
        chunk(text("AB"), logprobsResult=tokens("A", "B")),
        chunk(reason="STOP", logprobsResult=tokens("end")),
    )

    [delta] = [event.part_delta for event in events if event.HasField("part_delta")]
    assert [token.token for token in delta.logprobs] == ["A", "B", "end"]


GROUNDING = {
    "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
    "groundingSupports": [{"segment": {"endIndex": 6, "text": "Café"}, "groundingChunkIndices": [0]}],
}
CITATION = {"startIndex": 0, "endIndex": 4, "title": "A", "uri": "https://a.example"}


def grounded(words: str) -> dict[str, Any]:
    end = len(words.encode())
    support = {"segment": {"endIndex": end, "text": words}, "groundingChunkIndices": [0]}
    return {**GROUNDING, "groundingSupports": [support]}


def test_grounding_is_cited_over_all_of_the_text() -> None:
    assert parts_of(chunk(text("Ca")), chunk(text("fé!"), groundingMetadata=grounded("Café"))) == [
        {"text": {"text": "Café!", "citations": [CITATION]}}
    ]


def test_grounding_is_cited_before_the_text_ends() -> None:
    """With the chunk that ends it by a signature of its own, or by a call."""
    assert parts_of(
        chunk(text("Café")),
        chunk(text("", thoughtSignature="s"), groundingMetadata=grounded("Café")),
    ) == [
        {"text": {"text": "Café", "citations": [CITATION]}},
        {"text": {}, "providerSignature": signed("s")},
    ]
    assert parts_of(chunk(text("Café"), {"functionCall": {"name": "f"}}, groundingMetadata=grounded("Café")))[
        0
    ] == {"text": {"text": "Café", "citations": [CITATION]}}


def test_grounding_is_cited_in_the_text_that_has_the_words() -> None:
    assert parts_of(
        chunk(text("Other.")),
        chunk({"executableCode": {"code": "1"}}),
        chunk(text("Café", thoughtSignature="s"), text("!"), groundingMetadata=grounded("Café")),
    )[2] == {"text": {"text": "Café", "citations": [CITATION]}, "providerSignature": signed("s")}


def test_grounding_for_a_text_that_has_ended_stays_in_the_metadata() -> None:
    completion = fold(
        chunk(text("Café")),
        chunk({"executableCode": {"code": "1"}}),
        chunk(reason="STOP", groundingMetadata=grounded("Café")),
    )

    assert not completion.choices[0].message.parts[0].text.citations
    assert "groundingMetadata" in completion.choices[0].provider_metadata


# -- how it ended ------------------------------------------------------------------------------------------


def test_a_blocked_prompt_is_an_answer_that_was_filtered() -> None:
    blocked = {
        **HEAD,
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 4},
    }

    completion = fold(blocked)

    [choice] = completion.choices
    assert choice.finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert choice.finish.provider_reason == "PROHIBITED_CONTENT"
    assert completion.served_by.provider_response_id == "r1"
    assert completion.usage.input_tokens == 4
    assert MessageToDict(completion.provider_metadata) == {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}
    }


def test_an_answer_that_is_blocked_on_the_way_was_filtered() -> None:
    completion = fold(chunk(text("A")), {**HEAD, "promptFeedback": {"blockReason": "SAFETY"}})

    [choice] = completion.choices
    assert choice.message.parts[0].text.text == "A"
    assert choice.finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert choice.finish.provider_reason == "SAFETY"


@pytest.mark.parametrize("reason", ["MAX_TOKENS", "SAFETY"])
def test_a_stream_may_say_nothing(reason: str) -> None:
    completion = fold({"candidates": [{"finishReason": reason}], **HEAD})

    assert not completion.choices[0].message.parts
    assert completion.choices[0].finish.provider_reason == reason


def test_a_stream_that_goes_on_after_its_finish_reason_is_read_to_its_end() -> None:
    completion = fold(chunk(text("A"), reason="STOP"), chunk(text("B")))

    assert completion.choices[0].message.parts[0].text.text == "AB"


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [{**HEAD, "usageMetadata": {"promptTokenCount": 1}}],
        [chunk(text("A"))],
        [chunk(text("A"), reason="STOP"), chunk(text("B"), index=1)],
    ],
)
def test_a_stream_without_all_its_finish_reasons_is_an_error(chunks: list[Any]) -> None:
    events, failure = failure_of(to_sse(*chunks))

    assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert failure.retryable
    assert not any(event.HasField("end") for event in events)


# -- bytes -------------------------------------------------------------------------------------------------

BODY = to_sse(
    chunk(text("Hm. é", thought=True)),
    chunk(text("Ca")),
    chunk(text("fé 🚢"), {"functionCall": {"name": "f", "args": {"a": "🚢"}}}),
    {**chunk(text("", thoughtSignature="s"), reason="STOP"), "usageMetadata": {"promptTokenCount": 3}},
)


def test_a_stream_says_the_same_wherever_it_is_cut_in_pieces() -> None:
    whole = fold_stream([BODY], TARGET)

    assert fold_stream(one_byte_pieces(BODY), TARGET) == whole
    assert fold_stream([BODY.replace(b"\r\n", b"\n")], TARGET) == whole
    for seed in range(20):
        assert fold_stream(random_pieces(BODY, Random(seed), longest=30), TARGET) == whole


def test_a_stream_that_stops_early_is_an_error_wherever_it_stops() -> None:
    """But for the blank line at its end, without which everything has been said."""
    whole = fold_stream([BODY], TARGET)
    for length in range(len(BODY)):
        events, failure = read_until_failure(chat_format("google").chat_stream(TARGET), [BODY[:length]])
        if length < len(BODY) - 4:
            assert failure is not None
            assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"
        else:
            assert failure is None
            assert fold_events(events) == whole


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"{", "an event of the stream is not JSON, or was cut off"),
        (b"[]", "an event of the stream is not a JSON object"),
        (b'[{"candidates": []}]', "an event of the stream is not a JSON object"),
        (b"[{}, {}]", "an event of the stream is not a JSON object"),
        (b"5", "an event of the stream is not a JSON object"),
        (b'{"candidates": {}}', "chunk.candidates is not a list"),
        (b'{"candidates": [5]}', "candidates[] is not an object"),
        (b'{"candidates": [{"index": "x"}]}', "candidates[].index is not an index"),
        (b'{"candidates": [{"content": 5}]}', "candidates[0].content is not an object"),
        (b'{"candidates": [{"content": {"parts": 5}}]}', "candidates[0].content.parts is not a list"),
        (b'{"candidates": [{"content": {"parts": [5]}}]}', "candidates[0].content.parts[] is not an object"),
        (
            b'{"candidates": [{"content": {"parts": [{"text": 5}]}}]}',
            "candidates[0].content.parts[].text is not text",
        ),
        (b'{"candidates": [{"finishReason": 5}]}', "candidates[0].finishReason is not text"),
        (b'{"usageMetadata": 5}', "chunk.usageMetadata is not an object"),
        (b'{"promptFeedback": 5}', "answer.promptFeedback is not an object"),
    ],
)
def test_events_that_cannot_be_used(payload: bytes, cause: str) -> None:
    events, failure = failure_of(to_sse(chunk(text("A"))) + b"data: " + payload + b"\r\n\r\n")

    assert failure.metadata == {"provider": "providers/my-google", "cause": cause}
    # What came before is given out first.
    assert [event.WhichOneof("event") for event in events][:3] == ["start", "part_start", "part_delta"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_on_the_way_is_told_after_what_came_before_it(wrapped: bool) -> None:
    error = {"error": {"code": 503, "message": "secret words", "status": "UNAVAILABLE"}}

    events, failure = failure_of(to_sse(chunk(text("A")), [error] if wrapped else error))

    assert failure.reason_name == "UPSTREAM_UNAVAILABLE"
    assert failure.metadata == {"provider": "providers/my-google", "cause": "UNAVAILABLE"}
    assert "secret words" not in failure.message
    assert events[-1].part_delta.text == "A"


def test_a_list_in_place_of_events_is_an_error() -> None:
    """As Google answers when it is not asked for events."""
    _, failure = failure_of(orjson.dumps([chunk(text("A"), reason="STOP")]))

    assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"
