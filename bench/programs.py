"""Builds the two C programs of the benchmark, once per version of their source."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).resolve().parent
#: What the benchmark builds and leaves behind.
CACHE = _SOURCES.parent / ".cache" / "bench"


def build_program(name: str) -> Path:
    """The executable made from ``bench/{name}.c``; raises RuntimeError with the compiler's words."""
    source = _SOURCES / f"{name}.c"
    program = CACHE / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if program.exists():
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RuntimeError("the benchmark needs a C compiler: install cc, or name one in CC")
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(unfinished), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot compile {source.name}:\n{done.stderr}")
    unfinished.replace(program)
    return program
