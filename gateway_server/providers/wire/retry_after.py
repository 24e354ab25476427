"""How long a provider asks to wait, from its headers."""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
#: The longest wait that is passed on. A provider that asks for more is out of its mind, or plays tricks.
MAX_SECONDS: Final = 366 * 86_400.0
#: No number, date or duration is longer; reading digits without end takes time without end.
_MAX_LENGTH: Final = 64
_SECONDS_BY_UNIT: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at most a year, or None when the provider does not tell; 0 means now.

    Names of headers are in lower case. A zero beside a larger wait loses: Azure sends
    ``retry-after-ms: 0`` with ``retry-after: 1``.
    """
    wait = _read_wait(headers)
    return None if wait is None else min(wait, MAX_SECONDS)


def _read_wait(headers: Mapping[str, str]) -> float | None:
    waits = [
        _read_number(_value(headers, "retry-after-ms"), 1e-3),
        _read_number(_value(headers, "retry-after"), 1.0),
        _read_date(_value(headers, "retry-after"), _value(headers, "date")),
    ]
    told = [wait for wait in waits if wait is not None]
    if told:
        return next((wait for wait in told if wait > 0), 0.0)
    return _read_reset(headers)


def _value(headers: Mapping[str, str], name: str) -> str:
    """The header's value; empty when it is missing, or far longer than what it should hold."""
    value = headers.get(name, "")
    return value if len(value) <= _MAX_LENGTH else ""


def _read_number(text: str, unit: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value * unit if math.isfinite(value) and value >= 0 else None


def _read_date(text: str, now: str) -> float | None:
    """The time until an HTTP date, by the provider's own clock, so that ours does not matter."""
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(now)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(wait.total_seconds(), 0.0)


def _read_reset(headers: Mapping[str, str]) -> float | None:
    """The longest reset of those limits that are used up; of all, if none is told to be."""
    kinds = ("requests", "tokens")
    resets = {kind: read_duration(_value(headers, f"x-ratelimit-reset-{kind}")) for kind in kinds}
    used_up = [kind for kind in kinds if _value(headers, f"x-ratelimit-remaining-{kind}").strip() == "0"]
    waits = [wait for kind in used_up or kinds if (wait := resets[kind]) is not None]
    return max(waits, default=None)


def read_duration(text: str) -> float | None:
    """Seconds of a duration such as ``6m0s`` or ``120ms``; None when it is none."""
    text = text.strip()
    if len(text) > _MAX_LENGTH:
        return None
    total, end = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != end:
            return None
        total += float(match[1]) * _SECONDS_BY_UNIT[match[2]]
        end = match.end()
    return total if text and end == len(text) and math.isfinite(total) else None
