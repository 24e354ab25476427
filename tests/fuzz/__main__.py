"""Fuzzes the targets one after another and tells what came of it; see `make fuzz`.

`python -m tests.fuzz [--seconds N] [TARGET...]` needs atheris; with `--replay` it only runs what earlier
runs kept, without atheris.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

_FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "fuzz"


def fuzz(name: str, seconds: int) -> bool:
    """Fuzzes one target; whether nothing was found."""
    folder = _FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in (folder / "findings").glob("*"):
        old.unlink()
    options = [
        *(f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048"),
        *("-max_len=65536", "-print_final_stats=1"),
    ]
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "tests.fuzz.run_target", name, str(folder), *options]
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    text = (folder / "log").read_text(errors="replace")
    runs = re.findall(r"number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    found = sorted(path.name for path in (folder / "findings").glob("*") if path.suffix != ".txt")
    edges, features, kept = covered[-1] if covered else ("?", "?", "?")
    print(
        f"{name}: {runs[-1] if runs else '?'} runs in {seconds} s, {edges} edges, {features} features, "
        f"{kept} inputs kept, {len(found)} findings",
        flush=True,
    )
    for finding in found:
        print(f"  {folder / 'findings' / finding}", flush=True)
    if code and not found:
        print(f"  ended with {code}, see {folder / 'log'}", flush=True)
    return not code and not found


def replay(name: str) -> bool:
    """Runs what was kept; raises at the first input whose law does not hold."""
    kept = sorted((_FOLDER / name / "corpus").glob("*"))
    for path in kept:
        TARGETS[name].check(path.read_bytes())
    print(f"{name}: {len(kept)} inputs")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    chosen = parser.parse_args()
    names = chosen.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    results = [replay(name) if chosen.replay else fuzz(name, chosen.seconds) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
