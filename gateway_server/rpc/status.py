"""Failures as gRPC statuses: the one place where an error becomes what a caller sees."""

import logging
import math
import traceback
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError

DOMAIN: Final = "aigateway"
DETAILS_KEY: Final = "grpc-status-details-bin"

# HTTP/2 stacks limit trailers to 8 KiB by default; the message travels twice, in its own header and in
# the details, and base64 adds a third to the latter.
_MAX_MESSAGE_BYTES: Final = 512
_MAX_METADATA_BYTES: Final = 3584  # so that ErrorInfo stays within 4 kB; less what violations take
_MAX_VIOLATIONS: Final = 8
_MAX_VIOLATION_BYTES: Final = 128
#: The longest Duration there is.
_MAX_RETRY_SECONDS: Final = 315_576_000_000

_STATUS_BY_NUMBER: Final = {status.value[0]: status for status in grpc.StatusCode}

#: gRPC A6: milliseconds until the next try, or a negative number for none.
_PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallStatus:
    """A status to end a call with: code, message, and the trailing metadata that holds the details."""

    code: grpc.StatusCode
    reason: str
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def status_of(error: Exception, request_id: str) -> CallStatus:
    """The status for any exception. What is not a GatewayError is logged and told to nobody."""
    if isinstance(error, GatewayError):
        return _render(error, request_id)
    # Without the exception's own text: it may quote a prompt or a secret.
    stack = "".join(traceback.format_tb(error.__traceback__))
    _log.error("call %s failed by a fault of the gateway: %s\n%s", request_id, type(error).__name__, stack)
    return _render(
        GatewayError(ErrorReason.ERROR_REASON_INTERNAL, "internal error; see the log for this request id"),
        request_id,
    )


def _render(error: GatewayError, request_id: str) -> CallStatus:
    message = _shorten(error.message, _MAX_MESSAGE_BYTES)
    violations = _violations(error)
    room = _MAX_METADATA_BYTES - violations.ByteSize()
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason_name, domain=DOMAIN, metadata=_fit_metadata(error.metadata, room)
        ),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if error.retry_after is not None:
        delay = Duration()
        # Rounded up: who comes back a nanosecond early is refused again.
        delay.FromNanoseconds(math.ceil(min(max(0.0, error.retry_after), _MAX_RETRY_SECONDS) * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations:
        details.append(violations)
    status = Status(code=error.code, message=message, details=[_pack(detail) for detail in details])
    return CallStatus(
        code=_STATUS_BY_NUMBER[error.code],
        reason=error.reason_name,
        message=message,
        trailing_metadata=(
            (DETAILS_KEY, status.SerializeToString()),
            ("x-request-id", request_id),
            *_pushback(error),
        ),
    )


def _pushback(error: GatewayError) -> tuple[tuple[str, str], ...]:
    """Tells the retries that gRPC itself makes on UNAVAILABLE when to come back, or that it is no use.

    The gateway has tried every target as often as it may; a client that asked again would multiply that.
    """
    if error.code != code_pb2.UNAVAILABLE:
        return ()
    if error.reason == ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE:
        return ((_PUSHBACK_KEY, "-1"),)
    if error.retry_after is None:
        return ()
    return ((_PUSHBACK_KEY, str(math.ceil(error.retry_after * 1000))),)


def _pack(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def _violations(error: GatewayError) -> error_details_pb2.BadRequest:
    """The first faults of fields."""
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=_shorten(violation.field, _MAX_VIOLATION_BYTES),
                description=_shorten(violation.description, _MAX_VIOLATION_BYTES),
            )
            for violation in error.violations[:_MAX_VIOLATIONS]
        ]
    )


def _fit_metadata(metadata: dict[str, str], room: int) -> dict[str, str]:
    """The metadata within so many bytes: long values are cut, later ones first."""
    fitted: dict[str, str] = {}
    for key, value in metadata.items():
        room -= len(key)
        fitted[key] = _shorten(value, max(room, 0))
        room -= len(fitted[key].encode())
    return fitted


def _shorten(text: str, limit: int) -> str:
    """The text within so many bytes of UTF-8, cut between characters."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    return data[: max(limit - 3, 0)].decode("utf-8", "ignore") + "..."
