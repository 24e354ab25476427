"""What tests tell the summary of their run; it goes there with their reports, from whichever process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import pytest

_SECONDS: Final = "seconds"
_LINE: Final = "line"
_untaken: list[tuple[str, object]] = []


def tell_seconds(what: str, seconds: float) -> None:
    """Notes a time; of several under one name the summary shows the least and the most."""
    _untaken.append((_SECONDS, (what, seconds)))


def tell_lines(section: str, lines: Iterable[str]) -> None:
    """Notes lines for a section of the summary."""
    _untaken.extend((_LINE, (section, line)) for line in lines)


def take() -> list[tuple[str, object]]:
    """What has been told since this was called last, as properties of the test."""
    taken = _untaken.copy()
    _untaken.clear()
    return taken


def sections(reports: Iterable[object]) -> dict[str, list[str]]:
    """The lines of each section, from all reports of a run."""
    times: dict[str, list[float]] = {}
    found: dict[str, list[str]] = {}
    for report in reports:
        # Each phase repeats what those before it told.
        if isinstance(report, pytest.TestReport) and report.when == "teardown":
            for kind, value in report.user_properties:
                if kind == _SECONDS:
                    what, seconds = cast(Any, value)
                    times.setdefault(what, []).append(seconds)
                elif kind == _LINE:
                    section, line = cast(Any, value)
                    found.setdefault(section, []).append(line)
    if times:
        found["measured"] = [
            f"{what}: {min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f} ms ({len(seconds)} times)"
            for what, seconds in times.items()
        ]
    return found
