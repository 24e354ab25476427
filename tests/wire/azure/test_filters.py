"""What Azure's content filters add to answers, and what a prompt that they refuse comes to."""

from typing import Any

import orjson
import pytest

from aigateway.v1.chat_service_pb2 import ChatCompletion, FinishReason
from gateway_server.errors import GatewayError
from gateway_server.providers.wire.json_values import from_struct
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_target,
    one_byte_pieces,
    read_until_failure,
    to_sse,
)

TARGET = make_target("azure_openai")
SAFE = {"filtered": False, "severity": "safe"}
PROMPT_RESULTS = [
    {"prompt_index": 0, "content_filter_results": {"hate": SAFE, "jailbreak": {"filtered": False}}}
]
LATENCY = {"latency_checkpoint": {"engine_ms": 5}}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, **LATENCY}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-2024", "object": "chat.completion.chunk"}
FILTER_CHUNK = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": PROMPT_RESULTS,
}


def chunk(delta: dict[str, Any] | None, **choice: Any) -> dict[str, Any]:
    told = {} if delta is None else {"delta": delta}
    return {**HEAD, "choices": [{"index": 0, **told, "finish_reason": None, **choice}], "usage": None}


def parse(answer: dict[str, Any]) -> ChatCompletion:
    return chat_format("azure_openai").parse_chat(orjson.dumps(answer), TARGET)


def test_the_remarks_of_the_filters_are_handed_on() -> None:
    completion = parse(
        {
            **HEAD,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hi"},
                    "finish_reason": "stop",
                    "content_filter_results": {"hate": SAFE, "a_new_one": {"detected": False}},
                }
            ],
            "prompt_filter_results": PROMPT_RESULTS,
            "usage": USAGE,
        }
    )

    assert from_struct(completion.provider_metadata) == {
        "prompt_filter_results": PROMPT_RESULTS,
        "usage": LATENCY,
    }
    assert from_struct(completion.choices[0].provider_metadata) == {
        "content_filter_results": {"hate": SAFE, "a_new_one": {"detected": False}}
    }
    assert (completion.usage.input_tokens, completion.usage.total_tokens) == (7, 9)


@pytest.mark.parametrize(
    "message", [{}, {"message": None}, {"message": {"role": "assistant", "content": "Ha"}}]
)
def test_a_filtered_answer_may_lack_its_message(message: dict[str, Any]) -> None:
    blocked = {"hate": {"filtered": True, "severity": "high"}}
    completion = parse(
        {
            **HEAD,
            "choices": [
                {"index": 0, "finish_reason": "content_filter", "content_filter_results": blocked, **message}
            ],
        }
    )

    [choice] = completion.choices
    assert choice.finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert choice.finish.provider_reason == "content_filter"
    assert len(choice.message.parts) == (1 if message.get("message") else 0)
    assert from_struct(choice.provider_metadata) == {"content_filter_results": blocked}


STREAM = [
    FILTER_CHUNK,
    chunk({"role": "assistant", "content": "", "refusal": None}, content_filter_results={}),
    chunk({"content": "He"}, content_filter_results={"hate": SAFE}),
    {**chunk({"content": "llo"}), "obfuscation": "x"},
    chunk({}, finish_reason="stop"),
    # Remarks that come late: without delta, after the finish.
    chunk(None, content_filter_results={"hate": SAFE, "profanity": {"filtered": False}}),
    {**HEAD, "choices": [], "usage": USAGE},
]


def test_a_stream_begins_with_remarks_on_the_prompt() -> None:
    body = to_sse(STREAM)

    completion = fold_stream([body], TARGET)

    assert fold_stream(one_byte_pieces(body), TARGET) == completion
    assert completion.served_by.provider_response_id == "chatcmpl-1"
    assert completion.served_by.provider_model == "gpt-4o-2024"
    assert [part.text.text for part in completion.choices[0].message.parts] == ["Hello"]
    assert from_struct(completion.provider_metadata) == {
        "prompt_filter_results": PROMPT_RESULTS,
        "usage": LATENCY,
    }
    assert from_struct(completion.choices[0].provider_metadata) == {
        "content_filter_results": {"hate": SAFE, "profanity": {"filtered": False}}
    }
    assert completion.usage.output_tokens == 2


