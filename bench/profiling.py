"""Shows where a server spends its CPU time under load, by sampling its stacks with py-spy.

    uv run --frozen python -m bench.profiling                      the gateway, unary calls, 16 callers
    uv run --frozen python -m bench.profiling --case burst --native

Prints the functions with the most samples, by themselves and with all that they called, and leaves the
stacks in .cache/bench/profile.txt (one stack a line, as flame graph tools take them). py-spy comes from
PyPI through uvx; it must be allowed to trace processes, so run as root or as the kernel demands.
"""

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from bench.cases import CASES
from bench.load import measure
from bench.programs import CACHE
from bench.subjects import GATEWAY, LIMITED, NAMES, SHARED, UNGUARDED, running

_PY_SPY: Final = "py-spy@0.4.1"
#: py-spy needs a moment to attach and to write; the load lasts longer on both sides.
_MARGIN_SECONDS: Final = 4.0


def summarize(stacks: str, *, top: int) -> str:
    """The functions of collapsed stacks (``a;b;c 12`` a line), by own and by all samples."""
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    total = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            inclusive[frame] += int(count)
    lines = [f"{total} samples"]
    for title, counts in (("own", own), ("with callees", inclusive)):
        lines += ["", title]
        lines += [f"{100 * n / total:5.1f} %  {frame}" for frame, n in counts.most_common(top)]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.profiling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subject", choices=(*NAMES, UNGUARDED, LIMITED, SHARED), default=GATEWAY)
    parser.add_argument("--case", default="unary", help="part of the name of a call (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--native", action="store_true", help="show C functions too; slows the server down")
    parser.add_argument("--top", type=int, default=40, help="how many functions to print")
    return parser.parse_args()


def main() -> None:
    """Profiles and prints."""
    arguments = _arguments()
    case = next(case for case in CASES if arguments.case in case.name)
    uvx = shutil.which("uvx")
    if uvx is None:
        sys.exit("profiling needs uvx, which comes with uv")
    stacks = CACHE / "profile.txt"
    with running([arguments.subject]) as bench:
        subject = bench.subjects[0]
        command = [
            uvx,
            _PY_SPY,
            "record",
            "--pid",
            str(subject.pid),
            "--format",
            "raw",
            "--output",
            str(stacks),
        ]
        command += ["--duration", str(arguments.seconds), "--rate", "250", "--threads"]
        command += ["--native"] if arguments.native else []
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spy:
            sample = measure(
                subject,
                case,
                bench.upstream_pid,
                callers=arguments.callers,
                seconds=arguments.seconds + _MARGIN_SECONDS,
                max_calls=1_000_000,
            )
            _, errors = spy.communicate(timeout=60)
        if spy.returncode:
            sys.exit(f"py-spy failed:\n{errors}")
    print(f"{subject.name}, {case.name}: {sample.cpu_us:.0f} us of CPU a call, py-spy's own load aside")
    print(summarize(Path(stacks).read_text(), top=arguments.top))


if __name__ == "__main__":
    main()
