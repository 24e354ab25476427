"""A whole answer becomes a ChatCompletion, whatever the server left out; what cannot be read is told."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aigateway.v1.chat_service_pb2 import ChatCompletion, Finish, FinishReason
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_target


def make_answer(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    """An answer with one choice."""
    whole = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop", **choice}
    if message is not None:
        whole["message"] = message
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-test-1",
        "choices": [whole],
    }


def parse(answer: object, provider_type: str = "openai") -> ChatCompletion:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return chat_format(provider_type).parse_chat(body, make_target(provider_type))


def parts_of(message: dict[str, Any], provider_type: str = "openai") -> list[dict[str, Any]]:
    completion = parse(make_answer(message), provider_type)
    return [MessageToDict(part) for part in completion.choices[0].message.parts]


def failure(answer: object) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parse(answer)
    return caught.value


def test_the_least_answer() -> None:
    expected = {
        "servedBy": {"providerModel": "gpt-test-1", "providerResponseId": "chatcmpl-1"},
        "choices": [
            {
                "message": {"role": "ROLE_ASSISTANT", "parts": [{"text": {"text": "Hi"}}]},
                "finish": {"reason": "FINISH_REASON_STOP", "providerReason": "stop"},
            }
        ],
    }

    assert MessageToDict(parse(make_answer())) == expected


def test_a_model_that_is_not_named_is_the_one_that_was_asked() -> None:
    completion = parse({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]})

    assert completion.served_by.provider_model == "gpt-test"


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": None}, []),
        ({"content": ""}, []),
        ({}, []),
        ({"content": "<think>hm</think>Hi"}, [{"text": {"text": "<think>hm</think>Hi"}}]),
        ({"content": None, "refusal": "I can't."}, [{"refusal": {"text": "I can't."}}]),
        ({"content": "a", "reasoning": "t"}, [{"reasoning": {"text": "t"}}, {"text": {"text": "a"}}]),
        ({"content": "a", "reasoning_content": "t"}, [{"reasoning": {"text": "t"}}, {"text": {"text": "a"}}]),
        (
            {"content": "a", "reasoning": "t", "reasoning_content": "t"},
            [{"reasoning": {"text": "t"}}, {"text": {"text": "a"}}],
        ),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "new", "b": 1}]},
            [
                {"text": {"text": "a"}},
                {
                    "provider": {
                        "providerType": "openai",
                        "blockType": "new",
                        "blockJson": '{"type":"new","b":1}',
                    }
                },
            ],
        ),
        (
            {"content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
            [{"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": "{"}}],
        ),
        (
            {
                "tool_calls": [
                    {"function": {"name": "f", "arguments": "{}"}},
                    {"id": "", "function": {"name": "g", "arguments": None}},
                    {"id": "c", "type": "custom", "custom": {"name": "h", "input": "x {"}},
                ]
            },
            [
                {"toolCall": {"toolCallId": "call_0_0", "toolName": "f", "arguments": "{}"}},
                {"toolCall": {"toolCallId": "call_0_1", "toolName": "g"}},
                {"toolCall": {"toolCallId": "c", "toolName": "h", "arguments": "x {", "freeForm": True}},
            ],
        ),
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]},
            [{"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": '{"b":1,"a":2}'}}],
        ),
        (
            {"tool_calls": [{"id": "c", "type": "mcp", "mcp": {"server": "s"}}]},
            [
                {
                    "provider": {
                        "providerType": "openai",
                        "blockType": "tool_calls/mcp",
                        "blockJson": '{"id":"c","type":"mcp","mcp":{"server":"s"}}',
                    }
                }
            ],
        ),
        (
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            [{"toolCall": {"toolCallId": "call_0_0", "toolName": "f", "arguments": "{}"}}],
        ),
        (
            {
                "content": "See.",
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {"start_index": 0, "end_index": 3, "url": "https://a", "title": "A"},
                    }
                ],
            },
            [
                {
                    "text": {
                        "text": "See.",
                        "citations": [{"startIndex": 0, "endIndex": 3, "title": "A", "uri": "https://a"}],
                    }
                }
            ],
        ),
        (
            {
                "content": None,
                "audio": {
                    "id": "audio_1",
                    "data": b64encode(b"RIFFx").decode(),
                    "transcript": "Hi",
                    "expires_at": 9,
                },
            },
            [
                {
                    "audio": {
                        "source": {"inlineData": b64encode(b"RIFFx").decode(), "mimeType": "audio/wav"},
                        "transcript": "Hi",
                    },
                    "providerSignature": b64encode(b"audio_1").decode(),
                }
            ],
        ),
    ],
)
def test_parts(message: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    assert parts_of(message) == parts


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"RIFF", "audio/wav"),
        (b"ID3", "audio/mpeg"),
        (b"\xff\xfb", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"\xff\xf1", "audio/aac"),
        (b"\x01\x02", "audio/pcm"),
    ],
)
def test_the_type_of_a_sound_is_known_by_its_first_bytes(data: bytes, mime_type: str) -> None:
    parts = parts_of({"audio": {"id": "a", "data": b64encode(data).decode()}})

    assert parts[0]["audio"]["source"]["mimeType"] == mime_type


CALL = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("message", "choice", "reason", "stop_sequence"),
    [
        ({"content": "a"}, {"finish_reason": "stop"}, "STOP", ""),
        ({"content": "a"}, {"finish_reason": "length"}, "MAX_OUTPUT_TOKENS", ""),
        ({"content": "a"}, {"finish_reason": "content_filter"}, "CONTENT_FILTER", ""),
        ({"tool_calls": CALL}, {"finish_reason": "tool_calls"}, "TOOL_CALLS", ""),
        ({"tool_calls": CALL}, {"finish_reason": "stop"}, "TOOL_CALLS", ""),
        ({"tool_calls": CALL}, {"finish_reason": "length"}, "MAX_OUTPUT_TOKENS", ""),
        ({"tool_calls": [{"id": "c", "type": "mcp"}]}, {"finish_reason": "tool_calls"}, "TOOL_CALLS", ""),
        ({"function_call": {"name": "f"}}, {"finish_reason": "function_call"}, "TOOL_CALLS", ""),
        ({"content": "a"}, {"finish_reason": "tool_calls"}, "STOP", ""),
        ({"refusal": "No."}, {"finish_reason": "stop"}, "REFUSAL", ""),
        ({"content": "a"}, {"finish_reason": "stop", "stop_reason": "END"}, "STOP_SEQUENCE", "END"),
        ({"content": "a"}, {"finish_reason": "stop", "stop_reason": 151645}, "STOP", ""),
        ({"content": "a"}, {"finish_reason": "abort"}, "OTHER", ""),
        ({"content": "a"}, {"finish_reason": None}, "OTHER", ""),
    ],
)
def test_finish_reasons(
    message: dict[str, Any], choice: dict[str, Any], reason: str, stop_sequence: str
) -> None:
    finish = parse(make_answer(message, **choice)).choices[0].finish

    assert finish == Finish(
        reason=FinishReason.Value(f"FINISH_REASON_{reason}"),
        provider_reason=choice["finish_reason"] or "",
        stop_sequence=stop_sequence,
    )


def test_a_filtered_answer_may_come_without_its_message() -> None:
    answer = make_answer(finish_reason="content_filter")
    del answer["choices"][0]["message"]

    choice = parse(answer).choices[0]

    assert choice.finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert not choice.message.parts


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
            {"inputTokens": "10", "outputTokens": "4", "totalTokens": "14"},
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 14,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            {"inputTokens": "10", "outputTokens": "4", "totalTokens": "14"},
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "total_tokens": 19,
                "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 2, "audio_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 1, "text_tokens": 3},
            },
            {
                "inputTokens": "10",
                "outputTokens": "9",
                "totalTokens": "19",
                "cacheReadInputTokens": "6",
                "cacheWriteInputTokens": "2",
                "reasoningOutputTokens": "5",
                "inputByModality": [{"modality": "MODALITY_AUDIO", "tokens": "3"}],
                "outputByModality": [
                    {"modality": "MODALITY_TEXT", "tokens": "3"},
                    {"modality": "MODALITY_AUDIO", "tokens": "1"},
                ],
            },
        ),
        # The total is always the sum, and a part never larger than its whole.
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 99},
            {"inputTokens": "10", "outputTokens": "4", "totalTokens": "14"},
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 12},
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            {
                "inputTokens": "12",
                "outputTokens": "7",
                "totalTokens": "19",
                "cacheReadInputTokens": "12",
                "reasoningOutputTokens": "7",
            },
        ),
    ],
)
def test_usage(usage: dict[str, Any], expected: dict[str, Any]) -> None:
    completion = parse({**make_answer(), "usage": usage})

    assert completion.usage == ParseDict({**expected, "state": "USAGE_STATE_PROVIDER_REPORTED"}, TokenUsage())


def test_an_answer_without_usage_has_none() -> None:
    assert not parse(make_answer()).HasField("usage")
    assert not parse({**make_answer(), "usage": None}).HasField("usage")


def test_log_probabilities() -> None:
    token = {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
            {"token": "Yo", "logprob": -2, "bytes": None},
        ],
    }
    refused = {"token": "No", "logprob": -1.0, "bytes": None, "top_logprobs": []}

    choice = parse(make_answer(logprobs={"content": [token], "refusal": [refused]})).choices[0]

    assert [MessageToDict(item) for item in choice.logprobs] == [
        {
            "token": "Hi",
            "logprob": -0.5,
            "tokenBytes": b64encode(b"Hi").decode(),
            "topLogprobs": [
                {"token": "Hi", "logprob": -0.5, "tokenBytes": b64encode(b"Hi").decode()},
                {"token": "Yo", "logprob": -2.0},
            ],
        },
        {"token": "No", "logprob": -1.0},
    ]


def test_several_choices_come_in_order_of_index() -> None:
    answer = make_answer()
    answer["choices"] = [
        {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"},
        {"index": 0, "message": {"content": "a"}, "finish_reason": "length"},
    ]

    assert [choice.message.parts[0].text.text for choice in parse(answer).choices] == ["a", "b"]


def test_what_has_no_field_is_handed_on() -> None:
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    answer = {
        **make_answer(
            {
                "content": "Hi",
                "provider_specific": {"x": 1},
                "annotations": [{"type": "file_path", "file_path": {"file_id": "f"}}],
            },
            content_filter_results=filtered,
            token_ids=None,
            stop_reason=7,
        ),
        "service_tier": "default",
        "system_fingerprint": None,
        "prompt_filter_results": [{"prompt_index": 0}],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "latency_checkpoint": {"ms": 5},
            "completion_tokens_details": {"rejected_prediction_tokens": 3, "accepted_prediction_tokens": 0},
        },
    }

    completion = parse(answer)

    assert MessageToDict(completion.provider_metadata) == {
        "service_tier": "default",
        "prompt_filter_results": [{"prompt_index": 0}],
        "usage": {
            "latency_checkpoint": {"ms": 5},
            "completion_tokens_details": {"rejected_prediction_tokens": 3},
        },
    }
    assert MessageToDict(completion.choices[0].provider_metadata) == {
        "content_filter_results": filtered,
        "stop_reason": 7,
        "message": {
            "provider_specific": {"x": 1},
            "annotations": [{"type": "file_path", "file_path": {"file_id": "f"}}],
        },
    }


def with_usage(usage: object) -> dict[str, Any]:
    return {**make_answer(), "usage": usage}


def with_calls(*calls: object) -> dict[str, Any]:
    return make_answer({"tool_calls": list(calls)})


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", "the body is empty"),
        (b"<html>502 Bad Gateway</html>", "the body is HTML or XML, not JSON"),
        (b'{"choices": [{"message": {"content": "\xc3\x28"}}]}', "the body is not UTF-8"),
        (b'{"choices": [', "the body is not JSON"),
        (b"[1]", "the body is not a JSON object"),
        ({}, "the answer has no choices"),
        ({"choices": []}, "the answer has no choices"),
        ({"choices": {}}, "answer.choices is not a list"),
        ({"choices": [1]}, "choices[0] is not an object"),
        ({"choices": [{}]}, "choices[0] has neither message nor finish_reason"),
        ({**make_answer(), "id": 5}, "answer.id is not text"),
        ({**make_answer(), "model": []}, "answer.model is not text"),
        (make_answer(index=-1), "choices[].index is not an index"),
        (make_answer(index=128), "choices[].index is not an index"),
        (make_answer(index=True), "choices[].index is not an index"),
        (
            {**make_answer(), "choices": [make_answer()["choices"][0]] * 2},
            "two choices have the same index",
        ),
        (make_answer(finish_reason=1), "choices[0].finish_reason is not text"),
        (make_answer(message="Hi"), "choices[0].message is not an object"),  # type: ignore[arg-type]
        (make_answer({"content": 5}), "choices[0].message.content is not text"),
        (make_answer({"content": ["Hi"]}), "choices[0].message.content[] is not an object"),
        (make_answer({"refusal": {}}), "choices[0].message.refusal is not text"),
        (make_answer({"reasoning": []}), "choices[0].message.reasoning is not text"),
        (make_answer({"annotations": {}}), "choices[0].message.annotations is not a list"),
        (
            make_answer({"content": "a", "annotations": [{"url_citation": {"start_index": -1}}]}),
            "choices[0].message.annotations[].url_citation.start_index is negative",
        ),
        (make_answer({"audio": {"data": "a"}}), "choices[0].message.audio.data is not base64"),
        (make_answer({"tool_calls": {}}), "choices[0].message.tool_calls is not a list"),
        (with_calls("f"), "choices[0].message.tool_calls[] is not an object"),
        (with_calls({"function": {}}), "choices[0].message.tool_calls[] has no name"),
        (with_calls({"function": "f"}), "choices[0].message.tool_calls[].function is not an object"),
        (
            with_calls({"function": {"name": "f", "arguments": 5}}),
            "choices[0].message.tool_calls[].function.arguments is not text",
        ),
        (with_calls(*CALL, *CALL), "two tool calls have the same id"),
        (with_usage([]), "answer.usage is not an object"),
        (with_usage({"prompt_tokens": -1}), "usage.prompt_tokens is negative"),
        (with_usage({"completion_tokens": "7"}), "usage.completion_tokens is not a whole number"),
        (
            with_usage({"prompt_tokens_details": {"cached_tokens": -7}}),
            "usage.prompt_tokens_details.cached_tokens is negative",
        ),
        (make_answer(logprobs=[]), "choices[0].logprobs is not an object"),
        (
            make_answer(logprobs={"content": [{"token": "a", "logprob": "x"}]}),
            "choices[0].logprobs.logprob is not a number",
        ),
        (
            make_answer(logprobs={"content": [{"token": "a", "logprob": 0, "bytes": [256]}]}),
            "choices[0].logprobs.bytes is not a list of bytes",
        ),
    ],
)
def test_what_cannot_be_read_is_told(answer: object, cause: str) -> None:
    error = failure(answer)

    assert error.reason == ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR
    assert error.metadata == {"provider": "providers/my-openai", "cause": cause}
    assert error.message.endswith(cause)


def test_an_error_in_place_of_the_answer_is_that_error() -> None:
    error = failure({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}})

    assert error.reason == ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED
    assert error.retryable
