"""Mock providers that nobody here wrote, each a process of its own on a loopback port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.gateway import free_port
from tests.support.tools import require_tool

_START_SECONDS: Final = 30
#: The one key that aimock takes.
AIMOCK_KEY: Final = "sk-judge"
_READY: Final = re.compile(rb"listening on (http://\S+)")


class Aimock:
    """The npm package @copilotkit/aimock: answers by fixtures, faults by fixture or by chance of 1."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    @property
    def base_url(self) -> str:
        """What a provider resource says."""
        return f"{self.http.base_url}/v1".replace("//v1", "/v1")

    async def reset(self) -> None:
        """Forgets fixtures, faults and requests."""
        await self._post("reset", {})

    async def answer(self, response: dict[str, Any], **fixture: Any) -> None:
        """Answers every request from now on; fixtures added first win."""
        match = fixture.pop("match", {})
        await self._post("fixtures", {"fixtures": [{"match": match, "response": response, **fixture}]})

    async def misbehave(self, **chaos: float) -> None:
        """Does to every request what the chances say."""
        await self._post("chaos", chaos)

    async def requests(self) -> list[dict[str, Any]]:
        """What was asked, oldest first."""
        response = await self.http.get("/__aimock/journal")
        entries: list[dict[str, Any]] = response.raise_for_status().json()
        return entries

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        (await self.http.post(f"/__aimock/{path}", json=body)).raise_for_status()


class LLMock:
    """The PyPI package llmock: answers by itself, faults as they are queued."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    @property
    def base_url(self) -> str:
        """What a provider resource says."""
        return f"{self.http.base_url}/v1".replace("//v1", "/v1")

    async def reset(self) -> None:
        """Forgets behaviours and requests."""
        (await self.http.post("/_llmock/reset")).raise_for_status()

    async def behave(self, **behaviour: Any) -> None:
        """Queues a behaviour for the next request."""
        body = {"behaviors": [behaviour]}
        (await self.http.post("/_llmock/scenario", json=body)).raise_for_status()

    async def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Its answer without the gateway."""
        answer: dict[str, Any] = (await self.http.post(f"/v1/{path}", json=body)).raise_for_status().json()
        return answer

    async def requests(self) -> list[dict[str, Any]]:
        """What was asked, oldest first, once all of it has ended."""
        found: list[dict[str, Any]] = (await self.http.get("/_llmock/requests")).json()["requests"]
        return found

    async def findings(self) -> set[str]:
        """What it has against the client that it met."""
        verdict = (await self.http.get("/_llmock/verdict")).raise_for_status().json()
        return {finding["code"] for finding in verdict["findings"]}


@asynccontextmanager
async def running_aimock(folder: Path) -> AsyncIterator[Aimock]:
    """An aimock on a free port; the test is told absent where it is not installed."""
    program = require_tool("aimock")
    config = folder / "aimock.json"
    await asyncio.to_thread(config.write_text, json.dumps({"llm": {"chunkSize": 8, "logLevel": "silent"}}))
    command = [str(program), "--config", str(config), "--port", "0", "--host", "127.0.0.1"]
    variables = {"AIMOCK_API_KEYS": AIMOCK_KEY}
    async with _running(command, variables, folder / "aimock.log") as process:
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await process.stdout.readline()
        ready = _READY.search(line)
        assert ready, f"aimock said {line!r}"
        headers = {"authorization": f"Bearer {AIMOCK_KEY}"}
        address = ready[1].decode()
        async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False) as http:
            yield Aimock(http)


@asynccontextmanager
async def running_llmock(folder: Path) -> AsyncIterator[LLMock]:
    """An llmock on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "llmock.cli", "serve", "--port", str(port), "--log-level", "warning"]
    async with (
        _running(command, {"LLMOCK_HOST": "127.0.0.1"}, folder / "llmock.log") as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        async with asyncio.timeout(_START_SECONDS):
            while not await _is_healthy(http):
                assert process.returncode is None, "llmock did not start"
                await asyncio.sleep(0.05)
        yield LLMock(http)


async def _is_healthy(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health")).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def _running(
    command: list[str], variables: dict[str, str], log_file: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, ended at the end."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**kept, **variables},
            cwd=log_file.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await process.wait()
