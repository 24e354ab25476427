"""Errors as Google's APIs write them (google.rpc.Status as JSON), sorted by who is at fault.

Read in this order: HTTP status, then the reason in the details, then the message for the few things that only
it tells. Nothing of the message is passed on.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway_server.errors import GatewayError
from gateway_server.providers.wire.faults import status_error
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.retry_after import MAX_SECONDS, read_duration, read_retry_after

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}", re.ASCII)
#: What has no code of its own, by words of the message: the code that other formats give for the same.
_CODE_BY_MESSAGE: Final = (
    (re.compile(r"token count .{0,40}exceeds the maximum number of tokens"), "context_length_exceeded"),
    (re.compile(r"models?/\S{1,256} is not found"), "model_not_found"),
    # Files and caches that a request names: not the gateway's credential is at fault.
    (
        re.compile(r"permission to access the (?:File|CachedContent)|CachedContent not found"),
        "file_not_found",
    ),
    # Where the gateway runs, or its account, cannot use the API at all.
    (re.compile(r"location is not supported|free tier is not available"), "location_not_supported"),
)
#: Reasons and codes that speak of the gateway's key or account, whatever the status.
_CREDENTIAL: Final = frozenset(
    {
        "ACCOUNT_STATE_INVALID",
        "ACCESS_TOKEN_EXPIRED",
        "ACCESS_TOKEN_TYPE_UNSUPPORTED",
        "API_KEY_EXPIRED",
        "API_KEY_INVALID",
        "BILLING_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "CREDENTIALS_MISSING",
        "SERVICE_DISABLED",
        "location_not_supported",
    }
)
#: The HTTP status that an error inside an answer stands for, where it does not repeat the number.
_STATUS_BY_CODE: Final[Mapping[str, int]] = {
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "CANCELLED": 499,
    "DEADLINE_EXCEEDED": 504,
    "FAILED_PRECONDITION": 400,
    "INTERNAL": 500,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "OUT_OF_RANGE": 400,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAUTHENTICATED": 401,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 501,
}
_CLIENT_CLOSED: Final = 499
_UNKNOWN_STATUS: Final = 500
_UNAUTHORIZED: Final = 401


@dataclass(frozen=True, slots=True)
class _ProviderError:
    """What a provider said: its word for the error, the parameter at fault, the status, the wait."""

    code: str = ""
    parameter: str = ""
    number: int | None = None
    wait: float | None = None
    is_out_of_quota: bool = False


def parse_error(status: int, headers: Mapping[str, str], body: bytes, provider: str) -> GatewayError:
    """The failure that a response with an HTTP error status stands for; ``provider`` as in Target."""
    try:
        said = _read(orjson.loads(body))
    except orjson.JSONDecodeError:
        said = _ProviderError()
    error = _classify(status, said, provider, http_status=status)
    if error.retryable and error.retry_after is None:
        error.retry_after = read_retry_after(headers)
    return error


def parse_error_in_answer(error: object, provider: str) -> GatewayError:
    """The failure that an ``error`` in a stream, or in an answer with status 200, stands for."""
    said = _read({"error": error})
    return _classify(said.number or _UNKNOWN_STATUS, said, provider, http_status=None)


def _classify(status: int, said: _ProviderError, provider: str, *, http_status: int | None) -> GatewayError:
    if said.code in _CREDENTIAL:
        status = _UNAUTHORIZED
    elif status == _CLIENT_CLOSED:
        # The provider gave up by itself: nobody here closes a connection and then reads from it.
        status = _UNKNOWN_STATUS
    error = status_error(
        status,
        provider,
        http_status=http_status,
        code=said.code,
        parameter=said.parameter,
        is_content_refusal=said.code == "file_not_found",
        is_out_of_quota=said.is_out_of_quota,
    )
    if error.retryable:
        error.retry_after = said.wait
    return error


def _read(body: object) -> _ProviderError:
    """Takes ``{"error": {...}}``, and the list of one that streams send in its place."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return _ProviderError()
    status, message = _match(error.get("status"), _CODE), error.get("message")
    details = list(_details(error))
    reasons = (_match(detail.get("reason"), _CODE) for detail in details)
    by_message = (
        code for pattern, code in _CODE_BY_MESSAGE if isinstance(message, str) and pattern.search(message)
    )
    number = error.get("code")
    if type(number) is not int or not 400 <= number <= 599:
        number = _STATUS_BY_CODE.get(status)
    return _ProviderError(
        code=next(by_message, "") or next(filter(None, reasons), "") or status,
        parameter=next(filter(None, map(_read_parameter, details)), ""),
        number=number,
        wait=next((wait for wait in map(_read_wait, details) if wait is not None), None),
        is_out_of_quota=number == 429 and any(map(_is_daily, details)),
    )


def _details(error: JsonObject) -> Iterator[JsonObject]:
    details = error.get("details")
    if isinstance(details, list):
        yield from (detail for detail in details if isinstance(detail, dict))


def _match(word: object, pattern: re.Pattern[str]) -> str:
    return word if isinstance(word, str) and pattern.fullmatch(word) else ""


def _read_wait(detail: JsonObject) -> float | None:
    """The wait of a google.rpc.RetryInfo."""
    delay = detail.get("retryDelay")
    wait = read_duration(delay) if isinstance(delay, str) else None
    return None if wait is None else min(wait, MAX_SECONDS)


def _read_parameter(detail: JsonObject) -> str:
    """The field that a google.rpc.BadRequest names first."""
    violations: Any = detail.get("fieldViolations")
    if isinstance(violations, list) and violations and isinstance(violations[0], dict):
        return _match(violations[0].get("field"), _PARAMETER)
    return ""


def _is_daily(detail: JsonObject) -> bool:
    """Whether a google.rpc.QuotaFailure tells of a day's quota: the wait that comes with it does not help."""
    violations = detail.get("violations")
    if not isinstance(violations, list):
        return False
    return any(
        isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")) for violation in violations
    )
