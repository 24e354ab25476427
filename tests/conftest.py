"""What holds for every test: the event loop, loopback only, no blocking calls, absent suites told aloud."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from tests.support import entity_models, loopback, told
from tests.support.absent import ABSENT_PREFIX
from tests.support.services import SERVICES
from tests.support.shared import SHARED_HINT, find_shared_dir

loopback.install()

# How long an example takes says nothing on a machine that does something else as well.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Coroutine tests run on asyncio; TEST_UVLOOP=1 puts uvloop below it."""
    return "asyncio", {"use_uvloop": os.environ.get("TEST_UVLOOP") == "1"}


@pytest.fixture(autouse=True, scope="session")
async def one_event_loop(anyio_backend: object) -> AsyncIterator[None]:
    """Keeps one event loop for the whole run: gRPC's poller stays with the first loop that it meets."""
    yield  # noqa: PT022 -- what keeps the loop is that the fixture is open


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Lets SIGINT reach the processes that tests start; a run in the background inherits that it does not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def services() -> Iterator[None]:
    """Ends the servers that tests started."""
    yield
    SERVICES.close()


@pytest.fixture(autouse=True)
def only_loopback() -> Iterator[None]:
    """Fails a test that reached for a foreign address, also where the code under test hid the refusal."""
    loopback.take_refused()
    yield
    if refused := loopback.take_refused():
        pytest.fail(f"reached outside this machine: {', '.join(refused)}")


@pytest.fixture(autouse=True, scope="session")
def no_blocking_calls() -> Iterator[None]:
    """Raises BlockingError where this project's code blocks the event loop (sleep, file, socket, SQL)."""
    guard = BlockBuster(scanned_modules=["gateway_server", "aigateway"])
    # A lock held for microseconds by another thread (metrics, logs) is no fault and would fail at random.
    for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
        del guard.functions[name]
    # Some hundred bytes into the page cache, measured at microseconds: see docs/decisions/money.md.
    guard.functions["os.write"].can_block_in("gateway_server/usage/journal.py", "append")
    # asyncpg looks for files of libpq's (.pgpass, certificates) when it connects, which is seldom.
    for function in guard.functions.values():
        function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        # Migrations have a thread and an event loop of their own.
        function.can_block_in("gateway_server/storage/schema.py", "step")
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(scope="session")
def rule_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a spaCy pipeline that finds a few persons and places by rules."""
    return entity_models.write_rules(tmp_path_factory.mktemp("spacy") / "rules")


def pytest_xdist_auto_num_workers() -> int | None:
    """One process for each CPU that may be used: with more, tests that watch times wait for each other."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or not hasattr(os, "sched_getaffinity"):
        return None  # xdist finds out
    return len(os.sched_getaffinity(0))


def pytest_report_header() -> str:
    """Tells the versions that these tests really met: see tools/test_matrix.sh."""
    return f"grpcio {version('grpcio')}, protobuf {version('protobuf')}"


SHARED_SUITES = [Path(__file__).parent / name for name in ("shared_guardrails", "shared_wire")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(suite) for suite in SHARED_SUITES):
            item.add_marker("shared")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Sends what a test told along with its report."""
    item.user_properties.extend(told.take())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows what tests told, and names the suites that could not run here and why."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    for section, told_lines in told.sections(reports).items():
        terminalreporter.section(section)
        for line in told_lines:
            terminalreporter.line(line)
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if reason.startswith(ABSENT_PREFIX):
            counts[reason] += 1
    lines = [f"{reason} ({count} tests)" for reason, count in sorted(counts.items())]
    asked_for = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if find_shared_dir() is None:
        absent = [suite for suite in SHARED_SUITES if any(suite.is_relative_to(path) for path in asked_for)]
        lines += [f"{ABSENT_PREFIX}all of tests/{suite.name}: {SHARED_HINT}" for suite in absent]
    if lines:
        terminalreporter.section("NOT RUN HERE", sep="!", red=True, bold=True)
        for line in lines:
            terminalreporter.line(line)
