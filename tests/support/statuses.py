"""Reads the details of a failed call, as any client can."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

DETAILS_KEY = "grpc-status-details-bin"


@dataclass
class Failure:
    """A failed call in plain values."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    retry_after: float | None = None
    violations: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""


def read_failure(error: grpc.aio.AioRpcError) -> Failure:
    """Everything that the status of a failed call says."""
    failure = Failure(error.code(), error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            assert isinstance(value, bytes)
            failure.raw = value
    status = Status.FromString(failure.raw)
    assert not failure.raw or (status.code, status.message) == (failure.code.value[0], failure.message)
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            failure.reason, failure.domain, failure.metadata = info.reason, info.domain, dict(info.metadata)
        request = error_details_pb2.RequestInfo()
        if detail.Unpack(request):
            failure.request_id = request.request_id
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            failure.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            failure.violations = {each.field: each.description for each in bad.field_violations}
    return failure
