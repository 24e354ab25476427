"""Rate limits as callers meet them: exact, told in full, and free again when a call has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aigateway import AsyncClient
from aigateway.errors import RateLimitError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import ModelRateLimits, RateLimits, Tenant
from aigateway.v1.usage_service_pb2 import LimitKind
from tests.gateway.callers import CallUnderWay
from tests.support.gateway import Gateway, chat_request, client_of, running_gateway
from tests.support.services import SERVICES
from tests.support.upstream import MODEL, Upstream, talking


@dataclass(frozen=True, slots=True)
class Limited:
    """A gateway with one tenant, and a client of it."""

    gateway: Gateway
    client: AsyncClient

    async def key(self, api_key: ApiKey) -> str:
        return (await self.gateway.client.admin.api_keys.create("tenants/acme", api_key)).secret


@asynccontextmanager
async def limited(
    state_dir: Path, upstream: Upstream, tenant: Tenant, **settings: Any
) -> AsyncIterator[Limited]:
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url, **settings) as gateway:
        await gateway.client.admin.tenants.create(tenant, tenant_id="acme")
        made = await gateway.client.admin.api_keys.create("tenants/acme", ApiKey())
        async with client_of(gateway.address, made.secret) as client:
            yield Limited(gateway, client)


@pytest.fixture(params=["memory", "redis"])
async def counts(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """Settings of a gateway that counts by itself, and of one that counts in Redis."""
    if request.param == "memory":
        yield {}
        return
    server = await asyncio.to_thread(SERVICES.own, "redis")
    yield {"redis_url": f"redis://127.0.0.1:{server.port}"}
    await asyncio.to_thread(server.kill)


async def ask(client: AsyncClient, **options: object) -> object:
    return await client.chat.create(MODEL, "hello", **options)  # type: ignore[arg-type]


async def test_so_many_requests_a_minute_and_no_more(upstream: Upstream, state_dir: Path) -> None:
    tenant = Tenant(rate_limits=RateLimits(requests_per_minute=3))
    async with limited(state_dir, upstream, tenant) as its:
        outcomes = await asyncio.gather(*(ask(its.client) for _ in range(8)), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, RateLimitError)]
        assert len(refused) == 5
        assert len(upstream.exchanges) == 3
        assert refused[0].metadata["owner"] == "tenants/acme"
        assert refused[0].metadata["kind"] == "REQUESTS_PER_MINUTE"
        assert refused[0].metadata["limit"] == "3"
        assert refused[0].retry_after is not None
        assert 19 < refused[0].retry_after <= 20


async def test_tokens_are_reserved_and_put_right_when_they_are_known(
    upstream: Upstream, state_dir: Path
) -> None:
    tenant = Tenant(rate_limits=RateLimits(tokens_per_minute=300))
    async with limited(state_dir, upstream, tenant) as its:
        for _ in range(20):  # each is expected to take more than 256, and takes 7
            await ask(its.client)
        limits = (await its.client.usage.get_limits("tenants/acme")).limits
        [tokens] = [limit for limit in limits if limit.kind == LimitKind.LIMIT_KIND_TOKENS_PER_MINUTE]
        assert 100 <= tokens.used <= 140
        with pytest.raises(RateLimitError) as caught:
            for _ in range(30):
                await ask(its.client)
        assert caught.value.metadata["kind"] == "TOKENS_PER_MINUTE"


async def test_a_place_is_free_again_when_its_call_was_cancelled(upstream: Upstream, state_dir: Path) -> None:
    tenant = Tenant(rate_limits=RateLimits(max_concurrent_requests=1))
    async with limited(state_dir, upstream, tenant) as its:
        upstream.script = talking("Hello ")
        call = CallUnderWay(its.client, streams=True)
        await call.read_until("Hello ")
        with pytest.raises(RateLimitError) as caught:
            await ask(its.client)
        assert caught.value.metadata["kind"] == "CONCURRENT_REQUESTS"
        assert caught.value.retry_after is None  # nobody knows
        call.rpc.cancel()
        await its.gateway.ledger.wait_one(call.end_user_id)
        upstream.reset()
        await ask(its.client)


async def test_a_key_with_limits_of_its_own_does_not_share_its_tenants(
    upstream: Upstream, state_dir: Path
) -> None:
    tenant = Tenant(rate_limits=RateLimits(requests_per_minute=2))
    async with limited(state_dir, upstream, tenant) as its:
        own = await its.key(ApiKey(rate_limits_override=RateLimits(requests_per_minute=3)))
        async with client_of(its.gateway.address, own) as client:
            for _ in range(3):
                await ask(client)
            with pytest.raises(RateLimitError) as caught:
                await ask(client)
            assert caught.value.metadata["owner"].startswith("tenants/acme/apiKeys/")
        for _ in range(2):
            await ask(its.client)
        with pytest.raises(RateLimitError) as caught:
            await ask(its.client)
        assert caught.value.metadata["owner"] == "tenants/acme"


async def test_a_limit_for_some_models_is_for_those_alone_and_all_or_nothing(
    upstream: Upstream, state_dir: Path
) -> None:
    tenant = Tenant(
        rate_limits=RateLimits(requests_per_minute=3),
        model_rate_limits=[
            ModelRateLimits(model="test-*", rate_limits=RateLimits(requests_per_minute=1)),
            ModelRateLimits(model="other-*", rate_limits=RateLimits(requests_per_minute=0)),
        ],
    )
    async with limited(state_dir, upstream, tenant) as its:
        await ask(its.client)
        with pytest.raises(RateLimitError) as caught:
            await ask(its.client)
        assert (caught.value.metadata["model"], caught.value.metadata["limit"]) == ("test-*", "1")
        limits = (await its.client.usage.get_limits("tenants/acme")).limits
        [tenants_own] = [limit for limit in limits if not limit.model]
        assert tenants_own.used == 1  # what was refused by one limit took nothing of the other


async def test_what_remains_is_told_after_the_answer(upstream: Upstream, state_dir: Path) -> None:
    tenant = Tenant(rate_limits=RateLimits(requests_per_minute=10, tokens_per_minute=100_000))
    async with limited(state_dir, upstream, tenant) as its:
        chat = its.client.stubs.chat
        for method in (chat.StreamChatCompletion, chat.CreateChatCompletion):
            rpc: Any = method(chat_request(), metadata=its.client.metadata)
            if method is chat.StreamChatCompletion:
                assert [chunk async for chunk in rpc]
            else:
                await rpc
            told = dict(await rpc.trailing_metadata())
            assert told["x-ratelimit-limit-requests"] == "10"
            assert told["x-ratelimit-remaining-requests"] in {"8", "9"}
            assert told["x-ratelimit-limit-tokens"] == "100000"


async def test_a_change_of_a_limit_holds_for_the_next_call(upstream: Upstream, state_dir: Path) -> None:
    async with limited(state_dir, upstream, Tenant()) as its:
        await ask(its.client)
        await its.gateway.client.admin.tenants.update(
            Tenant(name="tenants/acme", rate_limits=RateLimits(requests_per_minute=0)),
            update_mask=["rate_limits.requests_per_minute"],
        )
        with pytest.raises(RateLimitError) as caught:
            await ask(its.client)
        assert caught.value.retry_after is None


async def test_after_a_limit_is_lowered_the_wait_is_at_most_a_minute(
    upstream: Upstream, state_dir: Path, counts: dict[str, Any]
) -> None:
    tenant = Tenant(rate_limits=RateLimits(requests_per_minute=600))
    async with limited(state_dir, upstream, tenant, **counts) as its:
        for _ in range(30):
            await ask(its.client)
        await its.gateway.client.admin.tenants.update(
            Tenant(name="tenants/acme", rate_limits=RateLimits(requests_per_minute=2)),
            update_mask=["rate_limits.requests_per_minute"],
        )
        with pytest.raises(RateLimitError) as caught:
            await ask(its.client)
        assert caught.value.retry_after is not None
        assert 29 < caught.value.retry_after <= 30  # full, and one of two is free in half a minute
        [limit] = (await its.client.usage.get_limits("tenants/acme")).limits
        assert (limit.used, limit.limit) == (2, 2)


async def test_waiting_as_long_as_a_refusal_says_is_enough(
    upstream: Upstream, state_dir: Path, counts: dict[str, Any]
) -> None:
    tenant = Tenant(rate_limits=RateLimits(requests_per_minute=60))
    async with limited(state_dir, upstream, tenant, **counts) as its:
        for _ in range(3):
            with pytest.raises(RateLimitError) as caught:
                while True:
                    await ask(its.client)
            assert caught.value.retry_after is not None
            await asyncio.sleep(caught.value.retry_after)
            await ask(its.client)
