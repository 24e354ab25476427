"""Who is at fault when Bedrock refuses or fails, whole or within a stream, and whether to try again."""

from typing import Any

import orjson
import pytest

from gateway_server.errors import GatewayError
from tests.support.event_stream import event, exception, unmodeled_error
from tests.support.wire import chat_format, make_endpoint, make_target, read_until_failure

TARGET = make_target("bedrock")
WORDS = "words of the provider"
REJECTED, CREDENTIAL = "UPSTREAM_REJECTED", "UPSTREAM_CREDENTIAL_REJECTED"
INVALID, THROTTLED = "ValidationException", "ThrottlingException"
TOO_LONG = "context_length_exceeded"
LIMITED, UNAVAILABLE = "UPSTREAM_RATE_LIMITED", "UPSTREAM_UNAVAILABLE"


def parse(status: int, kind: str, message: str = WORDS, **headers: str) -> GatewayError:
    told = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/", **headers}
    return chat_format("bedrock").parse_error(status, told, orjson.dumps({"message": message}), TARGET)


@pytest.mark.parametrize(
    ("status", "kind", "message", "reason", "retryable", "code"),
    [
        (400, INVALID, WORDS, REJECTED, False, "ValidationException"),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            REJECTED,
            False,
            "model_not_found",
        ),
        (
            400,
            "ValidationException",
            "Input is too long for requested model.",
            REJECTED,
            False,
            TOO_LONG,
        ),
        (
            400,
            "ValidationException",
            "Input Tokens Exceeded: ...",
            REJECTED,
            False,
            TOO_LONG,
        ),
        (
            400,
            "ValidationException",
            "prompt is too long: 9 tokens",
            REJECTED,
            False,
            TOO_LONG,
        ),
        (404, "ResourceNotFoundException", WORDS, REJECTED, False, "ResourceNotFoundException"),
        (403, "AccessDeniedException", WORDS, CREDENTIAL, False, None),
        (403, "UnrecognizedClientException", WORDS, CREDENTIAL, False, None),
        (403, "InvalidSignatureException", WORDS, CREDENTIAL, False, None),
        (403, "ExpiredTokenException", WORDS, CREDENTIAL, False, None),
        (400, "IncompleteSignatureException", WORDS, CREDENTIAL, False, None),
        (400, "MissingAuthenticationTokenException", WORDS, CREDENTIAL, False, None),
        (429, "ThrottlingException", WORDS, LIMITED, True, "ThrottlingException"),
        (400, "ThrottlingException", WORDS, LIMITED, True, "ThrottlingException"),
        (
            429,
            "ThrottlingException",
            "Too many tokens per day, please wait.",
            LIMITED,
            False,
            "daily_quota_exceeded",
        ),
        (400, "ServiceQuotaExceededException", WORDS, LIMITED, False, "ServiceQuotaExceededException"),
        (429, "ModelNotReadyException", WORDS, UNAVAILABLE, True, None),
        (408, "ModelTimeoutException", WORDS, UNAVAILABLE, True, None),
        (424, "ModelErrorException", WORDS, UNAVAILABLE, True, None),
        (500, "InternalServerException", WORDS, UNAVAILABLE, True, None),
        (503, "ServiceUnavailableException", WORDS, UNAVAILABLE, True, None),
        (500, "SomethingNewException", WORDS, UNAVAILABLE, True, None),
        (418, "SomethingNewException", WORDS, REJECTED, False, "SomethingNewException"),
    ],
)
def test_errors(status: int, kind: str, message: str, reason: str, retryable: bool, code: str | None) -> None:
    failure = parse(status, kind, message)

    assert (failure.reason_name, failure.retryable) == (reason, retryable)
    assert failure.metadata.get("provider_code") == code
    if reason == UNAVAILABLE:
        assert failure.metadata["cause"] == kind
    if reason != LIMITED:
        assert failure.metadata["http_status"] == str(status)
    assert message not in failure.message


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"__type": "ThrottlingException", "message": WORDS}, {}),
        ({"__type": "com.amazon.coral.service#ThrottlingException", "Message": WORDS}, {}),
        ({"code": "ThrottlingException"}, {}),
        ({"message": WORDS}, {"x-amzn-errortype": "ThrottlingException"}),
        ([], {"x-amzn-errortype": "ThrottlingException:"}),
    ],
)
def test_where_the_kind_stands(body: Any, headers: dict[str, str]) -> None:
    failure = chat_format("bedrock").parse_error(400, headers, orjson.dumps(body), TARGET)

    assert failure.metadata == {"provider": "providers/my-bedrock", "provider_code": "ThrottlingException"}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"5", b'{"message": 5}', b'{"__type": {}}', b"\xff"])
def test_odd_bodies_are_sorted_by_status_alone(body: bytes) -> None:
    wire_format = chat_format("bedrock")

    assert wire_format.parse_error(400, {}, body, TARGET).reason_name == REJECTED
    assert wire_format.parse_error(503, {}, body, TARGET).reason_name == UNAVAILABLE
    assert wire_format.parse_error(302, {}, body, TARGET).reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("kind", ["has spaces", "x" * 65, "<b>", "é", "$(rm)"])
def test_only_words_that_look_like_kinds_are_shown(kind: str) -> None:
    assert "provider_code" not in parse(400, kind).metadata


def test_how_long_to_wait_is_told_where_waiting_helps() -> None:
    assert parse(429, "ThrottlingException", **{"retry-after": "7"}).retry_after == 7
    assert parse(400, INVALID, **{"retry-after": "7"}).retry_after is None


START = event("messageStart", {"role": "assistant"})
TEXT = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})


@pytest.mark.parametrize(
    ("failing", "reason", "retryable"),
    [
        (exception("throttlingException"), LIMITED, True),
        (exception("modelStreamErrorException"), UNAVAILABLE, True),
        (exception("internalServerException"), UNAVAILABLE, True),
        (exception("serviceUnavailableException"), UNAVAILABLE, True),
        (exception("modelTimeoutException"), UNAVAILABLE, True),
        (exception("validationException"), REJECTED, False),
        (exception("somethingNewException"), UNAVAILABLE, True),
        (exception(""), UNAVAILABLE, True),
        (unmodeled_error("InternalFailure"), UNAVAILABLE, True),
        (unmodeled_error("ThrottlingException"), LIMITED, True),
    ],
)
@pytest.mark.parametrize("before", [b"", START, START + TEXT])
def test_failures_within_a_stream_come_after_what_was_said(
    before: bytes, failing: bytes, reason: str, retryable: bool
) -> None:
    parser = chat_format("bedrock").chat_stream(TARGET)

    events, failure = read_until_failure(parser, [before + failing])

    assert failure is not None
    assert (failure.reason_name, failure.retryable) == (reason, retryable)
    assert "http_status" not in failure.metadata
    assert WORDS not in failure.message
    texts = [each.part_delta.text for each in events if each.HasField("part_delta")]
    assert texts == (["Hi"] if TEXT in before else [])


def test_embeddings_and_counts_fail_in_the_same_words() -> None:
    endpoint = make_endpoint("bedrock")
    assert endpoint.embeddings_format is not None

    failure = endpoint.embeddings_format.parse_error(
        404, {"x-amzn-errortype": "ResourceNotFoundException"}, b"{}", TARGET
    )

    assert failure.metadata["provider_code"] == "ResourceNotFoundException"
