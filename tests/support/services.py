"""A PostgreSQL and a Redis of the tests' own, on free ports of this machine; started when first asked for."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from tests.support.absent import tell_absent

_TOOLS: Final = Path(__file__).resolve().parents[2] / ".cache" / "tools"


class Service:
    """A server that can be stopped, killed and started again; its folder and port stay."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        port: int,
        *,
        user: str | None,
        stop_signal: signal.Signals,
        is_ready: Callable[[int], bool],
    ) -> None:
        self.port = port
        self._is_ready = is_ready
        self._folder = folder
        self._command = [*_as_user(user), *command]
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it takes connections. Blocks."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/"
            )
        give_up_at = time.monotonic() + 30
        while not self._is_ready(self.port):
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise AssertionError((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it at once, in order. Blocks."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """Ends it as a power cut would. Blocks."""
        self._end(signal.SIGKILL)

    def set_password(self, password: str) -> None:
        """Wants a password from the next start on; for Redis."""
        self._command += ["--requirepass", password]

    def join_cluster(self) -> int:
        """Is a node of a cluster, without slots at first, from the next start on; for Redis.

        Gives the port by which nodes talk to it.
        """
        port = _free_port()
        self._command += ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
        self._command += ["--cluster-port", str(port)]
        return port

    def pause(self) -> None:
        """Keeps it from answering, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _new_redis(folder: Path) -> Service:
    server = str(shutil.which("redis-server") or _absent("redis"))
    port = _free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    return Service(folder, command, port, user=None, stop_signal=signal.SIGTERM, is_ready=_redis_answers)


def _new_postgresql(folder: Path) -> Service:
    binaries = _postgresql_binaries()
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses root
        user = "postgres" if _has_user("postgres") else "nobody"
        shutil.chown(folder, user)
    data = folder / "data"
    subprocess.run(
        [
            *_as_user(user),
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    port = _free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
        "fsync": "off",  # this machine is not going to lose its power in a test
        "max_connections": "200",
        "timezone": "UTC",
    }
    command = [str(binaries / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]

    def is_ready(port: int) -> bool:
        asked = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(asked, check=False).returncode == 0

    # SIGINT: PostgreSQL's fast shutdown.
    return Service(folder, command, port, user=user, stop_signal=signal.SIGINT, is_ready=is_ready)


def _postgresql_binaries() -> Path:
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (found / "initdb").exists():
            return found
    server = shutil.which("postgres")
    return Path(server).resolve().parent if server else _absent("postgresql")


class Services:
    """The servers of one run: made when first asked for, ended with it."""

    def __init__(self) -> None:
        self._running: dict[str, Service] = {}
        self._folders: list[Path] = []

    def redis(self) -> Service:
        """The Redis that tests share, each with keys of its own. Blocks at first."""
        return self._shared("redis", _new_redis)

    def postgresql(self) -> Service:
        """The PostgreSQL that tests share, each with a database of its own. Blocks at first."""
        return self._shared("postgresql", _new_postgresql)

    def own(self, kind: str) -> Service:
        """A ``redis`` or ``postgresql`` for one test alone, to be stopped and killed at will. Blocks."""
        service = self._start({"redis": _new_redis, "postgresql": _new_postgresql}[kind])
        self._running[f"{kind}-{service.port}"] = service
        return service

    def close(self) -> None:
        """Ends all of them. Blocks."""
        for service in self._running.values():
            service.kill()
        self._running.clear()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _shared(self, kind: str, make: Callable[[Path], Service]) -> Service:
        if kind not in self._running:
            self._running[kind] = self._start(make)
        return self._running[kind]

    def _start(self, make: Callable[[Path], Service]) -> Service:
        folder = Path(tempfile.mkdtemp(prefix="aigw-test-"))
        folder.chmod(0o755)
        self._folders.append(folder)
        service = make(folder)
        service.start()
        return service


SERVICES: Final = Services()


def _absent(name: str) -> NoReturn:
    reason_file = _TOOLS / f"{name}.absent"
    reason = reason_file.read_text().strip() if reason_file.exists() else "run `make test-services`"
    tell_absent(f"{name}: {reason}")


def _as_user(user: str | None) -> list[str]:
    """What to put before a command: Popen's own way forks, and there gRPC's handlers of forks may hang."""
    return ["setpriv", f"--reuid={user}", "--clear-groups", "--regid=nogroup"] if user else []


def _has_user(name: str) -> bool:
    with suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _redis_answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
        probe.sendall(b"PING\r\n")
        return probe.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    return False
