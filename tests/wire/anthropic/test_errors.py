"""Who is at fault when Anthropic refuses, row by row; and how long to wait."""

import orjson
import pytest

from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_target


def parse(
    status: int, kind: str = "", message: str = "", headers: dict[str, str] | None = None
) -> GatewayError:
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
    return chat_format("anthropic").parse_error(status, headers or {}, body, make_target("anthropic"))


@pytest.mark.parametrize(
    ("status", "kind", "message", "reason", "retryable", "metadata"),
    [
        (
            400,
            "invalid_request_error",
            "messages.0.content.1: Input should be valid",
            "UPSTREAM_REJECTED",
            False,
            {"provider_code": "invalid_request_error", "provider_parameter": "messages.0.content.1"},
        ),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 3333404 tokens > 200000 maximum",
            "UPSTREAM_REJECTED",
            False,
            {"provider_code": "context_length_exceeded"},
        ),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000",
            "UPSTREAM_REJECTED",
            False,
            {"provider_code": "context_length_exceeded"},
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
            "UPSTREAM_RATE_LIMITED",
            False,
            {"provider_code": "credit_balance_too_low"},
        ),
        (401, "authentication_error", "invalid x-api-key", "UPSTREAM_CREDENTIAL_REJECTED", False, {}),
        (402, "billing_error", "", "UPSTREAM_RATE_LIMITED", False, {"provider_code": "billing_error"}),
        (403, "permission_error", "", "UPSTREAM_CREDENTIAL_REJECTED", False, {}),
        (
            404,
            "not_found_error",
            "model: claude-nothing",
            "UPSTREAM_REJECTED",
            False,
            {"provider_code": "model_not_found", "provider_parameter": "model"},
        ),
        (
            404,
            "not_found_error",
            "File not found",
            "UPSTREAM_REJECTED",
            False,
            {"provider_code": "not_found_error"},
        ),
        (409, "conflict_error", "", "UPSTREAM_UNAVAILABLE", True, {"cause": "conflict_error"}),
        (
            413,
            "request_too_large",
            "Request exceeds the maximum size",
            "UPSTREAM_REJECTED",
            False,
            {"provider_code": "request_too_large"},
        ),
        (429, "rate_limit_error", "", "UPSTREAM_RATE_LIMITED", True, {"provider_code": "rate_limit_error"}),
        (500, "api_error", "", "UPSTREAM_UNAVAILABLE", True, {"cause": "api_error"}),
        (504, "timeout_error", "", "UPSTREAM_UNAVAILABLE", True, {"cause": "timeout_error"}),
        (529, "overloaded_error", "Overloaded", "UPSTREAM_UNAVAILABLE", True, {"cause": "overloaded_error"}),
        (529, "with spaces and 'more'", "", "UPSTREAM_UNAVAILABLE", True, {"cause": "server_error"}),
        (307, "", "", "UPSTREAM_PROTOCOL_ERROR", False, {}),
    ],
)
def test_each_failure(
    status: int, kind: str, message: str, reason: str, retryable: bool, metadata: dict[str, str]
) -> None:
    error = parse(status, kind, message)

    assert (error.reason_name, error.retryable) == (reason, retryable)
    assert error.metadata["provider"] == "providers/my-anthropic"
    told = {key: value for key, value in error.metadata.items() if key.startswith(("provider_", "cause"))}
    if reason != "UPSTREAM_PROTOCOL_ERROR":
        assert told == metadata
    assert not message or message not in error.message


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"[]", b"{}", b'{"error":"words"}', b'{"error":{"type":5,"message":[]}}'],
)
def test_bodies_that_are_not_the_providers(body: bytes) -> None:
    error = chat_format("anthropic").parse_error(502, {}, body, make_target("anthropic"))

    assert (error.reason_name, error.retryable) == ("UPSTREAM_UNAVAILABLE", True)
    assert error.metadata["cause"] == "server_error"


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"date": "Wed, 21 Oct 99999999999 07:28:00 GMT"}, None),
        ({"date": "Wed, 21 Oct 2026 07:28:00 +9999999999999999"}, None),
        (
            {
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "9999-12-31T23:59:59-23:59",
            },
            366 * 86_400.0,
        ),
        (
            {
                "retry-after": "7",
                "date": DATE,
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-10-21T07:29:00Z",
            },
            7.0,
        ),
        (
            {
                "date": DATE,
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-10-21T07:28:30Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-10-21T07:29:00Z",
                "anthropic-ratelimit-output-tokens-remaining": "5",
                "anthropic-ratelimit-output-tokens-reset": "2026-10-21T08:00:00Z",
            },
            60.0,
        ),
        (
            {
                "date": DATE,
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-10-21T07:00:00Z",
            },
            0.0,
        ),
        (
            {
                "date": DATE,
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "soon",
            },
            None,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-10-21T07:29:00Z",
            },
            None,
        ),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert parse(429, "rate_limit_error", headers=headers).retry_after == wait


def test_nobody_waits_for_what_will_not_change() -> None:
    """The header comes with answers of every status."""
    assert parse(400, "invalid_request_error", headers={"retry-after": "7"}).retry_after is None
