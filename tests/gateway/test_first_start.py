"""What the first start makes, and that no later start makes it again."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from aigateway import AuthenticationError, NotFoundError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import ChatCompletion
from gateway_server.app import StartError, initialise, run
from gateway_server.settings import Settings
from tests.support.gateway import client_of, gateway_process, gateway_settings, running_gateway
from tests.support.upstream import MODEL, Upstream

FIRST = "sk-gw-" + "F" * 43
SECOND = "sk-gw-" + "S" * 43


async def ask(address: str, api_key: str, model: str = "demo-chat") -> ChatCompletion:
    async with client_of(address, api_key) as client:
        return await client.chat.create(model, "hello")


async def test_the_admin_key_is_shown_once_and_stays(state_dir: Path) -> None:
    async with running_gateway(state_dir, admin_key="", demo=True) as first:
        secret = first.started.admin_key
        assert len(secret) == len("sk-gw-") + 43
        await ask(first.address, secret)
    async with running_gateway(state_dir, admin_key="", demo=True) as second:
        assert second.started.admin_key == ""
        await ask(second.address, secret)
        with pytest.raises(AuthenticationError):
            await ask(second.address, FIRST)


async def test_a_given_admin_key_is_taken_and_a_new_one_takes_its_place(state_dir: Path) -> None:
    for given in (FIRST, FIRST, SECOND):
        async with running_gateway(state_dir, admin_key=given, demo=True) as gateway:
            assert gateway.started.admin_key == ""
            await ask(gateway.address, given)
            for other in {FIRST, SECOND} - {given}:
                with pytest.raises(AuthenticationError):
                    await ask(gateway.address, other)


async def test_init_makes_what_serve_then_finds(state_dir: Path) -> None:
    settings = await asyncio.to_thread(Settings.load, gateway_settings(state_dir, admin_key="", demo=True))
    secret = await initialise(settings)
    assert await initialise(settings) == ""
    async with running_gateway(state_dir, admin_key="", demo=True) as gateway:
        assert gateway.started.admin_key == ""
        await ask(gateway.address, secret)


async def test_what_was_deleted_does_not_come_back(upstream: Upstream, state_dir: Path) -> None:
    environment = {"demo": True, "vllm_base_url": upstream.base_url}
    async with running_gateway(state_dir, **environment) as gateway:
        admin = gateway.client.admin
        assert {each.name async for each in admin.providers.list()} == {"providers/demo", "providers/vllm"}
        models = [model.name async for model in admin.models.list()]
        assert f"providers/vllm/models/{MODEL}" in models
        for model in models:
            await admin.models.delete(model)
        for provider in ("providers/demo", "providers/vllm"):
            await admin.providers.delete(provider)
        with pytest.raises(NotFoundError):
            await ask(gateway.address, gateway.admin_key)
    async with running_gateway(state_dir, **environment) as gateway:
        assert [each async for each in gateway.client.admin.providers.list()] == []
        with pytest.raises(NotFoundError):
            await ask(gateway.address, gateway.admin_key)


async def test_two_processes_that_start_at_once_make_one_of_everything(
    upstream: Upstream, state_dir: Path
) -> None:
    settings: dict[str, Any] = {"admin_key": "", "demo": True, "vllm_base_url": upstream.base_url}
    async with gateway_process(state_dir, **settings) as one, gateway_process(state_dir, **settings) as two:
        assert all(await asyncio.gather(one.ready(), two.ready())), one.log + two.log
        secrets = await asyncio.gather(one.admin_key(), two.admin_key())
        [secret] = [secret for secret in secrets if secret]
        for process in (one, two):
            await ask(process.address, secret)
            await ask(process.address, secret, f"vllm/{MODEL}")
            async with client_of(process.address, secret) as client:
                keys = [key.name async for key in client.admin.api_keys.list("tenants/default")]
                assert keys == ["tenants/default/apiKeys/admin"]
                providers = [provider.name async for provider in client.admin.providers.list()]
                assert sorted(providers) == ["providers/demo", "providers/vllm"]
        for process in (one, two):
            process.terminate()
        assert set(await asyncio.gather(one.exit_code(), two.exit_code())) == {0}
        assert "Traceback" not in one.log + two.log


async def test_a_process_learns_what_another_changes(upstream: Upstream, state_dir: Path) -> None:
    """Two gateways on one database: a revoked key stops working in the other within a second."""
    async with (
        running_gateway(state_dir, vllm_base_url=upstream.base_url) as one,
        running_gateway(state_dir) as two,
    ):
        made = await one.client.admin.api_keys.create("tenants/default", ApiKey(), api_key_id="worker")
        await ask(two.address, made.secret, MODEL)
        await one.client.admin.api_keys.revoke("tenants/default/apiKeys/worker")
        async with asyncio.timeout(1):
            while True:
                try:
                    await ask(two.address, made.secret, MODEL)
                except AuthenticationError:
                    break


async def test_a_first_start_that_finds_its_port_taken_still_tells_the_admin_key(state_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = await asyncio.to_thread(
            Settings.load, gateway_settings(state_dir, listen=f"127.0.0.1:{port}", admin_key="")
        )
        with pytest.raises(StartError, match="cannot listen") as caught:
            await run(settings, asyncio.Event())
    assert caught.value.admin_key.startswith("sk-gw-")
    async with (
        running_gateway(state_dir, admin_key="") as gateway,
        client_of(gateway.address, caught.value.admin_key) as client,
    ):
        assert [tenant.name async for tenant in client.admin.tenants.list()] == ["tenants/default"]
