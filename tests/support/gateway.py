"""A whole gateway as its users meet it: in this process, or as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aigateway import AsyncClient
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from aigateway.v1.usage_service_pb2 import UsageRecord
from gateway_server.app import Started, run
from gateway_server.providers.media_fetch import Network
from gateway_server.settings import Settings
from gateway_server.storage.engine import open_store
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.usage_records import Condition, UsageQuery, UsageRepository
from tests.support.stores import copy_migrated_sqlite
from tests.support.transports import without_authorities
from tests.support.upstream import MODEL

ADMIN_KEY: Final = "sk-gw-" + "A" * 43


def gateway_settings(state_dir: Path, **settings: Any) -> dict[str, Any]:
    """Settings for a test: a free port, quick polls, no demo; other settings on top."""
    return {
        "state_dir": state_dir,
        "listen": "127.0.0.1:0",
        "metrics_listen": "",
        "admin_key": ADMIN_KEY,
        "demo": False,
        "refresh_seconds": 0.1,
        "log_level": "warning",
        # Tests of what single failures do; those of retries set these themselves.
        "retry_max_attempts": 1,
        "target_breaker": False,
        **settings,
    }


def chat_request(text: str = "hello", *, end_user_id: str = "", **fields: Any) -> CreateChatCompletionRequest:
    """A small valid request to the model that the upstream has."""
    return CreateChatCompletionRequest(
        **{
            "model": MODEL,
            "messages": [Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text=text))])],
            "end_user_id": end_user_id,
            **fields,
        }
    )


def new_user() -> str:
    """An end user that no other call has, to find a call's record by."""
    return uuid.uuid4().hex


class Ledger:
    """The usage records of a database, read beside the gateway that writes them."""

    def __init__(self, state_dir: Path) -> None:
        self._store = open_store(f"sqlite:///{state_dir / 'ai-gateway.db'}")
        self._repository = UsageRepository(self._store)

    async def read(self, end_user_id: str = "") -> list[UsageRecord]:
        """What is there now, newest first, a thousand at most."""
        conditions = (Condition("end_user_id", end_user_id),) if end_user_id else ()
        query = UsageQuery(None, conditions=conditions)
        return list((await self._repository.list_page(query, PageRequest(page_size=1000))).items)

    async def wait(self, end_user_id: str, count: int = 1, *, seconds: float = 20) -> list[UsageRecord]:
        """The records of one end user as soon as there are so many."""
        async with asyncio.timeout(seconds):
            while len(records := await self.read(end_user_id)) < count:
                await asyncio.sleep(0.005)
        return records

    async def wait_one(self, end_user_id: str) -> UsageRecord:
        """The one record of an end user."""
        [record] = await self.wait(end_user_id)
        return record

    async def close(self) -> None:
        """Closes the connections."""
        await self._store.close()


@asynccontextmanager
async def reading_ledger(state_dir: Path) -> AsyncIterator[Ledger]:
    """The ledger in a gateway's folder."""
    ledger = Ledger(state_dir)
    try:
        yield ledger
    finally:
        await ledger.close()


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, a client with its admin key, and a view of its ledger."""

    started: Started
    admin_key: str
    client: AsyncClient
    ledger: Ledger
    stop: asyncio.Event
    ended: asyncio.Task[None]

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.started.address

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The key, for calls on stubs."""
        return self.client.metadata


@asynccontextmanager
async def running_gateway(
    state_dir: Path, media_network: Network | None = None, /, **settings: Any
) -> AsyncIterator[Gateway]:
    """A gateway in this process, stopped at the end; ``settings`` as in gateway_settings.

    Its default profile is emptied: guardrails hold a word back, and most tests want each as it comes.
    ``media_network`` is where it fetches media from, if it does. It knows no public authority. Its tables are
    made for it, unless it makes its admin key as at a first start.
    """
    stop = asyncio.Event()
    started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()

    async def ready(told: Started) -> None:
        started.set_result(told)

    loaded = await asyncio.to_thread(Settings.load, gateway_settings(state_dir, **settings))
    if loaded.admin_key.get_secret_value() and not loaded.database_url:
        await copy_migrated_sqlite(state_dir / "ai-gateway.db")
    with without_authorities():
        running = run(loaded, stop, ready=ready, media_network=media_network)
        ended = asyncio.create_task(running, name="gateway")
        first: set[asyncio.Future[Any]] = {ended, started}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        await ended  # raises what kept it from starting
    told = started.result()
    admin_key = told.admin_key or loaded.admin_key.get_secret_value()
    async with client_of(told.address, admin_key) as client, reading_ledger(state_dir) as ledger:
        try:
            if admin_key:
                await empty_default_profile(client)
            yield Gateway(told, admin_key, client, ledger, stop, ended)
        finally:
            stop.set()
            await ended


async def empty_default_profile(client: AsyncClient) -> None:
    """Makes calls that name no guardrails have none."""
    nothing = GuardrailProfile(name="guardrailProfiles/default")
    await client.admin.guardrail_profiles.update(nothing, update_mask=["input_rules", "output_rules"])


def client_of(address: str, api_key: str = ADMIN_KEY) -> AsyncClient:
    """A client that sends every call once."""
    return AsyncClient(address, api_key=api_key, max_attempts=1, timeout=30)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


_COMMAND: Final = Path(sys.executable).with_name("ai-gateway")
_SERVES: Final = re.compile(r"AI Gateway serves gRPC on (\S+) \(plain text\)\n")


class GatewayProcess:
    """A gateway as a process of its own: ``ai-gateway serve``."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.process = process
        self.address = ""
        self._log_file = log_file

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log_file.read_text()

    async def ready(self) -> bool:
        """Waits until it serves; False when it ended instead."""
        async with asyncio.timeout(30):
            line = await self._output().readline()
            if not line:
                await self.process.wait()
                return False
        serves = _SERVES.fullmatch(line.decode())
        assert serves, line
        self.address = serves[1]
        return True

    async def admin_key(self) -> str:
        """The admin key if this process has made one, which it prints as soon as it is ready."""
        try:
            async with asyncio.timeout(0.5):
                return (await self._output().readline()).decode().strip()
        except TimeoutError:
            return ""

    def _output(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self, seconds: float = 20) -> int:
        """Waits until it has ended."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def gateway_process(
    state_dir: Path, *, environment: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[GatewayProcess]:
    """A gateway process that has been started, not yet ready; killed at the end if it still runs.

    ``environment`` are variables besides its settings.
    """
    variables = {
        f"AIGW_{name.upper()}": str(value) for name, value in gateway_settings(state_dir, **settings).items()
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "PYTHONPATH") if name in os.environ}
    log_file = state_dir.parent / f"{state_dir.name}-{uuid.uuid4().hex[:8]}.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            _COMMAND,
            "serve",
            env={**kept, **variables, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        yield GatewayProcess(process, log_file)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
