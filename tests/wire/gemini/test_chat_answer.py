"""A whole answer in Gemini's format becomes the right message; a body that is none is told as such."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict

from aigateway.v1.chat_service_pb2 import ChatCompletion, CountTokensResponse, FinishReason
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from tests.support.completion_reading import read_usage
from tests.support.wire import chat_format, make_endpoint, make_target

RESPONSE_ID = "aBc_dEf-0123456789abcd"


def candidate(*parts: dict[str, Any], reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    return {
        "content": {"parts": list(parts), "role": "model"},
        **({} if reason is None else {"finishReason": reason}),
        **more,
    }


def answer(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "candidates": list(candidates),
        "modelVersion": "gemini-test-001",
        "responseId": RESPONSE_ID,
        **more,
    }


def parse(*candidates: dict[str, Any], **more: Any) -> ChatCompletion:
    return chat_format("google").parse_chat(orjson.dumps(answer(*candidates, **more)), make_target("google"))


def parts_of(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [MessageToDict(part) for part in parse(candidate(*parts)).choices[0].message.parts]


def signed(signature: str) -> str:
    return b64encode(b"gemini:" + signature.encode()).decode()


def test_a_plain_answer() -> None:
    completion = parse(
        candidate({"text": "Hi"}, index=0),
        usageMetadata={"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7},
    )

    assert MessageToDict(completion) == {
        "servedBy": {"providerResponseId": RESPONSE_ID, "providerModel": "gemini-test-001"},
        "choices": [
            {
                "message": {"role": "ROLE_ASSISTANT", "parts": [{"text": {"text": "Hi"}}]},
                "finish": {"reason": "FINISH_REASON_STOP", "providerReason": "STOP"},
            }
        ],
        "usage": {
            "inputTokens": "5",
            "outputTokens": "2",
            "totalTokens": "7",
            "state": "USAGE_STATE_PROVIDER_REPORTED",
        },
    }


def test_parts_keep_their_order_and_signatures() -> None:
    assert parts_of(
        {"text": "Hm.", "thought": True},
        {"text": "A"},
        {"text": "B", "thoughtSignature": "s-1"},
        {
            "functionCall": {"name": "f", "args": {"b": 1, "a": [None, 0.5]}, "id": "x1"},
            "thoughtSignature": "s-2",
        },
        {"text": ""},
        {"text": "", "thoughtSignature": "s-3"},
        {"thoughtSignature": "s-4"},
        {"thought": True, "thoughtSignature": "s-5"},
        {},
    ) == [
        {"reasoning": {"text": "Hm.", "isSummary": True}},
        {"text": {"text": "A"}},
        {"text": {"text": "B"}, "providerSignature": signed("s-1")},
        {
            "toolCall": {"toolCallId": "x1", "toolName": "f", "arguments": '{"b":1,"a":[null,0.5]}'},
            "providerSignature": signed("s-2"),
        },
        {"text": {}, "providerSignature": signed("s-3")},
        {"text": {}, "providerSignature": signed("s-4")},
        {"reasoning": {"isSummary": True}, "providerSignature": signed("s-5")},
    ]


def test_calls_without_ids_get_one_each_that_is_the_same_at_every_reading() -> None:
    calls: list[dict[str, Any]] = [
        {"functionCall": {"name": "f"}},
        {"functionCall": {"name": "f", "args": {}}},
    ]

    def ids(**more: Any) -> list[str]:
        completion = parse(candidate(*calls), candidate(*calls, index=1), **more)
        return [part.tool_call.tool_call_id for choice in completion.choices for part in choice.message.parts]

    assert ids() == [f"aigw_{RESPONSE_ID}_{place}" for place in ("0_0", "0_1", "1_0", "1_1")]
    for odd in ("", "with spaces and more", "x" * 200):
        made = ids(responseId=odd)
        assert made == ids(responseId=odd)
        assert len(set(made)) == 4
        assert all(len(call_id) <= 40 and call_id.isascii() and " " not in call_id for call_id in made)
    assert ids(responseId="one") != ids(responseId="two")


def test_a_call_without_arguments_has_an_empty_object() -> None:
    completion = parse(candidate({"functionCall": {"name": "f"}}))

    assert completion.choices[0].message.parts[0].tool_call.arguments == "{}"


def test_integers_of_any_length_survive() -> None:
    body = orjson.dumps(answer(candidate({"functionCall": {"name": "f", "args": {"n": 1}}})))

    completion = chat_format("google").parse_chat(
        body.replace(b'"n":1', b'"n":123456789012345678901234567890'), make_target("google")
    )

    arguments = completion.choices[0].message.parts[0].tool_call.arguments
    assert arguments == '{"n":123456789012345678901234567890}'


DATA = b64encode(b"\xfb\xff\xfe data").decode()


@pytest.mark.parametrize(
    ("mime_type", "kind"),
    [
        ("image/png", "image"),
        ("audio/L16;codec=pcm;rate=24000", "audio"),
        ("video/mp4", "video"),
        ("application/pdf", "document"),
        ("", "document"),
    ],
)
def test_media(mime_type: str, kind: str) -> None:
    source = {"inlineData": DATA, **({"mimeType": mime_type} if mime_type else {})}
    for data in (DATA, DATA.replace("+", "-").replace("/", "_")):
        part = {"inlineData": {"mimeType": mime_type, "data": data}, "thoughtSignature": "s"}
        assert parts_of(part) == [{kind: {"source": source}, "providerSignature": signed("s")}]
    by_address = {"uri": "gs://bucket/a", **({"mimeType": mime_type} if mime_type else {})}
    assert parts_of({"fileData": {"fileUri": "gs://bucket/a", "mimeType": mime_type}}) == [
        {kind: {"source": by_address}}
    ]


@pytest.mark.parametrize(
    ("block", "block_type"),
    [
        ({"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "s"}, "executableCode"),
        ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, "codeExecutionResult"),
        ({"thoughtSignature": "s", "toolCall": {"toolType": "FILE_SEARCH", "id": "1"}}, "toolCall"),
        ({"toolResponse": {"z": 1, "a": None}}, "toolResponse"),
        ({"somethingNew": [1, {"b": 2, "a": 1}]}, "somethingNew"),
        ({"thought": True, "inlineData": {"mimeType": "image/png", "data": DATA}}, "inlineData"),
    ],
)
def test_what_has_no_kind_is_kept_as_it_came(block: dict[str, Any], block_type: str) -> None:
    [part] = parse(candidate(block)).choices[0].message.parts

    assert part.provider.provider_type == "google"
    assert part.provider.block_type == block_type
    assert part.provider.block_json == orjson.dumps(block).decode()
    assert not part.provider_signature


# -- how it ended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "STOP"),
        ("MAX_TOKENS", "MAX_OUTPUT_TOKENS"),
        ("SAFETY", "CONTENT_FILTER"),
        ("RECITATION", "CONTENT_FILTER"),
        ("BLOCKLIST", "CONTENT_FILTER"),
        ("PROHIBITED_CONTENT", "CONTENT_FILTER"),
        ("SPII", "CONTENT_FILTER"),
        ("IMAGE_SAFETY", "CONTENT_FILTER"),
        ("IMAGE_PROHIBITED_CONTENT", "CONTENT_FILTER"),
        ("IMAGE_RECITATION", "CONTENT_FILTER"),
        ("MODEL_ARMOR", "CONTENT_FILTER"),
        ("MALFORMED_FUNCTION_CALL", "MALFORMED_TOOL_CALL"),
        ("UNEXPECTED_TOOL_CALL", "MALFORMED_TOOL_CALL"),
        ("TOO_MANY_TOOL_CALLS", "OTHER"),
        ("MISSING_THOUGHT_SIGNATURE", "OTHER"),
        ("LANGUAGE", "OTHER"),
        ("NO_IMAGE", "OTHER"),
        ("IMAGE_OTHER", "OTHER"),
        ("OTHER", "OTHER"),
        ("SOMETHING_NEW", "OTHER"),
    ],
)
def test_how_an_answer_ended(word: str, reason: str) -> None:
    finish = parse(candidate({"text": "A"}, reason=word)).choices[0].finish

    assert (FinishReason.Name(finish.reason), finish.provider_reason) == (f"FINISH_REASON_{reason}", word)


def test_a_stop_with_calls_waits_for_their_results() -> None:
    call = {"functionCall": {"name": "f"}}

    reasons = [
        parse(candidate(call, reason=word)).choices[0].finish.reason for word in ("STOP", "MAX_TOKENS")
    ]

    assert reasons == [
        FinishReason.FINISH_REASON_TOOL_CALLS,
        FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS,
    ]


@pytest.mark.parametrize("content", [{}, None, {"role": "model"}, {"parts": []}, {"parts": [{"text": ""}]}])
@pytest.mark.parametrize("word", ["MAX_TOKENS", "SAFETY", "STOP"])
def test_an_answer_may_say_nothing(content: Any, word: str) -> None:
    completion = parse({"content": content, "finishReason": word})

    assert not completion.choices[0].message.parts
    assert completion.choices[0].finish.provider_reason == word


def test_an_answer_that_does_not_tell_why_it_ended_is_taken_as_it_is() -> None:
    finish = parse(candidate({"text": "A"}, reason=None)).choices[0].finish

    assert finish.reason == FinishReason.FINISH_REASON_OTHER


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "OTHER", "SOMETHING_NEW"])
def test_a_blocked_prompt_is_an_answer_that_was_filtered(reason: str) -> None:
    feedback = {
        "blockReason": reason,
        "safetyRatings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "HIGH"}],
    }

    completion = parse(promptFeedback=feedback, usageMetadata={"promptTokenCount": 4, "totalTokenCount": 4})

    [choice] = completion.choices
    assert choice.message.role == completion.choices[0].message.role != 0
    assert not choice.message.parts
    assert choice.finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert choice.finish.provider_reason == reason
    assert MessageToDict(completion.provider_metadata)["promptFeedback"] == feedback
    assert completion.usage.input_tokens == 4


def test_choices_come_in_order_of_index() -> None:
    completion = parse(candidate({"text": "B"}, index=1), candidate({"text": "A"}, index=0))

    assert [(choice.index, choice.message.parts[0].text.text) for choice in completion.choices] == [
        (0, "A"),
        (1, "B"),
    ]


# -- usage -------------------------------------------------------------------------------------------------


def test_usage_in_the_contracts_meaning() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 20,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 135,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 30},
            {"modality": "IMAGE", "tokenCount": 70},
            {"modality": "SMELL", "tokenCount": 1},
        ],
        "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}],
        "candidatesTokensDetails": [
            {"modality": "TEXT", "tokenCount": 4},
            {"modality": "AUDIO", "tokenCount": 6},
        ],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 40}],
        "serviceTier": "standard",
    }

    completion = parse(candidate({"text": "A"}), usageMetadata=usage)

    assert read_usage(completion.usage) == {
        "input": 120,
        "output": 15,
        "total": 135,
        "cached": 40,
        "reasoning": 5,
    }
    assert MessageToDict(completion.usage)["inputByModality"] == [
        {"modality": "MODALITY_TEXT", "tokens": "50"},
        {"modality": "MODALITY_IMAGE", "tokens": "70"},
    ]
    assert MessageToDict(completion.usage)["outputByModality"] == [
        {"modality": "MODALITY_TEXT", "tokens": "9"},
        {"modality": "MODALITY_AUDIO", "tokens": "6"},
    ]
    assert MessageToDict(completion.provider_metadata) == {
        "usageMetadata": {
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 40}],
            "serviceTier": "standard",
        }
    }


def test_thoughts_are_text_also_where_no_text_was_counted() -> None:
    usage = {
        "promptTokenCount": 1,
        "thoughtsTokenCount": 5,
        "candidatesTokenCount": 6,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 6}],
    }

    completion = parse(candidate({"text": "A"}), usageMetadata=usage)

    assert {each.modality: each.tokens for each in completion.usage.output_by_modality} == {2: 6, 1: 5}


def test_a_part_of_a_usage_is_not_larger_than_its_whole() -> None:
    usage = {"promptTokenCount": 3, "cachedContentTokenCount": 10}

    assert parse(candidate({"text": "A"}), usageMetadata=usage).usage.input_tokens == 10


def test_an_answer_without_a_count_of_its_prompt_is_no_exact_usage() -> None:
    assert not parse(candidate({"text": "A"})).HasField("usage")
    usage = parse(candidate({"text": "A"}), usageMetadata={"candidatesTokenCount": 3}).usage
    assert (usage.output_tokens, usage.state) == (3, UsageState.USAGE_STATE_ESTIMATED)


# -- what comes with it ------------------------------------------------------------------------------------


def test_log_probabilities() -> None:
    chosen = [{"token": "A", "tokenId": 1, "logProbability": -0.5}, {"token": "B"}]
    likeliest = [{"candidates": [chosen[0], {"token": "a", "logProbability": -1}]}]

    choice = parse(
        candidate({"text": "AB"}, logprobsResult={"chosenCandidates": chosen, "topCandidates": likeliest})
    ).choices[0]

    assert [MessageToDict(token) for token in choice.logprobs] == [
        {
            "token": "A",
            "logprob": -0.5,
            "topLogprobs": [{"token": "A", "logprob": -0.5}, {"token": "a", "logprob": -1.0}],
        },
        {"token": "B"},
    ]


def test_everything_else_is_metadata() -> None:
    ratings = [{"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "LOW", "blocked": True}]

    completion = parse(
        candidate(
            {"text": "A"},
            safetyRatings=ratings,
            avgLogprobs=-0.25,
            finishMessage="Done.",
            groundingMetadata={},
            citationMetadata=None,
        ),
        modelStatus={"modelStage": "STABLE"},
        promptFeedback={},
    )

    assert MessageToDict(completion.choices[0].provider_metadata) == {
        "safetyRatings": ratings,
        "avgLogprobs": -0.25,
        "finishMessage": "Done.",
    }
    assert MessageToDict(completion.provider_metadata) == {"modelStatus": {"modelStage": "STABLE"}}


CHUNKS = [
    {"web": {"uri": "https://a.example", "title": "A"}},
    {"retrievedContext": {"title": "D", "text": "From the document.", "fileSearchStore": "s"}},
    {"maps": {"uri": "https://maps.example", "title": "M", "text": "A place"}},
    {"somethingNew": {}},
]


def support(start: int | None, end: int, words: str, *chunks: int) -> dict[str, Any]:
    segment: dict[str, Any] = {"endIndex": end, "text": words}
    if start is not None:
        segment["startIndex"] = start
    return {"segment": segment, "groundingChunkIndices": list(chunks)}


def citations_of(*texts: str, **more: Any) -> list[list[dict[str, Any]]]:
    choice = parse(candidate(*({"text": text} for text in texts), **more)).choices[0]
    return [[MessageToDict(citation) for citation in part.text.citations] for part in choice.message.parts]


def test_grounding_is_cited_by_code_points() -> None:
    """The provider counts bytes: of é two, of 🚢 four."""
    text = "Café 🚢. Rome."
    grounding = {
        "groundingChunks": CHUNKS,
        "groundingSupports": [
            support(None, 5, "Café", 0),
            support(12, 17, "Rome.", 1, 2, 9),
            support(6, 10, "🚢", 3),
        ],
    }

    assert citations_of(text, groundingMetadata=grounding) == [
        [
            {"startIndex": 0, "endIndex": 4, "title": "A", "uri": "https://a.example"},
            {"startIndex": 8, "endIndex": 13, "title": "D", "citedText": "From the document."},
            {
                "startIndex": 8,
                "endIndex": 13,
                "title": "M",
                "citedText": "A place",
                "uri": "https://maps.example",
            },
            {"startIndex": 5, "endIndex": 6},
        ]
    ]


def test_grounding_counted_from_elsewhere_is_placed_by_its_words() -> None:
    grounding = {
        "groundingChunks": CHUNKS[:1],
        "groundingSupports": [
            # Counted over both texts.
            support(7, 11, "word", 0),
            # Stands in the text twice, and not where it is said to.
            support(7, 8, "a", 0),
            # Is nowhere.
            support(0, 4, "gone", 0),
        ],
    }

    cited = citations_of("First. ", "aa word", groundingMetadata=grounding)

    assert cited == [[], [{"startIndex": 3, "endIndex": 7, "title": "A", "uri": "https://a.example"}]]


def test_recitations_are_cited() -> None:
    sources = [
        {"startIndex": 1, "endIndex": 3, "uri": "https://a.example", "license": "MIT"},
        {"endIndex": 2, "title": "A book"},
        # Within a character, past the end, and nowhere.
        {"startIndex": 4, "endIndex": 5, "uri": "https://b.example"},
        {"startIndex": 2, "endIndex": 50, "uri": "https://c.example"},
        {"uri": "https://d.example"},
    ]

    cited = citations_of("abcdé", citationMetadata={"citationSources": sources})

    assert cited == [
        [
            {"startIndex": 1, "endIndex": 3, "uri": "https://a.example"},
            {"startIndex": 0, "endIndex": 2, "title": "A book"},
        ]
    ]


# -- bodies that are none ----------------------------------------------------------------------------------


def failure(body: Any) -> GatewayError:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(GatewayError) as caught:
        chat_format("google").parse_chat(data, make_target("google"))
    return caught.value


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "the body is empty"),
        (b"<html>", "the body is HTML or XML, not JSON"),
        (b'{"candidates": [', "the body is not JSON"),
        ([], "the body is not a JSON object"),
        ({}, "the answer has no candidates"),
        ({"candidates": []}, "the answer has no candidates"),
        ({"candidates": {}}, "answer.candidates is not a list"),
        ({"candidates": [5]}, "candidates[0] is not an object"),
        ({"candidates": [{}]}, "candidates[0] has neither content nor finishReason"),
        ({"candidates": [{"content": {}}]}, "candidates[0] has neither content nor finishReason"),
        ({"candidates": [{"content": []}]}, "candidates[0].content is not an object"),
        ({"candidates": [{"finishReason": 5}]}, "candidates[0].finishReason is not text"),
        ({"candidates": [candidate(index=-1)]}, "candidates[].index is not an index"),
        ({"candidates": [candidate(index=128)]}, "candidates[].index is not an index"),
        ({"candidates": [candidate(index=0), candidate(index=0)]}, "two candidates have the same index"),
        ({"candidates": [candidate({"text": 5})]}, "candidates[0].content.parts[0].text is not text"),
        (
            {"candidates": [candidate({"functionCall": {"args": {}}})]},
            "a function call has no name",
        ),
        (
            {"candidates": [candidate(*[{"functionCall": {"name": "f", "id": "x"}}] * 2)]},
            "two tool calls have the same id",
        ),
        (
            {"candidates": [candidate({"functionCall": {"name": "f", "args": "{}"}})]},
            "candidates[0].content.parts[0].functionCall.args is not an object",
        ),
        (
            {"candidates": [candidate({"inlineData": {"mimeType": "image/png", "data": "?"}})]},
            "candidates[0].content.parts[0].inlineData.data is not base64",
        ),
        (
            {"candidates": [candidate()], "usageMetadata": {"promptTokenCount": -1}},
            "usageMetadata.promptTokenCount is negative",
        ),
        (
            {"candidates": [candidate(logprobsResult={"chosenCandidates": [{"logProbability": "x"}]})]},
            "candidates[0].logprobsResult.logProbability is not a number",
        ),
        ({"promptFeedback": {"blockReason": 5}}, "answer.promptFeedback.blockReason is not text"),
    ],
)
def test_bodies_that_cannot_be_used(body: Any, cause: str) -> None:
    error = failure(body)

    assert error.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert error.metadata == {"provider": "providers/my-google", "cause": cause}
    assert error.retryable


def test_an_error_in_place_of_an_answer_is_told() -> None:
    error = failure({"error": {"code": 503, "message": "secret words", "status": "UNAVAILABLE"}})

    assert error.reason_name == "UPSTREAM_UNAVAILABLE"
    assert "secret words" not in error.message


# -- counts ------------------------------------------------------------------------------------------------


def parse_count(body: bytes) -> CountTokensResponse:
    endpoint = make_endpoint("google")
    assert isinstance(endpoint, CountTokensEndpoint)
    return endpoint.count_format.parse_count(body, make_target("google", "gemini-test"))


def test_a_count() -> None:
    counted = parse_count(b'{"totalTokens": 12, "promptTokensDetails": []}')

    assert MessageToDict(counted) == {"inputTokens": "12", "servedBy": {"providerModel": "gemini-test"}}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"totalTokens": null}', b'{"totalTokens": -1}', b"[]"])
def test_a_count_that_is_none(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_count(body)

    assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"
