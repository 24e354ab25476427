"""Whether the gateway's memory stays flat over many calls."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.cases import BURST, UNARY
from bench.children import resident_bytes
from bench.comparison import Verdict
from bench.load import measure
from bench.subjects import Bench

GROWTH_LIMIT: Final = 0.05

_STEP: Final = 5_000
_CALLERS: Final = 16
_IDLE_SECONDS: Final = 2.0
#: For one step; a gateway that needs longer is broken, not slow.
_STEP_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Memory held once so many calls had been made."""

    calls: int
    resident_bytes: int


def watch_memory(bench: Bench, *, start: int, end: int, tell: Callable[[str], None]) -> list[Reading]:
    """Makes `end` calls, unary and streamed in turns, and reads the memory each time it is at rest.

    The first reading is at `start` calls: caches are full and pools have their size by then.
    """
    subject = bench.subjects[0]
    readings: list[Reading] = []
    calls = 0
    while calls < end:
        step = min(_STEP, end - calls, start - calls if calls < start else end)
        case = UNARY if (calls // _STEP) % 2 == 0 else BURST
        sample = measure(
            subject, case, bench.upstream_pid, callers=_CALLERS, seconds=_STEP_SECONDS, max_calls=step
        )
        if sample.calls < step:
            raise RuntimeError(f"{step} calls took longer than {_STEP_SECONDS:.0f} s")
        calls += step
        if calls >= start:
            time.sleep(_IDLE_SECONDS)
            readings.append(Reading(calls, resident_bytes(subject.pid)))
            tell(f"{calls} calls: {readings[-1].resident_bytes / 2**20:.1f} MiB")
    return readings


def judge_memory(readings: list[Reading]) -> Verdict:
    """Compares the last reading with the first."""
    first, last = readings[0], readings[-1]
    growth = last.resident_bytes / first.resident_bytes - 1
    return Verdict(
        f"memory: growth under {GROWTH_LIMIT:.0%} from {first.calls:,} to {last.calls:,} calls",
        f"{growth:+.1%} ({first.resident_bytes / 2**20:.1f} to {last.resident_bytes / 2**20:.1f} MiB)",
        growth < GROWTH_LIMIT,
    )
