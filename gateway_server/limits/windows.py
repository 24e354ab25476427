"""The calendar of budgets: which day or month a moment is in, in the time zone of the budget."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from gateway_server.time_zones import time_zone as time_zone_of

_MICROS: Final = 1_000_000


def window_of(micros: int, *, period: Literal["day", "month"], time_zone: str) -> tuple[int, int]:
    """When the day or month begins that ``micros`` is in, and when the next one does.

    All in microseconds since the epoch; the first belongs to the window, the second does not. A day with a
    change of clocks has 23 or 25 hours. The zone must have been loaded.
    """
    hour = micros // (3600 * _MICROS)
    for start, end in _windows_around(hour, period, time_zone):
        if start <= micros < end:
            return start, end
    raise ValueError(f"{micros} is outside the calendar")


@lru_cache(maxsize=10_000)
def _windows_around(
    hour: int, period: Literal["day", "month"], time_zone: str
) -> tuple[tuple[int, int], ...]:
    """The windows that an hour since the epoch touches: two when a day begins within it."""
    zone = time_zone_of(time_zone)
    windows = []
    for micros in (hour * 3600 * _MICROS, (hour + 1) * 3600 * _MICROS - 1):
        local = datetime.fromtimestamp(micros / _MICROS, UTC).astimezone(zone)
        day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if period == "day":
            start, end = day, day + timedelta(days=1)
        else:
            start = day.replace(day=1)
            end = (start + timedelta(days=32)).replace(day=1)
        windows.append((_micros(start), _micros(end)))
    return tuple(dict.fromkeys(windows))


def _micros(local: datetime) -> int:
    """The first moment of a local day. Where clocks skip midnight, it is the moment that they skip to."""
    return round(local.timestamp() * _MICROS)
