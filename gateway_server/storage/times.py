"""Times as the store keeps them: whole microseconds, since the Unix epoch in UTC or as a length.

An integer means the same in every database, sorts and subtracts without a time zone, and is as fine as a
clock is; nanoseconds of a Timestamp are cut off.
"""

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_MICROS: Final = 1_000_000
MICROS_OF_A_MINUTE: Final = 60 * _MICROS
MICROS_OF_AN_HOUR: Final = 3_600 * _MICROS
MICROS_OF_A_DAY: Final = 86_400 * _MICROS


def micros_of_seconds(seconds: float) -> int:
    """Whole microseconds, rounded to the nearest."""
    return round(seconds * _MICROS)


def micros_of_timestamp(timestamp: Timestamp) -> int:
    """Microseconds since the epoch."""
    return timestamp.seconds * _MICROS + timestamp.nanos // 1000


def timestamp_of_micros(micros: int) -> Timestamp:
    """The Timestamp of microseconds since the epoch."""
    seconds, rest = divmod(micros, _MICROS)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def micros_of_duration(duration: Duration) -> int:
    """Whole microseconds, cut off towards zero."""
    nanos = duration.nanos
    return duration.seconds * _MICROS + (nanos // 1000 if nanos >= 0 else -(-nanos // 1000))


def duration_of_micros(micros: int) -> Duration:
    """The Duration of so many microseconds."""
    seconds, rest = divmod(abs(micros), _MICROS)
    if micros < 0:
        seconds, rest = -seconds, -rest
    return Duration(seconds=seconds, nanos=rest * 1000)


def day_of_micros(micros: int) -> int:
    """The number of the UTC day since the epoch: what usage is partitioned by."""
    return micros // MICROS_OF_A_DAY
