"""Failures as gRPC statuses."""

import base64
import math
from urllib.parse import quote

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import FieldViolation, GatewayError
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


@pytest.mark.parametrize(
    ("retry_after", "nanos"),
    [(1e-10, 1), (0.3, 300_000_000), (1.0000000001, 1_000_000_001), (59.9999999995, 60_000_000_000)],
)
def test_who_waits_as_long_as_is_told_has_waited_long_enough(retry_after: float, nanos: int) -> None:
    assert retry_delay(retry_after).ToNanoseconds() == nanos


@pytest.mark.parametrize("violations", [0, 8])
def test_a_status_of_any_length_fits_into_the_headers_that_every_peer_takes(violations: int) -> None:
    """Trailers may have 8 KiB; what is not ASCII takes three bytes there for each of its own."""
    long = "\N{GREEK SMALL LETTER OMEGA}" * 5_000
    error = GatewayError(
        ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED,
        long,
        metadata={"attempts": long, "provider": long, "other": long},
        retry_after=1.5,
        violations=tuple(FieldViolation(long, long) for _ in range(violations)),
    )

    status = status_of(error, "request-1")

    details = dict(status.trailing_metadata)[DETAILS_KEY]
    assert isinstance(details, bytes)
    size = len(base64.b64encode(details)) + len(quote(status.message)) + 256
    assert size < 8192
    found = Status.FromString(details).details
    info = error_details_pb2.ErrorInfo()
    assert any(each.Unpack(info) for each in found)
    assert info.ByteSize() < 4096
    assert info.metadata.keys() == error.metadata.keys()
