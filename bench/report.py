"""Writes what was found as Markdown, to the screen or into a marked place of a document."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from bench.cases import UNARY
from bench.comparison import (
    Plan,
    Round,
    Spread,
    Verdict,
    cpu_ratio,
    cpu_us,
    delta_cpu_us,
    find,
    spread_of,
)
from bench.load import Sample
from bench.memory import Reading
from bench.subjects import EMPTY, GATEWAY

#: What stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` is replaced, all else is kept.
SPEED_BLOCK: Final = "speed"
MEMORY_BLOCK: Final = "memory"

_PERCENTS: Final = ("p50", "p95", "p99")


def speed_report(
    rounds: Sequence[Round], plan: Plan, verdicts: Sequence[Verdict], subjects: Sequence[str]
) -> str:
    """The tables of a comparison."""
    parts = [_conditions(plan)]
    if verdicts:
        parts += ["### Targets", _verdict_table(verdicts)]
    parts += ["### CPU time of the server for a call, in microseconds", _cpu_table(rounds, plan, subjects)]
    parts += ["### Latency, in milliseconds", _latency_table(rounds, plan, subjects)]
    parts.append(_instruments(rounds))
    return "\n\n".join(parts)


def memory_report(readings: Sequence[Reading], verdict: Verdict) -> str:
    """The table of a watch over memory."""
    rows = [(f"{reading.calls:,}", f"{reading.resident_bytes / 2**20:.1f}") for reading in readings]
    return "\n\n".join([_verdict_table([verdict]), _table(("Calls", "Resident memory, MiB"), rows)])


def write_block(path: Path, block: str, text: str) -> None:
    """Replaces one marked block of a document; raises ValueError when it has none."""
    pattern = re.compile(rf"(<!-- bench:{block} -->\n).*?(<!-- /bench:{block} -->)", re.DOTALL)
    document, count = pattern.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", path.read_text())
    if count != 1:
        raise ValueError(f"{path} has no place marked bench:{block}")
    path.write_text(document)


def _conditions(plan: Plan) -> str:
    place = "on a core of their own" if plan.pin else "on any core"
    return (
        f"{os.cpu_count()} cores of {_processor()}; Python {platform.python_version()}, "
        f"grpcio {version('grpcio')}, uvloop {version('uvloop')}; servers {place}. Rounds: {plan.rounds}, of "
        f"{plan.seconds:g} s for each cell; medians of the rounds, lowest and highest in brackets."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _verdict_table(verdicts: Iterable[Verdict]) -> str:
    rows = [(v.target, v.found, "yes" if v.reached else "**no**") for v in verdicts]
    return _table(("Target", "Found", "Reached"), rows)


def _cpu_table(rounds: Sequence[Round], plan: Plan, subjects: Sequence[str]) -> str:
    compared = {EMPTY, GATEWAY} <= set(subjects)
    heads = ["Call", "Callers", *subjects, *(["gateway / empty"] if compared else [])]
    heads += [f"{name}, a delta" for name in subjects]
    rows = []
    for case in plan.cases:
        for callers in plan.callers:
            row = [case.name, str(callers)]
            row += [_spread(spread_of(rounds, cpu_us, name, case, callers), 0) for name in subjects]
            if compared:
                row.append(_spread(spread_of(rounds, cpu_ratio, case, callers), 2))
            for name in subjects:
                if case.is_stream and UNARY in plan.cases:
                    row.append(f"{spread_of(rounds, delta_cpu_us, name, case, callers).median:.1f}")
                else:
                    row.append("")
            rows.append(row)
    return _table(heads, rows)


def _latency_table(rounds: Sequence[Round], plan: Plan, subjects: Sequence[str]) -> str:
    heads = (
        ["Call", "Callers", "Server", "Calls a second", "Messages a call"]
        + [f"First token {percent}" for percent in _PERCENTS]
        + [f"Last message {percent}" for percent in _PERCENTS]
    )
    rows = []
    for case in plan.cases:
        for callers in plan.callers:
            for name in subjects:
                samples = [find(samples, name, case, callers) for samples in rounds]
                rows.append([case.name, str(callers), name, *_latency_row(samples)])
    return _table(heads, rows)


def _latency_row(samples: Sequence[Sample]) -> list[str]:
    row = [
        f"{median(sample.calls / sample.seconds for sample in samples):.0f}",
        f"{median(sample.messages for sample in samples):.1f}",
    ]
    for times in ([s.first_token for s in samples], [s.total for s in samples]):
        row += [f"{median(getattr(t, percent) for t in times) / 1000:.2f}" for percent in _PERCENTS]
    return row


def _instruments(rounds: Sequence[Round]) -> str:
    """Shows that what measures is not what is measured."""
    samples = [sample for samples in rounds for sample in samples if sample.case == UNARY.name]
    if not samples:
        return ""
    client = median(sample.client_cpu_us for sample in samples)
    upstream = median([sample.upstream_cpu_us for sample in samples if sample.subject != EMPTY] or [0.0])
    return (
        f"For a unary call the load client took {client:.0f} us of CPU and the upstream {upstream:.0f} us, "
        "neither of them counted above."
    )


def _spread(spread: Spread, digits: int) -> str:
    text = f"{spread.median:.{digits}f}"
    if spread.low == spread.high:
        return text
    return f"{text} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
