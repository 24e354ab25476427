"""Who is at fault when a server of the OpenAI family refuses or fails, and whether to try again."""

from typing import Any

import orjson
import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_endpoint, make_target, read_stream, to_sse

PROVIDER = {"provider": "providers/my-openai"}
SECRET = "the words of the provider sk-123"


def error(
    code: object = None, kind: object = "invalid_request_error", message: str = SECRET, **more: object
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def parse(status: int, body: object, headers: dict[str, str] | None = None) -> GatewayError:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return chat_format().parse_error(status, headers or {}, data, make_target())


REJECTED, CREDENTIAL_REJECTED = "UPSTREAM_REJECTED", "UPSTREAM_CREDENTIAL_REJECTED"
RATE_LIMITED, UNAVAILABLE = "UPSTREAM_RATE_LIMITED", "UPSTREAM_UNAVAILABLE"
LENGTH = "This model's maximum context length is 2048 tokens."
NO_MODEL = "The model `nope` does not exist."


def code(word: str, parameter: str = "") -> dict[str, str]:
    return {"provider_code": word} | ({"provider_parameter": parameter} if parameter else {})


@pytest.mark.parametrize(
    ("status", "body", "reason", "retryable", "metadata"),
    [
        # The caller's fault.
        (
            400,
            error("unsupported_value", param="messages[0].role"),
            REJECTED,
            False,
            code("unsupported_value", "messages[0].role"),
        ),
        (400, error("context_length_exceeded"), REJECTED, False, code("context_length_exceeded")),
        (400, error("content_filter", status=400), REJECTED, False, code("content_filter")),
        (403, error("content_policy_violation"), REJECTED, False, code("content_policy_violation")),
        (404, error("model_not_found"), REJECTED, False, code("model_not_found")),
        (413, error(None, "request_too_large"), REJECTED, False, code("request_too_large")),
        (422, {"detail": [{"loc": ["body"], "msg": SECRET}]}, REJECTED, False, {}),
        # vLLM: numbers for codes, its types, its words, its 2024 shape, plain strings.
        (
            400,
            error(400, "BadRequestError", param="temperature"),
            REJECTED,
            False,
            code("BadRequestError", "temperature"),
        ),
        (400, error(400, "Bad Request"), REJECTED, False, {}),
        (400, error(400, "BadRequestError", LENGTH), REJECTED, False, code("context_length_exceeded")),
        (404, error(404, "NotFoundError", NO_MODEL), REJECTED, False, code("model_not_found")),
        (
            400,
            {"object": "error", "message": SECRET, "type": "BadRequestError", "param": None, "code": 400},
            REJECTED,
            False,
            code("BadRequestError"),
        ),
        (404, {"detail": "Not Found"}, REJECTED, False, {}),
        # The gateway's credential.
        (401, error("invalid_api_key"), CREDENTIAL_REJECTED, False, {}),
        (401, {"error": "Unauthorized"}, CREDENTIAL_REJECTED, False, {}),
        (401, error("401", None), CREDENTIAL_REJECTED, False, {}),
        (403, error("unsupported_country_region_territory"), CREDENTIAL_REJECTED, False, {}),
        # Its limits.
        (429, error("rate_limit_exceeded", "requests"), RATE_LIMITED, True, code("rate_limit_exceeded")),
        (429, b"slow down", RATE_LIMITED, True, {}),
        (
            429,
            error("insufficient_quota", "insufficient_quota"),
            RATE_LIMITED,
            False,
            code("insufficient_quota"),
        ),
        (402, error("insufficient_balance"), RATE_LIMITED, False, code("insufficient_balance")),
        # The provider's fault.
        (408, error(None, "timeout"), UNAVAILABLE, True, {"cause": "timeout"}),
        (409, error(None, None), UNAVAILABLE, True, {"cause": "server_error"}),
        (500, error(None, "server_error"), UNAVAILABLE, True, {"cause": "server_error"}),
        (500, error(500, "InternalServerError"), UNAVAILABLE, True, {"cause": "InternalServerError"}),
        (502, b"<html>Bad Gateway</html>", UNAVAILABLE, True, {"cause": "server_error"}),
        (503, b"", UNAVAILABLE, True, {"cause": "server_error"}),
        (504, b"\xff", UNAVAILABLE, True, {"cause": "server_error"}),
        (529, error("overloaded"), UNAVAILABLE, True, {"cause": "overloaded"}),
    ],
)
def test_http_errors(
    status: int, body: object, reason: str, retryable: bool, metadata: dict[str, str]
) -> None:
    failure = parse(status, body)

    with_status = {} if reason == "UPSTREAM_RATE_LIMITED" else {"http_status": str(status)}
    assert (failure.reason_name, failure.retryable) == (reason, retryable)
    assert failure.metadata == {**PROVIDER, **with_status, **metadata}
    assert SECRET not in failure.message


def test_a_redirect_is_not_followed() -> None:
    failure = parse(302, b"")

    assert failure.reason == ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR
    assert not failure.retryable


@pytest.mark.parametrize(
    "code",
    ["has spaces", "x" * 65, "line\nbreak", "<b>", "é", "", 5, True, None, {}, ["a"], "$(rm)"],
)
def test_only_words_that_look_like_codes_are_shown(code: object) -> None:
    failure = parse(400, error(code, code, param=code))

    assert failure.metadata == {**PROVIDER, "http_status": "400"}


@pytest.mark.parametrize(
    "body", [[], 5, None, {"error": None}, {"error": 5}, {"error": []}, {"error": {"code": {}}}]
)
def test_odd_bodies_are_sorted_by_status_alone(body: object) -> None:
    assert parse(400, body).reason_name == "UPSTREAM_REJECTED"
    assert parse(500, body).reason_name == "UPSTREAM_UNAVAILABLE"


def test_how_long_to_wait_is_told_where_waiting_helps() -> None:
    headers = {"retry-after": "7"}

    assert parse(429, error("rate_limit_exceeded"), headers).retry_after == 7
    assert parse(503, b"", headers).retry_after == 7
    assert parse(429, error("insufficient_quota"), headers).retry_after is None
    assert parse(400, error("bad"), headers).retry_after is None


@pytest.mark.parametrize(
    ("said", "reason", "retryable"),
    [
        ({"code": "rate_limit_exceeded", "type": "tokens"}, "UPSTREAM_RATE_LIMITED", True),
        ({"code": "unknown", "type": "rate_limit_error"}, "UPSTREAM_RATE_LIMITED", True),
        ({"code": "insufficient_quota"}, "UPSTREAM_RATE_LIMITED", False),
        ({"type": "server_error"}, "UPSTREAM_UNAVAILABLE", True),
        ({"type": "BadRequestError", "code": 400}, "UPSTREAM_REJECTED", False),
        ({"type": "InternalServerError", "code": 500}, "UPSTREAM_UNAVAILABLE", True),
        ({"code": "502"}, "UPSTREAM_UNAVAILABLE", True),
        ({"code": "context_length_exceeded"}, "UPSTREAM_REJECTED", False),
        ({"code": "content_filter"}, "UPSTREAM_REJECTED", False),
        ({"code": "invalid_api_key"}, "UPSTREAM_CREDENTIAL_REJECTED", False),
        ({}, "UPSTREAM_UNAVAILABLE", True),
        ("Something broke", "UPSTREAM_UNAVAILABLE", True),
    ],
)
def test_errors_within_a_stream(said: object, reason: str, retryable: bool) -> None:
    with pytest.raises(GatewayError) as caught:
        read_stream(chat_format().chat_stream(make_target()), [to_sse([{"error": said}])])

    assert (caught.value.reason_name, caught.value.retryable) == (reason, retryable)
    assert "http_status" not in caught.value.metadata


def test_embeddings_fail_in_the_same_words() -> None:
    wire_format = make_endpoint("openai").embeddings_format
    assert wire_format is not None

    failure = wire_format.parse_error(404, {}, orjson.dumps(error("model_not_found")), make_target())

    assert failure.metadata == {**PROVIDER, "http_status": "404", "provider_code": "model_not_found"}
