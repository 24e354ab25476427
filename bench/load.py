"""Drives one server with one kind of call for a while, and says what that cost."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cases import Case
from bench.children import Child, cpu_nanoseconds
from bench.programs import build_program
from bench.subjects import Subject

#: What a server puts off, such as writing its ledger, belongs to the calls that caused it.
SETTLE_SECONDS: Final = 0.3
#: For what the calls that open the connections leave behind: one a caller.
_WARM_UP_SECONDS: Final = 0.1
#: Callers share connections as the instances of a service do.
_MAX_CONNECTIONS: Final = 16


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of a latency, in microseconds."""

    p50: int
    p95: int
    p99: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What calls of one kind cost one server, in one interval."""

    subject: str
    case: str
    callers: int
    calls: int
    seconds: float
    #: CPU time of the server's process and its children for a call, in microseconds.
    cpu_us: float
    #: CPU time of the load client and of the upstream for a call: what is not the server's.
    client_cpu_us: float
    upstream_cpu_us: float
    messages: float
    total: Times
    first_message: Times
    first_token: Times


@contextmanager
def ready_callers(
    subject: Subject, case: Case, *, callers: int, seconds: float, max_calls: int
) -> Iterator[Child]:
    """A load client that waits, with a call of each caller behind it, for a line that tells it to go on."""
    with tempfile.NamedTemporaryFile(prefix="aigw-bench-") as message:
        Path(message.name).write_bytes(case.request().SerializeToString())
        command = [
            *(str(build_program("caller")), "--port", str(subject.port), "--path", case.path),
            *("--message", message.name, "--token", case.token),
            *("--callers", str(callers), "--connections", str(min(callers, _MAX_CONNECTIONS))),
            *("--seconds", str(seconds), "--calls", str(max_calls)),
        ]
        env = {"BENCH_AUTHORIZATION": subject.authorization} if subject.authorization else {}
        with Child(command, env=env) as caller:
            if caller.read_line() != "ready":
                raise RuntimeError("the load client does not start")
            yield caller


def measure(
    subject: Subject, case: Case, upstream_pid: int, *, callers: int, seconds: float, max_calls: int
) -> Sample:
    """Keeps `callers` calls under way until the time is up or all calls are made.

    Raises RuntimeError when any call fails: a wrong answer has no speed.
    """
    with ready_callers(subject, case, callers=callers, seconds=seconds, max_calls=max_calls) as client:
        time.sleep(_WARM_UP_SECONDS)
        before, upstream_before = cpu_nanoseconds(subject.pid), cpu_nanoseconds(upstream_pid)
        client_before = cpu_nanoseconds(client.pid)
        client.write_line()
        found = json.loads(client.read_line())
        time.sleep(SETTLE_SECONDS)
        after, upstream_after = cpu_nanoseconds(subject.pid), cpu_nanoseconds(upstream_pid)
    calls = found["calls"]
    if found["failed"] or not calls:
        raise RuntimeError(
            f"{subject.name}, {case.name}: {found['failed']} calls failed: {found['first_error']}"
        )
    return Sample(
        subject=subject.name,
        case=case.name,
        callers=callers,
        calls=calls,
        seconds=found["seconds"],
        cpu_us=(after - before) / 1000 / calls,
        client_cpu_us=(found["own_cpu_us"] - client_before / 1000) / calls,
        upstream_cpu_us=(upstream_after - upstream_before) / 1000 / calls,
        messages=found["messages"] / calls,
        total=Times(**found["total_us"]),
        first_message=Times(**found["first_message_us"]),
        first_token=Times(**found["first_token_us"]),
    )
