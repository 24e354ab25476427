"""A real vLLM server on a free port of this machine, and what it tells of itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import free_port
from tests.vllm.environment import OFFLINE, Environment

MODEL: Final = "tiny"
_START_SECONDS: Final = 900
_STOP_SECONDS: Final = 60

_SMALL: Final = (
    *("--served-model-name", MODEL),
    *("--host", "127.0.0.1"),
    *("--dtype", "float32"),
    *("--max-num-seqs", "8"),
    "--enforce-eager",
)
_ON_CPU: Final = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Takes any core, not the first ones for itself.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A running server."""

    base_url: str
    api_key: str

    async def running(self) -> float:
        """How many requests it works on or has waiting."""
        return await self._sum("vllm:num_requests_running", "vllm:num_requests_waiting")

    async def written_tokens(self) -> float:
        """How many tokens it has written so far, for all requests."""
        return await self._sum("vllm:generation_tokens_total")

    async def _sum(self, *names: str) -> float:
        """The sum over all samples of some metrics."""
        async with self._client() as client:
            text = (await client.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name in names)

    async def wait_running(self, count: int, *, seconds: float = 20) -> float:
        """Waits until it works on so many requests; gives how long that took, in seconds."""
        started = time.monotonic()
        async with asyncio.timeout(seconds):
            while await self.running() != count:
                await asyncio.sleep(0.01)
        return time.monotonic() - started

    async def count_tokens(self, **body: Any) -> int:
        """The tokens of ``messages`` (and ``tools``) or of a ``prompt``, as the server counts them."""
        return len(await self._tokenize(body))

    async def tokens_of(self, prompt: str) -> list[int]:
        """The ids of the tokens of a text."""
        return await self._tokenize({"prompt": prompt})

    async def _tokenize(self, body: dict[str, Any]) -> list[int]:
        async with self._client() as client:
            response = await client.post("/tokenize", json={"model": MODEL, **body})
        response.raise_for_status()
        tokens: list[int] = response.json()["tokens"]
        return tokens

    def _client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        # verify=False: it saves reading certificates that plain HTTP does not need.
        return httpx.AsyncClient(
            base_url=self.base_url, headers=headers, trust_env=False, verify=False, timeout=30
        )


@contextmanager
def running_vllm(
    environment: Environment, name: str, *arguments: str, api_key: str = ""
) -> Iterator[VllmServer]:
    """A server that is ready; its log is ``.cache/vllm/logs/{name}.log``. Takes a minute or more to start."""
    port = free_port()
    log_file = environment.logs / f"{name}.log"
    # The `vllm` command looks for a distribution named vllm and fails in vllm-cpu; its module does not.
    command = ["nice", "-n", "10", str(environment.python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(environment.model), "--port", str(port), *_SMALL, *arguments]
    variables = {**os.environ, **OFFLINE, **_ON_CPU}
    if api_key:
        variables["VLLM_API_KEY"] = api_key
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        base_url = f"http://127.0.0.1:{port}"
        if not _becomes_ready(process, base_url):
            raise RuntimeError(f"vLLM did not start: {log_file}\n{log_file.read_text()[-4000:]}")
        yield VllmServer(base_url, api_key)
    finally:
        _stop(process)


def _becomes_ready(process: subprocess.Popen[bytes], base_url: str) -> bool:
    give_up_at = time.monotonic() + _START_SECONDS
    with httpx.Client(base_url=base_url, trust_env=False, timeout=10) as client:
        while process.poll() is None and time.monotonic() < give_up_at:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/health").status_code == 200:
                    return True
            time.sleep(0.5)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and the engine processes that it started, which form a group of their own."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
