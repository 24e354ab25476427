"""Failures as exceptions: one class for each family, made from a gRPC status and its details."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DOMAIN: Final = "aigateway"
_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "x-request-id"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A fault of one request field: its path, as in ``messages[0].parts``, and what is wrong."""

    field: str
    description: str


class GatewayError(Exception):
    """A call that failed. Every failure of a call is one of these.

    ``reason`` is the gateway's word for it, for example ``RATE_LIMIT_EXCEEDED``; empty when the failure
    does not come from a gateway, for example when none could be reached. ``metadata`` holds the values
    behind the message. ``retry_after`` is in seconds, None when waiting does not help or the gateway did
    not say. ``request_id`` finds the call in the gateway's log and usage records.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        request_id: str = "",
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after = retry_after
        self.request_id = request_id
        self.violations = violations

    def __str__(self) -> str:
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.reason or self.code.name}: {self.message}{request}"


class AuthenticationError(GatewayError):
    """No key was sent, or one that does not work."""


class PermissionDeniedError(GatewayError):
    """The key may not do this, or its tenant is suspended."""


class NotFoundError(GatewayError):
    """There is no such model, route or resource, or none that the key may see."""


class ConflictError(GatewayError):
    """The resource exists already, is in use, or was changed by somebody else in the meantime."""


class InvalidRequestError(GatewayError):
    """The request is at fault, see ``violations``; or no target can do what it asks for."""


class GuardrailBlockedError(GatewayError):
    """A guardrail stopped the request before it reached a model."""


class RateLimitError(GatewayError):
    """A limit of the tenant or the key is used up for now; ``retry_after`` says for how long."""


class BudgetExceededError(GatewayError):
    """A budget of the tenant or the key is spent."""


class UpstreamError(GatewayError):
    """A provider refused, failed, took too long or sent what could not be read."""


class UnavailableError(GatewayError):
    """No gateway could be reached, or it cannot take the call now."""


class DeadlineExceededError(GatewayError):
    """The call was not done within its own deadline."""


class CallCancelledError(GatewayError):
    """The call was cancelled on this side."""


class SlowReaderError(GatewayError):
    """The gateway ended a stream because it was read too slowly."""


class UnimplementedError(GatewayError):
    """The gateway does not know the RPC, or cannot do it yet."""


class InternalError(GatewayError):
    """A fault of the gateway itself; its log has it under ``request_id``."""


class StreamProtocolError(GatewayError):
    """A stream whose events do not add up to an answer: one is missing, comes twice or is not known."""

    default_code = grpc.StatusCode.INTERNAL


_BY_REASON: Final[Mapping[str, type[GatewayError]]] = {
    "API_KEY_MISSING": AuthenticationError,
    "API_KEY_INVALID": AuthenticationError,
    "SCOPE_MISSING": PermissionDeniedError,
    "MODEL_NOT_ALLOWED": PermissionDeniedError,
    "TENANT_SUSPENDED": PermissionDeniedError,
    "MODEL_NOT_FOUND": NotFoundError,
    "RESOURCE_NOT_FOUND": NotFoundError,
    "RATE_LIMIT_EXCEEDED": RateLimitError,
    "BUDGET_EXCEEDED": BudgetExceededError,
    "GUARDRAIL_BLOCKED": GuardrailBlockedError,
    "FEATURE_NOT_SUPPORTED": InvalidRequestError,
    "INVALID_REQUEST": InvalidRequestError,
    "UPSTREAM_REJECTED": UpstreamError,
    "UPSTREAM_RATE_LIMITED": UpstreamError,
    "UPSTREAM_UNAVAILABLE": UpstreamError,
    "UPSTREAM_TIMEOUT": UpstreamError,
    "UPSTREAM_CREDENTIAL_REJECTED": UpstreamError,
    "UPSTREAM_PROTOCOL_ERROR": UpstreamError,
    "ETAG_MISMATCH": ConflictError,
    "RESOURCE_ALREADY_EXISTS": ConflictError,
    "RESOURCE_IN_USE": ConflictError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "OVERLOADED": UnavailableError,
    "SHUTTING_DOWN": UnavailableError,
    "STORE_UNAVAILABLE": UnavailableError,
    "SLOW_READER": SlowReaderError,
    "NOT_IMPLEMENTED": UnimplementedError,
    "INTERNAL": InternalError,
    "CANCELLED": CallCancelledError,
    "MODEL_UNPRICED": BudgetExceededError,
    "LIMITER_UNAVAILABLE": UnavailableError,
    "INTERRUPTED": UnavailableError,
    "GUARDRAIL_FAILED": UnavailableError,
}

# For statuses without a reason that is known here: from a newer gateway, a proxy, or gRPC on this side.
_BY_CODE: Final[Mapping[grpc.StatusCode, type[GatewayError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimitError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.DATA_LOSS: InternalError,
}


class _FailedCall(Protocol):
    """What the errors of grpc and grpc.aio have in common; the stubs of neither say so."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> "list[tuple[str, str | bytes]] | None": ...


def error_of(failure: grpc.RpcError, *, target: str = "") -> GatewayError:
    """The exception for a failed call of grpc or grpc.aio; ``target`` is named when nobody answered there."""
    call = cast(_FailedCall, failure)
    # Not dict(metadata): the Metadata of older grpc.aio passes for a mapping and is none.
    trailers = dict(iter(call.trailing_metadata() or ()))
    info, request, retry, bad_request = ErrorInfo(), RequestInfo(), RetryInfo(), BadRequest()
    for detail in _details_of(trailers).details:
        for known in (info, request, retry, bad_request):
            detail.Unpack(known)  # does nothing when it is of another type
    reason = info.reason if info.domain == _DOMAIN else ""
    code = call.code()
    message = call.details() or code.name
    if not reason and target and code is grpc.StatusCode.UNAVAILABLE:
        message = f"no gateway answers at {target}: {message}"
    family = _BY_REASON.get(reason) or _BY_CODE.get(code, GatewayError)
    return family(
        message,
        code=code,
        reason=reason,
        metadata=info.metadata if reason else None,
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
        request_id=request.request_id or str(trailers.get(_REQUEST_ID_KEY, "")),
        violations=tuple(
            FieldViolation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
    )


def _details_of(trailers: Mapping[str, str | bytes]) -> Status:
    packed = trailers.get(_DETAILS_KEY)
    if not isinstance(packed, bytes):
        return Status()
    try:
        return Status.FromString(packed)
    except DecodeError:  # cut or rewritten on the way: the code and the message still tell most of it
        return Status()
