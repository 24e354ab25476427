"""The command as a process: what needs signals, terminals, pipes, or a gateway of its own."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.gateway import Gateway, client_of, free_port, running_gateway

COMMAND = [sys.executable, "-c", "from gateway_server.cli import main; main()"]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "TERM": "dumb", **variables}


@asynccontextmanager
async def started(
    *args: str, env: Mapping[str, str], stdin: int = DEVNULL, stdout: int = PIPE, cwd: Path | None = None
) -> AsyncIterator[Process]:
    """The command under way, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *args, env=environment(**env), stdin=stdin, stdout=stdout, stderr=PIPE, cwd=cwd
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(*args: str, env: Mapping[str, str], cwd: Path | None = None) -> tuple[int, str, str]:
    async with started(*args, env=env, cwd=cwd) as process, asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def connection(gateway: Gateway) -> dict[str, str]:
    return {"AIGW_TARGET": gateway.address, "AIGW_API_KEY": gateway.admin_key}


async def test_ctrl_c_ends_an_answer_and_the_call_behind_it(gateway: Gateway) -> None:
    args = ["chat", "-m", "demo/demo-slow", "--label", "case=interrupt", "x " * 200]
    async with started(*args, env=connection(gateway)) as process, asyncio.timeout(30):
        assert process.stdout is not None
        assert await process.stdout.read(4) == b"This"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert err == b"interrupted\n"
    records = gateway.client.usage.list_records("tenants/-", filter='labels.case = "interrupt"')
    async with asyncio.timeout(10):
        while not (found := [record async for record in records]):
            await asyncio.sleep(0.01)
            records = gateway.client.usage.list_records("tenants/-", filter='labels.case = "interrupt"')
    assert found[0].error_reason == "CANCELLED"


async def test_a_reader_that_has_seen_enough_is_told_nothing(gateway: Gateway) -> None:
    reading, writing = os.pipe()
    async with started("models", "list", env=connection(gateway), stdout=writing) as process:
        os.close(writing)
        os.close(reading)
        _, err = await process.communicate()

    assert (process.returncode, err) == (1, b"")


