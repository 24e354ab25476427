"""The one error that callers see, and the table of what each reason means.

Raised anywhere in the gateway; turned into a gRPC status once, in ``rpc/status.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.rpc import code_pb2

from aigateway.v1.error_reason_pb2 import ErrorReason

_PREFIX: Final = "ERROR_REASON_"

#: google.rpc.Code of each reason; the comments in ``error_reason.proto`` say the same for people.
CODE_BY_REASON: Final[Mapping[ErrorReason.ValueType, int]] = {
    ErrorReason.ERROR_REASON_API_KEY_MISSING: code_pb2.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_API_KEY_INVALID: code_pb2.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_SCOPE_MISSING: code_pb2.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_MODEL_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_MODEL_NOT_FOUND: code_pb2.NOT_FOUND,
    ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED: code_pb2.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_BUDGET_EXCEEDED: code_pb2.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_GUARDRAIL_BLOCKED: code_pb2.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_GUARDRAIL_FAILED: code_pb2.UNAVAILABLE,
    ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED: code_pb2.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_UPSTREAM_REJECTED: code_pb2.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED: code_pb2.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE: code_pb2.UNAVAILABLE,
    ErrorReason.ERROR_REASON_UPSTREAM_TIMEOUT: code_pb2.DEADLINE_EXCEEDED,
    ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED: code_pb2.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR: code_pb2.INTERNAL,
    ErrorReason.ERROR_REASON_ETAG_MISMATCH: code_pb2.ABORTED,
    ErrorReason.ERROR_REASON_TENANT_SUSPENDED: code_pb2.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_INVALID_REQUEST: code_pb2.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND: code_pb2.NOT_FOUND,
    ErrorReason.ERROR_REASON_RESOURCE_ALREADY_EXISTS: code_pb2.ALREADY_EXISTS,
    ErrorReason.ERROR_REASON_RESOURCE_IN_USE: code_pb2.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED: code_pb2.DEADLINE_EXCEEDED,
    ErrorReason.ERROR_REASON_OVERLOADED: code_pb2.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_SHUTTING_DOWN: code_pb2.UNAVAILABLE,
    ErrorReason.ERROR_REASON_STORE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    ErrorReason.ERROR_REASON_SLOW_READER: code_pb2.ABORTED,
    ErrorReason.ERROR_REASON_NOT_IMPLEMENTED: code_pb2.UNIMPLEMENTED,
    ErrorReason.ERROR_REASON_INTERNAL: code_pb2.INTERNAL,
    ErrorReason.ERROR_REASON_CANCELLED: code_pb2.CANCELLED,
    ErrorReason.ERROR_REASON_MODEL_UNPRICED: code_pb2.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_LIMITER_UNAVAILABLE: code_pb2.UNAVAILABLE,
    ErrorReason.ERROR_REASON_INTERRUPTED: code_pb2.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A fault of one request field: its path, as in ``messages[0].parts``, and what is wrong."""

    field: str
    description: str


class GatewayError(Exception):
    """A failure with a reason from the contract.

    ``message`` and ``metadata`` reach the caller: neither may hold a secret, a prompt or a provider's
    body. ``retry_after`` is in seconds. ``retryable`` says whether the same request may succeed at
    another time or at another target; the router reads it, callers do not.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after = retry_after
        self.violations = violations
        self.retryable = retryable

    @property
    def code(self) -> int:
        """The google.rpc.Code of the failure."""
        return CODE_BY_REASON[self.reason]

    @property
    def reason_name(self) -> str:
        """The reason as it stands in ErrorInfo, for example ``API_KEY_INVALID``."""
        return reason_name(self.reason)


def reason_name(reason: ErrorReason.ValueType) -> str:
    """The reason as it stands in ErrorInfo, for example ``API_KEY_INVALID``."""
    return ErrorReason.Name(reason).removeprefix(_PREFIX)


def invalid_request(field: str, description: str) -> GatewayError:
    """The error for one field that is at fault."""
    return GatewayError(
        ErrorReason.ERROR_REASON_INVALID_REQUEST,
        f"{field}: {description}",
        violations=(FieldViolation(field, description),),
    )


def feature_not_supported(feature: str, *, model: str) -> GatewayError:
    """The error for something that the request needs and its target cannot do."""
    return GatewayError(
        ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED,
        f"{model} does not support {feature}",
        metadata={"feature": feature, "model": model},
    )


def deadline_exceeded(timeout: float) -> GatewayError:
    """The error for a call that had ``timeout`` seconds and was not done within them."""
    return GatewayError(
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        f"the call was not done within its deadline of {timeout:g} s",
        metadata={"timeout_ms": str(round(timeout * 1000))},
    )


def not_implemented(feature: str) -> GatewayError:
    """The error for a part of the contract that this version does not serve."""
    return GatewayError(
        ErrorReason.ERROR_REASON_NOT_IMPLEMENTED,
        f"{feature} is not implemented in this version of the gateway",
        metadata={"feature": feature},
    )
