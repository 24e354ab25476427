"""Bounds of intervals as requests give them."""

from typing import Final, Literal

from aigateway.v1.admin_service_pb2 import ListAuditEventsRequest
from aigateway.v1.usage_service_pb2 import ListUsageRecordsRequest, QueryUsageRequest
from gateway_server.errors import invalid_request
from gateway_server.storage.times import micros_of_timestamp

#: What a Timestamp may hold.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799

#: A request with an interval.
Timed = ListAuditEventsRequest | ListUsageRecordsRequest | QueryUsageRequest


def read_time(request: Timed, field: Literal["start_time", "end_time"]) -> int | None:
    """Microseconds of a bound of the interval, None when it is open; raises INVALID_REQUEST."""
    if not request.HasField(field):
        return None
    timestamp = getattr(request, field)
    if not _FIRST_SECOND <= timestamp.seconds <= _LAST_SECOND:
        raise invalid_request(field, "must be in the years 1 to 9999")
    return micros_of_timestamp(timestamp)
