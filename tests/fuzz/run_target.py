"""Fuzzes one target in this process: `python -m tests.fuzz.run_target NAME FOLDER [libFuzzer options]`.

The folder gets the corpus and, for each place in the code where a law broke, the smallest input that did it.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["gateway_server", "aigateway", "email"]):
    from tests.fuzz.targets import TARGETS, Target

#: Thread time that one small input may take; what takes longer is a finding, too.
_MAX_SECONDS = 2.0


class _Findings:
    """Goes on after a finding, so that one does not hide the others."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._smallest: dict[str, int] = {}

    def check(self, data: bytes) -> None:
        began = time.thread_time()
        try:
            self._target.check(data)
        except Exception as error:  # noqa: BLE001 -- whatever comes out is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
            self._keep(name, data, "".join(traceback.format_exception(error)))
        if (taken := time.thread_time() - began) > _MAX_SECONDS:
            self._keep("TooSlow", data, f"{taken} s")

    def _keep(self, name: str, data: bytes, text: str) -> None:
        if len(data) >= self._smallest.get(name, sys.maxsize):
            return
        self._smallest[name] = len(data)
        (self._folder / f"{name}.input").write_bytes(data)
        (self._folder / f"{name}.txt").write_text(text)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    target = TARGETS[name]
    for part in ("corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / "corpus" / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.1:
            return bytes(atheris.Mutate(data, max_size))
        changed = target.mutate(data, random)
        return changed if len(changed) <= max_size else bytes(atheris.Mutate(data, max_size))

    options = [f"-artifact_prefix={folder}/findings/", *sys.argv[3:], str(folder / "corpus")]
    atheris.Setup(
        [sys.argv[0], *options], _Findings(target, folder / "findings").check, custom_mutator=mutate
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
