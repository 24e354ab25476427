"""Failures as Google's APIs tell them: who is at fault, whether to try again, and when."""

from typing import Any

import orjson
import pytest

from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_endpoint, make_target

INFO = "type.googleapis.com/google.rpc.ErrorInfo"
PROVIDER = "providers/my-google"


def body(status: str, *details: dict[str, Any], code: int = 0, message: str = "secret words") -> bytes:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return orjson.dumps({"error": error})


def parse(status: int, data: bytes, headers: dict[str, str] | None = None) -> GatewayError:
    return chat_format("google").parse_error(status, headers or {}, data, make_target("google"))


@pytest.mark.parametrize(
    ("status", "word", "reason", "retryable"),
    [
        (400, "INVALID_ARGUMENT", "UPSTREAM_REJECTED", False),
        (400, "FAILED_PRECONDITION", "UPSTREAM_REJECTED", False),
        (400, "OUT_OF_RANGE", "UPSTREAM_REJECTED", False),
        (401, "UNAUTHENTICATED", "UPSTREAM_CREDENTIAL_REJECTED", False),
        (403, "PERMISSION_DENIED", "UPSTREAM_CREDENTIAL_REJECTED", False),
        (404, "NOT_FOUND", "UPSTREAM_REJECTED", False),
        (409, "ABORTED", "UPSTREAM_UNAVAILABLE", True),
        (413, "INVALID_ARGUMENT", "UPSTREAM_REJECTED", False),
        (429, "RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED", True),
        (499, "CANCELLED", "UPSTREAM_UNAVAILABLE", True),
        (500, "INTERNAL", "UPSTREAM_UNAVAILABLE", True),
        (500, "UNKNOWN", "UPSTREAM_UNAVAILABLE", True),
        (501, "UNIMPLEMENTED", "UPSTREAM_UNAVAILABLE", True),
        (503, "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", True),
        (504, "DEADLINE_EXCEEDED", "UPSTREAM_UNAVAILABLE", True),
        (302, "", "UPSTREAM_PROTOCOL_ERROR", False),
    ],
)
def test_each_status(status: int, word: str, reason: str, retryable: bool) -> None:
    error = parse(status, body(word, code=status))

    assert (error.reason_name, error.retryable) == (reason, retryable)
    assert error.metadata["provider"] == PROVIDER
    assert "secret words" not in error.message
    # The same in a list of one, as streams send it, and inside an answer.
    assert parse(status, b"[" + body(word, code=status) + b"]").reason == error.reason
    if status >= 400:
        with pytest.raises(GatewayError) as caught:
            chat_format("google").parse_chat(body(word, code=status), make_target("google"))
        assert caught.value.reason == error.reason
        assert "http_status" not in caught.value.metadata


