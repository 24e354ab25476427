"""What the retries that gRPC clients make by themselves are told (gRFC A6)."""

from __future__ import annotations

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.rpc.status import status_of


@pytest.mark.parametrize(
    ("reason", "retry_after", "pushback"),
    [
        # Every target was tried as often as it may be: asking again would multiply the tries.
        (ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE, None, "-1"),
        (ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE, 2.0, "-1"),
        (ErrorReason.ERROR_REASON_SHUTTING_DOWN, 1.0, "1000"),
        (ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, 0.0001, "1"),
        (ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, None, None),
        # Not UNAVAILABLE, so never retried by gRPC.
        (ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED, 1.0, None),
        (ErrorReason.ERROR_REASON_INTERNAL, None, None),
    ],
)
def test_a_client_is_told_when_to_come_back_or_that_it_is_no_use(
    reason: ErrorReason.ValueType, retry_after: float | None, pushback: str | None
) -> None:
    status = status_of(GatewayError(reason, "it failed", retry_after=retry_after), "request")

    assert dict(status.trailing_metadata).get("grpc-retry-pushback-ms") == pushback