class Terminal:
    """What a person sees of a process, and types; ``theirs`` is its side."""

    def __init__(self) -> None:
        ours, self.theirs = pty.openpty()
        self._ours = os.fdopen(ours, "r+b", buffering=0)
        self._shown = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours, self._read)

    def _read(self) -> None:
        try:
            self._shown.extend(os.read(self._ours.fileno(), 4096))
        except OSError:  # the other side is closed
            self._loop.remove_reader(self._ours)

    async def see(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text.encode() not in self._shown:
                await asyncio.sleep(0.01)
        del self._shown[: self._shown.index(text.encode()) + len(text)]

    def type(self, text: str) -> None:
        self._ours.write(text.encode())

    def close(self) -> None:
        self._loop.remove_reader(self._ours)
        self._ours.close()


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


async def test_a_conversation_at_a_terminal_remembers_and_survives_failures(
    gateway: Gateway, terminal: Terminal
) -> None:
    args = ["chat", "-m", "demo/demo-chat"]
    theirs = terminal.theirs
    async with started(*args, env=connection(gateway), stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        await terminal.see("> ")
        terminal.type("first question\n")
        await terminal.see("You wrote: first question")
        await terminal.see("> ")
        terminal.type("/fail 500\n")
        await terminal.see("> ")
        terminal.type("\n")
        await terminal.see("> ")
        terminal.type("second question\n")
        await terminal.see("You wrote: second question")
        await terminal.see("> ")
        terminal.type("\x04")  # Ctrl-D
        async with asyncio.timeout(20):
            assert process.stderr is not None
            err = (await process.stderr.read()).decode()
            assert await process.wait() == 0

    assert "error: UPSTREAM_UNAVAILABLE" in err
    first, second = (int(count) for count in re.findall(r"(\d+) in \+", err))
    # The second question came with the first and its answer, and without the one that failed.
    assert second > first + 20


async def test_a_watcher_of_usage_outlives_a_restart_of_the_gateway(
    tmp_path: Path, terminal: Terminal
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        async with running_gateway(tmp_path / "state", demo=True, listen=listen) as gateway:
            env = {**connection(gateway), "TERM": "xterm"}
            watching = started("usage", "--watch", env=env, stdout=terminal.theirs)
            process = await stack.enter_async_context(watching)
            os.close(terminal.theirs)
            await terminal.see("no calls yet")
        await terminal.see("trying again: UNAVAILABLE")
        async with running_gateway(tmp_path / "state", demo=True, listen=listen) as gateway:
            await gateway.client.chat.create("demo/demo-chat", "hello")
            await terminal.see("REQUESTS")
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(20):
                assert await process.wait() == 130


async def test_a_watcher_without_a_terminal_is_told_each_drawing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running_gateway(tmp_path / "state", demo=True))
        process = await stack.enter_async_context(started("usage", "--watch", env=connection(gateway)))
        assert process.stdout is not None
        async with asyncio.timeout(30):
            for _ in range(2):
                while b"no calls yet" not in await process.stdout.readline():
                    pass
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130


async def test_the_first_start_makes_one_call_from_key_to_usage_record(tmp_path: Path) -> None:
    env = {"AIGW_STATE_DIR": str(tmp_path / "state"), "AIGW_METRICS_LISTEN": ""}
    args = ["serve", "--first-call", "--listen", "127.0.0.1:0"]
    async with started(*args, env=env) as process, asyncio.timeout(40):
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("The admin key opens the rest"):
            lines.append((await process.stdout.readline()).decode().rstrip("\n"))
        shown = "\n".join(lines)
        address = re.findall(r"serves gRPC on (\S+) \(plain text\)", shown)[0]
        admin_key = lines[1]
        caller_key = re.findall(r"export AIGW_API_KEY=(\S+)", shown)[0]
        async with client_of(address, admin_key) as admin, client_of(address, caller_key) as caller:
            tenant = await admin.admin.tenants.get("tenants/first-call")
            records = [record async for record in caller.usage.list_records(tenant.name)]
        process.terminate()
        _, err = await process.communicate()

    assert process.returncode == 0
    assert re.fullmatch(r"sk-gw-[A-Za-z0-9_-]{43}", admin_key)
    assert "This is the demo provider of the gateway" in shown
    [record] = records
    assert f"Usage record {record.name}: {record.usage.total_tokens} tokens, $0." in shown
    assert b"Admin key, shown only now" in err
    assert b"Traceback" not in err


async def test_the_second_start_says_where_the_admin_key_was(tmp_path: Path) -> None:
    env = {"AIGW_STATE_DIR": str(tmp_path / "state"), "AIGW_METRICS_LISTEN": ""}
    code, out, err = await finished("init", env=env)
    assert (code, err) == (0, "Admin key, shown only now; keep it in a safe place:\n")
    assert re.fullmatch(r"sk-gw-[A-Za-z0-9_-]{43}\n", out)

    args = ["serve", "--first-call", "--listen", "127.0.0.1:0"]
    async with started(*args, env=env) as process, asyncio.timeout(40):
        assert process.stderr is not None
        told = b""
        while b"Not the first start" not in told:
            told += await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0


async def test_init_makes_the_admin_key_once(tmp_path: Path) -> None:
    env = {"AIGW_STATE_DIR": str(tmp_path / "state")}

    first = await finished("init", "--json", env=env)
    again = await finished("init", "--json", env=env)
    told = await finished("init", env=env)

    assert re.fullmatch(r'\{"adminKey": "sk-gw-[A-Za-z0-9_-]{43}"\}\n', first[1])
    assert again == (0, "{}\n", "")
    assert told == (0, "", "Set up already; no key was made.\n")


async def test_a_gateway_that_cannot_start_says_why(gateway: Gateway, tmp_path: Path) -> None:
    base = {"AIGW_STATE_DIR": str(tmp_path / "state"), "AIGW_METRICS_LISTEN": ""}
    (tmp_path / "bad.toml").write_text("drain_seconds = 'long'\n")

    taken = await finished("serve", "--listen", gateway.address, env=base)
    misspelt = await finished("serve", env={**base, "AIGW_LISTN": "x"})
    wrong = await finished("serve", "--config", str(tmp_path / "bad.toml"), env=base)
    absent = await finished("init", "--config", str(tmp_path / "absent.toml"), env=base)

    assert taken[0] == 1
    assert f"error: cannot listen on {gateway.address}" in taken[2]
    assert misspelt == (2, "", "error: AIGW_LISTN: no such setting\n")
    assert (wrong[0], wrong[1]) == (2, "")
    assert wrong[2].startswith("error: drain_seconds: ")
    assert absent[0] == 2
    assert "absent.toml" in absent[2]
    assert "Traceback" not in taken[2] + misspelt[2] + wrong[2] + absent[2]


async def test_help_of_serve_tells_every_setting(run: Run) -> None:
    from gateway_server.settings import Settings

    ran = await run("serve", "--help")

    assert ran.code == 0
    assert "--first-call" in ran.out
    for name, field in Settings.model_fields.items():
        assert f"AIGW_{name.upper()}  (TOML: {name}, default: " in ran.out
        assert field.description
        assert field.description in ran.out
    assert "AIGW_DRAIN_SECONDS  (TOML: drain_seconds, default: 30)" in ran.out
    assert "AIGW_DATABASE_URL  (TOML: database_url, default: none)" in ran.out


@pytest.mark.parametrize("args", [["--help"], ["chat", "--help"], ["--version"]])
async def test_help_loads_nothing_that_is_slow(args: list[str]) -> None:
    code = (
        "import atexit, sys; from gateway_server.cli import main\n"
        "atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))\n"
        f"sys.argv[1:] = {args!r}; main()"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment(), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()

    assert process.returncode == 0
    assert out
    loaded = set(err.decode().split())
    assert "typer" in loaded
    assert not loaded & {"grpc", "aigateway", "google.protobuf", "sqlalchemy", "httpx", "yaml"}