@pytest.mark.parametrize(
    ("status", "details", "message", "reason", "code"),
    [
        (
            400,
            [{"@type": INFO, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
            "API key not valid. Please pass a valid API key.",
            "UPSTREAM_CREDENTIAL_REJECTED",
            None,
        ),
        (
            403,
            [{"@type": INFO, "reason": "SERVICE_DISABLED"}],
            "Generative Language API has not been used",
            "UPSTREAM_CREDENTIAL_REJECTED",
            None,
        ),
        (
            400,
            [],
            "User location is not supported for the API use.",
            "UPSTREAM_CREDENTIAL_REJECTED",
            None,
        ),
        (
            400,
            [],
            "Gemini API free tier is not available in your country.",
            "UPSTREAM_CREDENTIAL_REJECTED",
            None,
        ),
        (
            403,
            [],
            "You do not have permission to access the File abc or it may not exist.",
            "UPSTREAM_REJECTED",
            "file_not_found",
        ),
        (403, [], "CachedContent not found (or permission denied)", "UPSTREAM_REJECTED", "file_not_found"),
        (
            400,
            [],
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "UPSTREAM_REJECTED",
            "context_length_exceeded",
        ),
        (
            404,
            [],
            "models/gemini-x is not found for API version v1beta",
            "UPSTREAM_REJECTED",
            "model_not_found",
        ),
        (400, [{"reason": "SOME_REASON"}], "words", "UPSTREAM_REJECTED", "SOME_REASON"),
        (400, [{"reason": "not a code"}, {"reason": 5}], "words", "UPSTREAM_REJECTED", "INVALID_ARGUMENT"),
    ],
)
def test_reasons_that_say_more_than_the_status(
    status: int, details: list[Any], message: str, reason: str, code: str | None
) -> None:
    error = parse(status, body("INVALID_ARGUMENT", *details, code=status, message=message))

    assert error.reason_name == reason
    assert error.metadata.get("provider_code") == code
    assert message not in error.message
    assert not error.retryable


def test_the_field_at_fault_is_named() -> None:
    bad = {"fieldViolations": [{"field": "contents[0].parts", "description": "secret words"}]}

    error = parse(400, body("INVALID_ARGUMENT", bad))

    assert error.metadata["provider_parameter"] == "contents[0].parts"


def quota(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


def retry(delay: object) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("details", "headers", "wait"),
    [
        ([retry("34.4s")], {}, 34.4),
        ([quota("GenerateRequestsPerMinute"), retry("48s")], {}, 48),
        ([retry("0s")], {}, 0),
        ([retry("1.5s")], {"retry-after": "9"}, 1.5),
        ([], {"retry-after": "9"}, 9),
        ([retry("soon")], {}, None),
        ([retry(5)], {}, None),
        ([retry("99999999999s")], {}, 366 * 86400),
        ([], {}, None),
    ],
)
def test_how_long_to_wait(details: list[Any], headers: dict[str, str], wait: float | None) -> None:
    assert parse(429, body("RESOURCE_EXHAUSTED", *details), headers).retry_after == wait
    assert parse(503, body("UNAVAILABLE", *details), headers).retry_after == wait


def test_a_wait_is_told_only_where_it_helps() -> None:
    assert parse(400, body("INVALID_ARGUMENT", retry("5s")), {"retry-after": "9"}).retry_after is None


def test_a_quota_of_a_day_is_not_worth_a_retry() -> None:
    error = parse(
        429,
        body("RESOURCE_EXHAUSTED", quota("GenerateRequestsPerDayPerProjectPerModel"), retry("5s"), code=429),
    )

    assert error.reason_name == "UPSTREAM_RATE_LIMITED"
    assert not error.retryable
    assert error.retry_after is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b"{}",
        b'{"error": "words"}',
        b'{"error": {"status": 5, "code": "x", "details": 5, "message": 5}}',
        b'{"error": {"details": [5, {"violations": 5}, {"violations": [5]}, {"fieldViolations": [5]}]}}',
    ],
)
def test_bodies_that_say_nothing_are_sorted_by_status(data: bytes) -> None:
    assert parse(502, data).reason_name == "UPSTREAM_UNAVAILABLE"
    assert parse(404, data).reason_name == "UPSTREAM_REJECTED"
    assert parse(404, data).metadata == {"provider": PROVIDER, "http_status": "404"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"status": "UNAVAILABLE"}, "UPSTREAM_UNAVAILABLE"),
        ({"status": "RESOURCE_EXHAUSTED"}, "UPSTREAM_RATE_LIMITED"),
        ({"status": "INVALID_ARGUMENT", "code": 7}, "UPSTREAM_REJECTED"),
        ({"status": "PERMISSION_DENIED"}, "UPSTREAM_CREDENTIAL_REJECTED"),
        ({}, "UPSTREAM_UNAVAILABLE"),
        ("words", "UPSTREAM_UNAVAILABLE"),
    ],
)
def test_an_error_within_an_answer_that_does_not_repeat_the_status(error: Any, reason: str) -> None:
    with pytest.raises(GatewayError) as caught:
        chat_format("google").parse_chat(orjson.dumps({"error": error}), make_target("google"))

    assert caught.value.reason_name == reason


def test_all_formats_of_the_provider_read_errors_alike() -> None:
    endpoint, data = make_endpoint("google"), body("UNAVAILABLE", retry("5s"), code=503)
    assert endpoint.embeddings_format is not None

    error = endpoint.embeddings_format.parse_error(503, {}, data, make_target("google"))

    assert (error.reason_name, error.retry_after) == ("UPSTREAM_UNAVAILABLE", 5)
