from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.storage import times

micros = st.integers(-(10**17), 10**17)


@given(micros)
def test_times_are_read_back_as_they_were_written(value: int) -> None:
    assert times.micros_of_timestamp(times.timestamp_of_micros(value)) == value
    assert times.micros_of_duration(times.duration_of_micros(value)) == value
    assert times.duration_of_micros(value).ToMicroseconds() == value


def test_nanoseconds_are_cut_off() -> None:
    assert times.micros_of_timestamp(Timestamp(seconds=1, nanos=1999)) == 1_000_001
    assert times.micros_of_duration(Duration(seconds=1, nanos=1999)) == 1_000_001
    assert times.micros_of_duration(Duration(seconds=-1, nanos=-1999)) == -1_000_001


@pytest.mark.parametrize(("value", "day"), [(0, 0), (86_399_999_999, 0), (86_400_000_000, 1), (-1, -1)])
def test_a_day_begins_at_midnight_utc(value: int, day: int) -> None:
    assert times.day_of_micros(value) == day
