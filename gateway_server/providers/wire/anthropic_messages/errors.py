"""Errors as Anthropic writes them, sorted by who is at fault.

Read in this order: HTTP status, then type, then the message for the few things that only it tells.
Nothing of the message is passed on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from gateway_server.errors import GatewayError
from gateway_server.providers.wire.faults import status_error
from gateway_server.providers.wire.retry_after import MAX_SECONDS, read_retry_after

_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: What only the message tells, and the code that OpenAI gives for the same.
_CODE_BY_MESSAGE: Final = (
    (re.compile(r"prompt is too long|exceeds? (?:the )?context (?:limit|window)"), "context_length_exceeded"),
    (re.compile(r"^model: "), "model_not_found"),
    (re.compile(r"credit balance is too low"), "credit_balance_too_low"),
)
#: The place in the request, as in ``messages.0.content.1: ...``.
_PARAMETER: Final = re.compile(r"([a-z_]{1,32}(?:\.[A-Za-z0-9_]{1,32}){0,8}): ")
_NO_CREDIT: Final = frozenset({"billing_error", "credit_balance_too_low"})

#: The HTTP status that an error inside a stream, or inside an answer with status 200, stands for.
_STATUS_BY_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_UNKNOWN_STATUS: Final = 500
_LIMITS: Final = ("requests", "tokens", "input-tokens", "output-tokens")


@dataclass(frozen=True, slots=True)
class _ProviderError:
    """What the provider said: its word for the error, the kind of error, and the place in the request."""

    code: str = ""
    kind: str = ""
    parameter: str = ""


def parse_error(status: int, headers: Mapping[str, str], body: bytes, provider: str) -> GatewayError:
    """The failure that a response with an HTTP error status stands for; ``provider`` as in Target."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    said = _read(answer.get("error") if isinstance(answer, dict) else None)
    error = _classify(status, said, provider, http_status=status)
    if error.retryable:
        wait = read_retry_after(headers)
        error.retry_after = _read_resets(headers) if wait is None else wait
    return error


def parse_error_in_answer(error: object, provider: str) -> GatewayError:
    """The failure that an ``error`` in a stream, or in an answer with status 200, stands for."""
    said = _read(error)
    return _classify(_STATUS_BY_TYPE.get(said.kind, _UNKNOWN_STATUS), said, provider, http_status=None)


def _read(error: object) -> _ProviderError:
    if not isinstance(error, dict):
        return _ProviderError()
    kind, message = error.get("type"), error.get("message")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        kind = ""
    if not isinstance(message, str):
        return _ProviderError(kind, kind)
    code = next((code for pattern, code in _CODE_BY_MESSAGE if pattern.search(message)), kind)
    parameter = _PARAMETER.match(message)
    return _ProviderError(code, kind, parameter[1] if parameter else "")


def _classify(status: int, said: _ProviderError, provider: str, *, http_status: int | None) -> GatewayError:
    return status_error(
        status,
        provider,
        http_status=http_status,
        code=said.code,
        parameter=said.parameter,
        is_out_of_quota=400 <= status < 500 and said.code in _NO_CREDIT,
    )


def _read_resets(headers: Mapping[str, str]) -> float | None:
    """The longest wait for those limits that are used up, by the provider's own clock."""
    try:
        now = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    waits = [
        wait
        for limit in _LIMITS
        if headers.get(f"anthropic-ratelimit-{limit}-remaining", "").strip() == "0"
        and (wait := _read_wait(headers.get(f"anthropic-ratelimit-{limit}-reset", ""), now)) is not None
    ]
    return max(waits, default=None)


def _read_wait(reset: str, now: datetime) -> float | None:
    try:
        wait = (datetime.fromisoformat(reset.strip()) - now).total_seconds()
        return min(max(wait, 0.0), MAX_SECONDS)
    except (ValueError, TypeError, OverflowError):
        return None
