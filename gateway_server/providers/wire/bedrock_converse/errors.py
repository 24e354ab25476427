"""Errors as Bedrock writes them, sorted by who is at fault.

Read in this order: the kind of exception, which implies a status; the HTTP status where the kind is not
known; then the message for the few things that only it tells. Nothing of the message is passed on.
"""

import re
from collections.abc import Mapping
from typing import Final

import orjson

from gateway_server.errors import GatewayError
from gateway_server.providers.wire.faults import status_error
from gateway_server.providers.wire.retry_after import read_retry_after

_KIND: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: What only the message tells, and the code that OpenAI gives for the same.
_CODE_BY_MESSAGE: Final = (
    (
        re.compile(
            r"input is too long|input tokens? exceeded|prompt is too long|maximum context length"
            r"|exceeds? (?:the )?(?:model's )?context (?:limit|window|length)|too many input tokens",
            re.IGNORECASE,
        ),
        "context_length_exceeded",
    ),
    (re.compile(r"provided model identifier is invalid", re.IGNORECASE), "model_not_found"),
    (re.compile(r"too many tokens per day", re.IGNORECASE), "daily_quota_exceeded"),
)
#: Said of models, and of profiles of models, whose names look like those of models that do.
_NOT_COUNTED: Final = re.compile(rb"doesn(?:'|\\u0027)t support counting tokens", re.IGNORECASE)
#: Waiting for seconds does not help.
_NO_QUOTA: Final = frozenset({"ServiceQuotaExceededException", "daily_quota_exceeded"})

#: What each kind of exception means, as an HTTP status, whether it comes with a status or within a stream.
_STATUS_BY_KIND: Final[Mapping[str, int]] = {
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "NotAuthorizedException": 403,
    "OptInRequired": 403,
    "RequestExpired": 403,
    "UnrecognizedClientException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ThrottlingException": 429,
    "TooManyRequestsException": 429,
    "ServiceQuotaExceededException": 429,
    # The model is at fault, not the request, although these come as 424 and 429.
    "ModelErrorException": 502,
    "ModelStreamErrorException": 502,
    "ModelNotReadyException": 503,
    "InternalFailure": 500,
    "InternalServerException": 500,
    "ServiceUnavailable": 503,
    "ServiceUnavailableException": 503,
}
_UNKNOWN_STATUS: Final = 500


def is_not_counted(status: int, body: bytes) -> bool:
    """Whether a response says that the model does not count tokens, which only its message tells."""
    return status == 400 and _NOT_COUNTED.search(body) is not None


def parse_error(status: int, headers: Mapping[str, str], body: bytes, provider: str) -> GatewayError:
    """The failure that a response with an HTTP error status stands for; ``provider`` as in Target."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = {}
    if not isinstance(said, dict):
        said = {}
    kind = _read_kind(headers.get("x-amzn-errortype") or said.get("__type") or said.get("code"))
    message = said.get("message") or said.get("Message")
    implied = _STATUS_BY_KIND.get(kind, status) if status >= 400 else status
    error = _classify(implied, kind, message, provider, http_status=status)
    if error.retryable:
        error.retry_after = read_retry_after(headers)
    return error


def parse_exception(kind: str, message: object, provider: str) -> GatewayError:
    """The failure that an exception within a stream stands for; its name there begins in lower case."""
    kind = _read_kind(kind[:1].upper() + kind[1:])
    return _classify(_STATUS_BY_KIND.get(kind, _UNKNOWN_STATUS), kind, message, provider, http_status=None)


def _read_kind(told: object) -> str:
    """The bare name, of ``ValidationException:http://...`` or of ``com.amazon...#ValidationException``."""
    if not isinstance(told, str):
        return ""
    name = told.partition(":")[0].rpartition("#")[2].strip()
    return name if _KIND.fullmatch(name) else ""


def _classify(
    status: int, kind: str, message: object, provider: str, *, http_status: int | None
) -> GatewayError:
    code = kind
    if isinstance(message, str):
        code = next((code for pattern, code in _CODE_BY_MESSAGE if pattern.search(message)), kind)
    return status_error(
        status,
        provider,
        http_status=http_status,
        code=code,
        is_out_of_quota=status == 429 and code in _NO_QUOTA,
    )
