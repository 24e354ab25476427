"""A gateway starts whatever lies in its journal folder, and tells of what it could not settle."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from gateway_server.usage import registry
from tests.support.gateway import Gateway, free_port, running_gateway
from tests.support.upstream import MODEL, Upstream


async def wait_for_health(gateway: Gateway, status: int) -> None:
    stub: Any = HealthStub(gateway.client.channel)
    request = health_pb2.HealthCheckRequest(service="aigateway.recovery")
    async with asyncio.timeout(10):
        while (await stub.Check(request)).status != status:
            await asyncio.sleep(0.05)


async def test_a_journal_that_cannot_be_settled_is_told_and_keeps_no_gateway_from_starting(
    upstream: Upstream, state_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REFRESH_SECONDS", 0.1)
    response = health_pb2.HealthCheckResponse
    (state_dir / "journal/dead/lock").mkdir(parents=True)
    port = free_port()
    settings = {"vllm_base_url": upstream.base_url, "metrics_listen": f"127.0.0.1:{port}"}
    async with running_gateway(state_dir, **settings) as gateway, httpx.AsyncClient() as http:

        async def unsettled() -> bool:
            return "\naigateway_unsettled_journals 1.0\n" in (await http.get(f"http://127.0.0.1:{port}")).text

        await wait_for_health(gateway, response.NOT_SERVING)
        assert await unsettled()
        assert caplog.text.count("journal/dead") == 2  # the folder, and the file in it
        await gateway.client.chat.create(MODEL, "hello")
        await asyncio.to_thread(shutil.rmtree, state_dir / "journal/dead")
        await wait_for_health(gateway, response.SERVING)
        assert not await unsettled()
