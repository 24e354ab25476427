"""What a delta of a stream costs through the gateway, by the format of its provider.

    uv run --frozen python -m bench.streams
    uv run --frozen python -m bench.streams --write docs/performance.md

One gateway for each format, as it is run, in front of one upstream that speaks them all. They take turns in
each round; ratios are made within a round. Ends within three minutes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from bench.bodies import FORMATS
from bench.cases import BURST, PACED, UNARY, Case
from bench.comparison import Plan, Round, cpu_us, delta_cpu_us, run_rounds
from bench.report import write_block
from bench.subjects import running

BLOCK: Final = "streams"
#: How many times ``openai_chat``'s a delta of any format may cost.
RATIO_LIMIT: Final = 1.5


def ratios_of(rounds: Sequence[Round], subject: str, case: Case, callers: int) -> list[float]:
    """A delta of a format in deltas of the first format, for each round."""
    measure = next(iter(FORMATS.values()))
    return [
        delta_cpu_us(samples, subject, case, callers) / delta_cpu_us(samples, measure, case, callers)
        for samples in rounds
    ]


def report(rounds: Sequence[Round], plan: Plan) -> str:
    """A row for each kind of call and number of callers, a column for each format."""
    names = list(FORMATS)
    lines = [
        f"| CPU of the gateway, us | Callers | {' | '.join(f'`{name}`' for name in names)} |",
        "| --- | --- |" + " --- |" * len(names),
    ]
    for case in plan.cases:
        for callers in plan.callers:
            cells = [_cell(rounds, FORMATS[name], case, callers) for name in names]
            what = f"a delta of {case.name}" if case.is_stream else f"a {case.name} call"
            lines.append(f"| {what} | {callers} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rounds: Sequence[Round], subject: str, case: Case, callers: int) -> str:
    if not case.is_stream:
        return f"{median(cpu_us(samples, subject, case, callers) for samples in rounds):.0f}"
    ratios = ratios_of(rounds, subject, case, callers)
    figure = median(delta_cpu_us(samples, subject, case, callers) for samples in rounds)
    return f"{figure:.1f} ({median(ratios):.2f}; {min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Measures, prints, and says what is above the limit."""
    parser = argparse.ArgumentParser(prog="bench.streams", description="What a delta costs, by format.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each interval")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into its marked place")
    arguments = parser.parse_args()
    plan = Plan(arguments.rounds, arguments.seconds, callers=(1, 16), cases=(UNARY, BURST, PACED))
    with running(tuple(FORMATS.values()), speaks_all=True) as bench:
        rounds = run_rounds(bench, plan, lambda text: print(text, file=sys.stderr))
    table = report(rounds, plan)
    print(table)
    for name, subject in FORMATS.items():
        for case in plan.cases:
            for callers in plan.callers if case.is_stream else ():
                ratio = median(ratios_of(rounds, subject, case, callers))
                if ratio > RATIO_LIMIT:
                    print(f"above {RATIO_LIMIT}: {name}, {case.name}, {callers} callers: {ratio:.2f}")
    if arguments.write:
        write_block(arguments.write, BLOCK, table)


if __name__ == "__main__":
    main()
