"""Days and months of budgets begin at midnight where the budget lives, whatever its clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.limits.windows import window_of
from gateway_server.time_zones import load_time_zones

PERIODS: tuple[Literal["day", "month"], ...] = ("day", "month")
ZONES = (
    "",
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)


@pytest.fixture(autouse=True)
async def zones() -> None:
    await load_time_zones(*ZONES, "America/Sao_Paulo")


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("at", "period", "zone", "start", "end"),
    [
        ("2026-11-27T12+00", "day", "", "2026-11-27T00+00", "2026-11-28T00+00"),
        (
            "2026-11-27T23:30+00",
            "day",
            "Europe/Berlin",
            "2026-11-28T00+01",
            "2026-11-29T00+01",
        ),
        # 23 and 25 hours: clocks change in these days.
        (
            "2026-03-29T12+00",
            "day",
            "Europe/Berlin",
            "2026-03-29T00+01",
            "2026-03-30T00+02",
        ),
        (
            "2026-10-25T12+00",
            "day",
            "Europe/Berlin",
            "2026-10-25T00+02",
            "2026-10-26T00+01",
        ),
        # Where clocks skipped midnight, the day began at one.
        (
            "2018-11-04T12+00",
            "day",
            "America/Sao_Paulo",
            "2018-11-04T01-02",
            "2018-11-05T00-02",
        ),
        (
            "2026-11-27T18:20+00",
            "day",
            "Asia/Kathmandu",
            "2026-11-28T00:00+05:45",
            "2026-11-29T00:00+05:45",
        ),
        (
            "2026-12-31T23:30+00",
            "month",
            "Europe/Berlin",
            "2027-01-01T00+01",
            "2027-02-01T00+01",
        ),
        (
            "2024-02-29T05+00",
            "month",
            "America/New_York",
            "2024-02-01T00-05",
            "2024-03-01T00-05",
        ),
    ],
)
async def test_a_moment_is_in_its_window(at: str, period: str, zone: str, start: str, end: str) -> None:
    found = window_of(micros(at), period=period, time_zone=zone)  # type: ignore[arg-type]
    assert found == (micros(start), micros(end))
    for edge in (micros(start), micros(end) - 1):
        assert window_of(edge, period=period, time_zone=zone) == found  # type: ignore[arg-type]
    assert window_of(micros(end), period=period, time_zone=zone)[0] == micros(end)  # type: ignore[arg-type]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31)), st.sampled_from(ZONES))  # noqa: DTZ001
def test_windows_follow_on_each_other_without_gaps(at: datetime, zone: str) -> None:
    moment = round(at.replace(tzinfo=UTC).timestamp() * 1_000_000)
    for period in PERIODS:
        start, end = window_of(moment, period=period, time_zone=zone)
        assert start <= moment < end
        assert window_of(end, period=period, time_zone=zone)[0] == end
        assert window_of(start - 1, period=period, time_zone=zone)[1] == start
        local = datetime.fromtimestamp(moment / 1_000_000, ZoneInfo(zone or "UTC"))
        first = datetime.fromtimestamp(start / 1_000_000, ZoneInfo(zone or "UTC"))
        assert (first.year, first.month) == (local.year, local.month)
        if period == "day":
            assert first.day == local.day
            assert timedelta(hours=22) < timedelta(microseconds=end - start) < timedelta(hours=26)
