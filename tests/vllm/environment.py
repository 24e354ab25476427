"""The environment that vLLM runs in and the model that it serves: made once, below .cache/vllm.

``python -m tests.vllm.environment`` makes them without running a test. vLLM has an environment to itself
because its dependencies do not go together with the project's own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_REPOSITORY: Final = _HERE.parents[1]
_CACHE: Final = _REPOSITORY / ".cache" / "vllm"
_REQUIREMENTS: Final = _HERE / "requirements.txt"
_MAKE_MODEL: Final = _HERE / "make_model.py"

#: Neither hubs, nor counters, nor compilers are asked for anything, and all that is kept stays below _CACHE.
OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HOME": str(_CACHE / "huggingface"),
    "VLLM_CACHE_ROOT": str(_CACHE / "cache"),
    "VLLM_CONFIG_ROOT": str(_CACHE / "config"),
    "TORCH_COMPILE_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What is needed to start vLLM."""

    python: Path
    model: Path
    logs: Path


def make_environment() -> Environment:
    """Makes what is missing or out of date: the first time 6 GB and some minutes, later nothing."""
    venv, model, logs = (_CACHE / name for name in ("venv", "model", "logs"))
    python = venv / "bin" / "python"
    logs.mkdir(parents=True, exist_ok=True)
    packages = f"{sys.version_info.major}.{sys.version_info.minor} {_digest(_REQUIREMENTS)}"
    if not _is_current(venv, packages):
        uv = _run(str(_REPOSITORY / "tools" / "uv.sh"), capture=True).strip()
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
        # sync installs the list as it stands, which an install would refuse: see overrides.txt.
        _run(uv, "pip", "sync", "--python", str(python), str(_REQUIREMENTS))
        _set_current(venv, packages)
        shutil.rmtree(model, ignore_errors=True)
    if not _is_current(model, _digest(_MAKE_MODEL)):
        shutil.rmtree(model, ignore_errors=True)
        _run(str(python), str(_MAKE_MODEL), str(model))
        _set_current(model, _digest(_MAKE_MODEL))
    return Environment(python, model, logs)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_current(made: Path, mark: str) -> bool:
    stamp = made / ".made-from"
    return stamp.is_file() and stamp.read_text() == mark


def _set_current(made: Path, mark: str) -> None:
    (made / ".made-from").write_text(mark)


def _run(*command: str, capture: bool = False) -> str:
    """Runs to the end, politely; raises with the exit code when it fails. What it prints is shown."""
    finished = subprocess.run(
        ["nice", "-n", "10", *command],
        check=True,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else None,
        env={**os.environ, **OFFLINE},
    )
    return finished.stdout or ""


if __name__ == "__main__":
    make_environment()
