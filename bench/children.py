"""Child processes of the benchmark: started, watched through /proc, and ended by their own handle."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 20


class Child:
    """A process with pipes for stdin and stdout."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cpus: frozenset[int] = frozenset(),
    ) -> None:
        """Starts it, on the given CPUs alone where some are given."""

        def prepare() -> None:
            # Nothing of a benchmark outlives it, however it ends.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if cpus:
                os.sched_setaffinity(0, cpus)

        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread when it starts others
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exited(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def read_line(self) -> str:
        """The next line of its output; raises RuntimeError when it ended instead."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(_STOP_SECONDS)
            raise RuntimeError(f"{self._process.args!r} ended with {code} and without an answer")
        return line.strip()

    def write_line(self) -> None:
        """Tells it to go on."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.exited:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def start_module(module: str, *arguments: str, cpus: frozenset[int] = frozenset()) -> Child:
    """Starts a module of the benchmark with this Python."""
    return Child([sys.executable, "-m", module, *arguments], cpus=cpus)


def cpu_nanoseconds(pid: int) -> int:
    """CPU time, user and system, of a process with all its threads and its children."""
    # The kernel's clock of another process: as in clock_getcpuclockid(3), but to the nanosecond, where
    # /proc/PID/stat counts in ticks of 10 ms.
    return sum(time.clock_gettime_ns((~process << 3) | 2) for process in _tree(pid))


def resident_bytes(pid: int) -> int:
    """Memory that a process and its children hold in RAM."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) * page for p in _tree(pid))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _tree(int(child))
    return found
