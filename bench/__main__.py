"""Runs the benchmark. Needs Linux, a C compiler and nothing from the network.

    uv run --frozen python -m bench              compare CPU time and latency, under eight minutes
    uv run --frozen python -m bench --quick      the same in under a minute, with rougher figures
    uv run --frozen python -m bench --memory     memory after 20,000 and 100,000 calls
    ... --write docs/performance.md              put the tables into the document

Exits with 1 when a target is missed and --strict is given; always when an answer is wrong.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.cases import CASES
from bench.comparison import Plan, Round, Verdict, judge, run_rounds
from bench.memory import judge_memory, watch_memory
from bench.report import MEMORY_BLOCK, SPEED_BLOCK, memory_report, speed_report, write_block
from bench.subjects import GATEWAY, NAMES, running


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of short intervals, 1 and 16 callers")
    parser.add_argument("--memory", action="store_true", help="watch the gateway's memory instead")
    parser.add_argument(
        "--subjects", default=",".join(NAMES), help="servers to measure (default: %(default)s)"
    )
    parser.add_argument("--cases", help="parts of the names of calls, as in 'unary,burst' (default: all)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 8)")
    parser.add_argument("--seconds", type=float, help="length of each interval (default: 1)")
    parser.add_argument("--callers", help="numbers of callers (default: 1,16,64)")
    parser.add_argument(
        "--start", type=int, default=20_000, help="calls before memory counts (default: %(default)s)"
    )
    parser.add_argument(
        "--end", type=int, default=100_000, help="calls after which it must be flat (default: %(default)s)"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the tables into the marked place of a document"
    )
    parser.add_argument(
        "--samples", type=Path, metavar="FILE", help="keep every sample, one JSON object a line"
    )
    parser.add_argument("--pin", action="store_true", help="give the servers a CPU of their own")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> Plan:
    quick = arguments.quick
    callers = arguments.callers or ("1,16" if quick else "1,16,64")
    wanted = (arguments.cases or "").split(",")
    return Plan(
        rounds=arguments.rounds or (1 if quick else 8),
        seconds=arguments.seconds or (0.5 if quick else 1.0),
        callers=tuple(int(number) for number in callers.split(",")),
        cases=tuple(case for case in CASES if any(word in case.name for word in wanted)),
        pin=arguments.pin,
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _compare(arguments: argparse.Namespace) -> list[Verdict]:
    plan = _plan(arguments)
    names = [name for name in NAMES if name in arguments.subjects.split(",")]
    with running(names, pin=plan.pin) as bench:
        rounds = run_rounds(bench, plan, _tell)
    # Targets compare all servers; without one of them there is nothing to judge.
    verdicts = judge(rounds, plan) if names == list(NAMES) else []
    if arguments.samples:
        _keep(arguments.samples, rounds)
    _give_out(arguments, SPEED_BLOCK, speed_report(rounds, plan, verdicts, names))
    return verdicts


def _watch(arguments: argparse.Namespace) -> list[Verdict]:
    with running([GATEWAY]) as bench:
        readings = watch_memory(bench, start=arguments.start, end=arguments.end, tell=_tell)
    verdict = judge_memory(readings)
    _give_out(arguments, MEMORY_BLOCK, memory_report(readings, verdict))
    return [verdict]


def _keep(path: Path, rounds: list[Round]) -> None:
    with path.open("w") as file:
        for number, samples in enumerate(rounds):
            for sample in samples:
                file.write(json.dumps({"round": number, **asdict(sample)}) + "\n")


def _give_out(arguments: argparse.Namespace, block: str, text: str) -> None:
    print(text)
    if arguments.write:
        write_block(arguments.write, block, text)


def main() -> None:
    """Measures, prints, judges."""
    arguments = _arguments()
    verdicts = _watch(arguments) if arguments.memory else _compare(arguments)
    missed = [verdict for verdict in verdicts if not verdict.reached]
    for verdict in missed:
        _tell(f"missed: {verdict.target}: {verdict.found}")
    if missed and arguments.strict:
        sys.exit(1)


if __name__ == "__main__":
    main()