def test_a_stream_that_is_filtered_midway() -> None:
    chunks = [FILTER_CHUNK, chunk({"content": "He"}), chunk({}, finish_reason="content_filter")]

    completion = fold_stream([to_sse(chunks)], TARGET)

    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert completion.choices[0].message.parts[0].text.text == "He"


def test_remarks_on_the_prompt_alone_are_no_answer() -> None:
    events, failure = read_until_failure(
        chat_format("azure_openai").chat_stream(TARGET), [to_sse([FILTER_CHUNK])]
    )

    assert events == []
    assert failure is not None
    assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"


FILTERED_PROMPT = {
    "error": {
        "message": "The response was filtered due to the prompt triggering ... sk-secret",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
        },
    }
}


def parse_error(status: int, body: object, headers: dict[str, str] | None = None) -> GatewayError:
    return chat_format("azure_openai").parse_error(status, headers or {}, orjson.dumps(body), TARGET)


def test_a_prompt_that_is_filtered_is_the_callers_matter() -> None:
    failure = parse_error(400, FILTERED_PROMPT)

    assert (failure.reason_name, failure.retryable) == ("UPSTREAM_REJECTED", False)
    assert failure.metadata == {
        "provider": "providers/my-azure_openai",
        "http_status": "400",
        "provider_code": "content_filter",
        "provider_parameter": "prompt",
    }
    assert "sk-secret" not in failure.message


def error(code: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": "words", **fields}}


@pytest.mark.parametrize(
    ("status", "body", "reason", "retryable", "code"),
    [
        (401, error("401"), "UPSTREAM_CREDENTIAL_REJECTED", False, None),
        (401, error("PermissionDenied"), "UPSTREAM_CREDENTIAL_REJECTED", False, None),
        (401, {"statusCode": 401, "message": "Unauthorized."}, "UPSTREAM_CREDENTIAL_REJECTED", False, None),
        (403, error("403"), "UPSTREAM_CREDENTIAL_REJECTED", False, None),
        (404, error("404"), "UPSTREAM_REJECTED", False, None),
        (404, error("DeploymentNotFound"), "UPSTREAM_REJECTED", False, "DeploymentNotFound"),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, "UPSTREAM_REJECTED", False, None),
        (400, error("OperationNotSupported"), "UPSTREAM_REJECTED", False, "OperationNotSupported"),
        (400, error("unknown_model"), "UPSTREAM_REJECTED", False, "unknown_model"),
        (400, error("400"), "UPSTREAM_REJECTED", False, None),
        (
            400,
            error("invalid_request_error", message="maximum context length is 8192 tokens"),
            "UPSTREAM_REJECTED",
            False,
            "context_length_exceeded",
        ),
        (429, error("429"), "UPSTREAM_RATE_LIMITED", True, None),
        (429, error("RateLimitReached", details="words"), "UPSTREAM_RATE_LIMITED", True, "RateLimitReached"),
        (429, error("insufficient_quota"), "UPSTREAM_RATE_LIMITED", False, "insufficient_quota"),
        (500, error("InternalServerError"), "UPSTREAM_UNAVAILABLE", True, None),
        (503, error("503"), "UPSTREAM_UNAVAILABLE", True, None),
    ],
)
def test_errors(status: int, body: object, reason: str, retryable: bool, code: str | None) -> None:
    failure = parse_error(status, body)

    assert (failure.reason_name, failure.retryable) == (reason, retryable)
    assert failure.metadata.get("provider_code") == code
    assert "words" not in failure.message


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "1", "retry-after-ms": "0"}, 1),
        ({"retry-after": "0", "retry-after-ms": "0"}, 0),
        ({"retry-after": "3", "retry-after-ms": "2500"}, 2.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "4s"}, 4),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait: float) -> None:
    assert parse_error(429, error("RateLimitReached"), headers).retry_after == wait
