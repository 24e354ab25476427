"""What the default guardrails add to a call: the gateway with them against the same that checks nothing.

    uv run --frozen python -m bench.guardrails
    uv run --frozen python -m bench.guardrails --rounds 3

Ratios are made within a round, in which the servers take turns.
"""

import argparse
import sys
from statistics import median
from typing import Final

from bench.cases import BURST, PACED, UNARY, Case
from bench.comparison import Plan, cpu_us, find, run_rounds
from bench.subjects import GATEWAY, UNGUARDED, running

_CASES: Final = (
    *(Case(f"unary, {length} characters", UNARY.model, characters=length) for length in (200, 2_000, 20_000)),
    BURST,
    PACED,
)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="bench.guardrails", description="What guardrails cost.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each interval")
    arguments = parser.parse_args()
    plan = Plan(arguments.rounds, arguments.seconds, callers=(1, 16), cases=_CASES)
    with running((UNGUARDED, GATEWAY)) as bench:
        rounds = run_rounds(bench, plan, lambda text: print(text, file=sys.stderr))
    print("| Call | Callers | without, us of CPU | default profile | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for case in plan.cases:
        for callers in plan.callers:
            without = [cpu_us(samples, UNGUARDED, case, callers) for samples in rounds]
            guarded = [cpu_us(samples, GATEWAY, case, callers) for samples in rounds]
            ratios = [each / bare for each, bare in zip(guarded, without, strict=True)]
            print(
                f"| {case.name} | {callers} | {median(without):.0f} | {median(guarded):.0f} "
                f"| {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
            )
    print("\n| First token of | Callers | without, ms | default profile, ms |")
    print("| --- | --- | --- | --- |")
    for case in (case for case in plan.cases if case.is_stream):
        for callers in plan.callers:
            without, guarded = (
                median(find(samples, name, case, callers).first_token.p50 for samples in rounds) / 1000
                for name in (UNGUARDED, GATEWAY)
            )
            print(f"| {case.name} | {callers} | {without:.2f} | {guarded:.2f} |")


if __name__ == "__main__":
    main()
