"""What limits and budgets add to a call: the gateway with all of them against the same without any.

    uv run --frozen python -m bench.limits            in process, and on PostgreSQL and Redis
    uv run --frozen python -m bench.limits --rounds 3

Ratios are made within a round, in which the servers take turns.
"""

import argparse
import sys
from statistics import median

from bench.cases import UNARY
from bench.comparison import Plan, cpu_us, run_rounds
from bench.subjects import GATEWAY, LIMITED, SHARED, running


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="bench.limits", description="What limits and budgets cost.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each interval")
    arguments = parser.parse_args()
    plan = Plan(arguments.rounds, arguments.seconds, callers=(1, 16, 64), cases=(UNARY,))
    with running((GATEWAY, LIMITED, SHARED)) as bench:
        rounds = run_rounds(bench, plan, lambda text: print(text, file=sys.stderr))
    print("| Callers | without, us of CPU | limits and budgets | ratio | PostgreSQL, Redis | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for callers in plan.callers:
        bare = [cpu_us(samples, GATEWAY, UNARY, callers) for samples in rounds]
        cells = [f"{median(bare):.0f}"]
        for name in (LIMITED, SHARED):
            with_limits = [cpu_us(samples, name, UNARY, callers) for samples in rounds]
            ratios = [each / without for each, without in zip(with_limits, bare, strict=True)]
            cells += [
                f"{median(with_limits):.0f}",
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            ]
        print(f"| {callers} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
