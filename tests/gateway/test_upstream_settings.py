"""What an operator sets for the way to providers reaches the connections: a CA, a bound on them, a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aigateway import types
from tests.gateway.callers import Caller
from tests.support.certificates import LOOPBACK_NAMES, Authority
from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import MODEL, Exchange, Upstream, answer_well, running_upstream


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def tls_upstream(authority: Authority) -> AsyncIterator[Upstream]:
    """A provider with a certificate of a company's own authority."""
    upstream = Upstream()
    context = authority.server_context("provider", alt_names=LOOPBACK_NAMES)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        await upstream.stop()


async def add_provider(gateway: Gateway, base_url: str, provider_id: str = "own") -> str:
    """A provider with one model; gives the model's name."""
    provider = types.Provider(provider_type="vllm", base_url=base_url)
    made = await gateway.client.admin.providers.create(provider, provider_id=provider_id)
    await gateway.client.admin.models.create(made.name, types.Model(provider_model=MODEL), model_id="m")
    return f"{provider_id}/m"


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_ca_of_the_operators_own_is_trusted_by_setting_alone(
    state_dir: Path, authority: Authority, *, trusted: bool
) -> None:
    settings = {"upstream_ca_file": str(authority.ca_file)} if trusted else {}
    async with tls_upstream(authority) as upstream, running_gateway(state_dir, **settings) as gateway:
        model = await add_provider(gateway, f"https://127.0.0.1:{upstream.port}/v1")

        outcome = await Caller(gateway.client, streams=True).call(model=model)

        if trusted:
            assert outcome.text == "Hello there"
        else:
            assert outcome.failure is not None
            assert outcome.failure.reason == "UPSTREAM_UNAVAILABLE"
            assert outcome.failure.metadata["cause"] == "tls"
            assert upstream.exchanges == []


async def test_connections_are_bounded_for_each_provider(state_dir: Path) -> None:
    most: dict[int, int] = {}

    def counting(upstream: Upstream) -> Upstream:
        async def script(exchange: Exchange) -> None:
            most[upstream.port] = max(most.get(upstream.port, 0), upstream.busy)
            await asyncio.sleep(0.02)
            await answer_well(exchange)

        upstream.script = script
        return upstream

    async with (
        running_upstream() as first,
        running_upstream() as second,
        running_gateway(state_dir, upstream_max_connections=2) as gateway,
    ):
        models = [
            await add_provider(gateway, counting(upstream).base_url, name)
            for upstream, name in ((first, "first"), (second, "second"))
        ]
        caller = Caller(gateway.client, streams=False)

        outcomes = await asyncio.gather(*(caller.call(model=model) for model in models * 6))

        assert all(outcome.failure is None for outcome in outcomes)
        assert most == {first.port: 2, second.port: 2}
        assert (first.connections, second.connections) == (2, 2)


async def test_a_proxy_of_the_environment_is_asked(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_upstream() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with running_gateway(state_dir) as gateway:
            model = await add_provider(gateway, "http://provider.example/v1")

            outcome = await Caller(gateway.client, streams=False).call(model=model)

            assert outcome.failure is None
            [asked] = proxy.exchanges
            assert asked.head.startswith(b"POST http://provider.example/v1/chat/completions HTTP/1.1\r\n")
