"""Errors as OpenAI and the servers that follow it write them, sorted by who is at fault.

Read in this order: HTTP status, then code or type, then the message for the few things that only it tells.
Nothing of the message is passed on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from gateway_server.errors import GatewayError
from gateway_server.providers.wire.faults import status_error
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.retry_after import read_retry_after

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_STATUS: Final = re.compile(r"[45]\d\d", re.ASCII)
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
#: Words that servers without codes of their own use, and the code that others give for the same.
_CODE_BY_MESSAGE: Final = (
    (
        re.compile(r"maximum context length|context[_ ]length[_ ]exceeded|context window", re.IGNORECASE),
        "context_length_exceeded",
    ),
    (re.compile(r"the model .{1,256} does not exist", re.IGNORECASE), "model_not_found"),
)
#: How much of a message is looked at, in characters.
_SEARCHED: Final = 4096

#: Codes of an account that is out of money or of its quota: waiting does not help.
_NO_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
#: Codes of a refusal on grounds of content, whatever the status.
_CONTENT_FILTER: Final = frozenset({"content_filter", "content_policy_violation"})

#: The HTTP status that an error inside a stream, or inside an answer with status 200, stands for.
_STATUS_BY_CODE: Final[Mapping[str, int]] = {
    "authentication_error": 401,
    "AuthenticationError": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "PermissionDeniedError": 403,
    "BadRequestError": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "NotFoundError": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "RateLimitError": 429,
    "requests": 429,
    "tokens": 429,
}
_UNKNOWN_STATUS: Final = 500


@dataclass(frozen=True, slots=True)
class _ProviderError:
    """What a provider said: its word for the error and for its kind, the parameter, the status it repeats."""

    code: str = ""
    kind: str = ""
    parameter: str = ""
    number: int | None = None


def parse_error(status: int, headers: Mapping[str, str], body: bytes, provider: str) -> GatewayError:
    """The failure that a response with an HTTP error status stands for; ``provider`` as in Target."""
    try:
        said = _read(orjson.loads(body))
    except orjson.JSONDecodeError:
        said = _ProviderError()
    error = _classify(status, said, provider, http_status=status)
    if error.retryable:
        error.retry_after = read_retry_after(headers)
    return error


def parse_error_in_answer(error: object, provider: str) -> GatewayError:
    """The failure that an ``error`` in a stream, or in an answer with status 200, stands for."""
    said = _read({"error": error})
    by_word = (_STATUS_BY_CODE[word] for word in (said.code, said.kind) if word in _STATUS_BY_CODE)
    status = said.number or next(by_word, _UNKNOWN_STATUS)
    return _classify(status, said, provider, http_status=None)


def _read(body: object) -> _ProviderError:
    """Takes ``{"error": {...}}``, ``{"error": "words"}``, ``{"detail": ...}`` and bare fields."""
    if not isinstance(body, dict):
        return _ProviderError()
    error = body.get("error", body)
    if not isinstance(error, dict):
        return _ProviderError(_code_by_message(error))
    return _read_fields(error)


def _read_fields(error: JsonObject) -> _ProviderError:
    code, kind = error.get("code"), _known(error.get("type"), _CODE)
    number = int(code) if isinstance(code, int | str) and _STATUS.fullmatch(str(code)) else None
    # A number only repeats the status; the message or the type says more.
    word = _code_by_message(error.get("message")) or _known(None if number else code, _CODE) or kind
    return _ProviderError(word, kind, _known(error.get("param"), _PARAMETER), number)


def _known(word: object, pattern: re.Pattern[str]) -> str:
    return word if isinstance(word, str) and pattern.fullmatch(word) else ""


def _code_by_message(message: object) -> str:
    if not isinstance(message, str):
        return ""
    return next((code for pattern, code in _CODE_BY_MESSAGE if pattern.search(message, 0, _SEARCHED)), "")


def _classify(status: int, said: _ProviderError, provider: str, *, http_status: int | None) -> GatewayError:
    """Sorts by status; the code decides only where it says more than the status does."""
    return status_error(
        status,
        provider,
        http_status=http_status,
        code=said.code,
        parameter=said.parameter,
        is_content_refusal=said.code in _CONTENT_FILTER,
        is_out_of_quota=status == 429 and said.code in _NO_QUOTA,
    )
