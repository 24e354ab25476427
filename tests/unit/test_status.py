"""Failures as gRPC statuses."""

import math

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.rpc.status import DETAILS_KEY, status_of


def retry_delay(retry_after: float) -> Duration:
    error = GatewayError(ErrorReason.ERROR_REASON_OVERLOADED, "later", retry_after=retry_after)
    details = dict(status_of(error, "request-1").trailing_metadata)[DETAILS_KEY]
    assert isinstance(details, bytes)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in Status.FromString(details).details)
    return retry.retry_delay


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(0.25, 0.25), (0, 0), (-1, 0), (1e300, 315_576_000_000), (math.inf, 315_576_000_000)],
)
def test_a_wait_of_any_length_is_told(retry_after: float, seconds: float) -> None:
    delay = retry_delay(retry_after)

    assert delay.ToNanoseconds() == seconds * 1e9
    assert delay.ToJsonString()
