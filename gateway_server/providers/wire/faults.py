"""Errors that every wire format raises in the same words."""

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError


def protocol_error(provider: str, cause: str) -> GatewayError:
    """The error for an answer that cannot be used; ``provider`` is as in Target, or empty if not known."""
    return GatewayError(
        ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR,
        f"{provider or 'the provider'} sent an answer that cannot be used: {cause}",
        metadata={"provider": provider, "cause": cause} if provider else {"cause": cause},
        retryable=True,
    )
