"""What a failed exchange with a provider means to the caller."""

from typing import Final, assert_never

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Target
from gateway_server.providers.transport.errors import TransportError, TransportErrorKind

#: What a time-out interrupted, as told in the metadata.
_PHASES: Final = {
    TransportErrorKind.POOL_TIMEOUT: "connection_pool",
    TransportErrorKind.CONNECT_TIMEOUT: "connect",
    TransportErrorKind.FIRST_BYTE_TIMEOUT: "first_byte",
    TransportErrorKind.IDLE_TIMEOUT: "idle",
    TransportErrorKind.TOTAL_TIMEOUT: "total",
}


def error_of_transport(error: TransportError, target: Target) -> GatewayError:
    """The failure of an attempt whose exchange broke off. Its text never holds anything that was sent."""
    kind = error.kind
    match kind:
        case (
            TransportErrorKind.POOL_TIMEOUT
            | TransportErrorKind.CONNECT_TIMEOUT
            | TransportErrorKind.FIRST_BYTE_TIMEOUT
            | TransportErrorKind.IDLE_TIMEOUT
            | TransportErrorKind.TOTAL_TIMEOUT
        ):
            return GatewayError(
                ErrorReason.ERROR_REASON_UPSTREAM_TIMEOUT,
                f"{target.provider} took too long: {error.message}",
                metadata={"provider": target.provider, "phase": _PHASES[kind]},
                retryable=True,
            )
        case (
            TransportErrorKind.DNS
            | TransportErrorKind.CONNECT_REFUSED
            | TransportErrorKind.TLS
            | TransportErrorKind.RESET
            | TransportErrorKind.CLOSED
            | TransportErrorKind.INVALID_REQUEST
        ):
            return GatewayError(
                ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE,
                f"{target.provider} cannot be reached: {error.message}",
                metadata={"provider": target.provider, "cause": kind.value},
                retryable=kind is not TransportErrorKind.INVALID_REQUEST,
            )
        case TransportErrorKind.CUT | TransportErrorKind.PROTOCOL | TransportErrorKind.TOO_LARGE:
            return GatewayError(
                ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR,
                f"the answer of {target.provider} could not be read: {error.message}",
                metadata={"provider": target.provider, "cause": kind.value},
                retryable=kind is TransportErrorKind.CUT,
            )
        case _:
            assert_never(kind)
