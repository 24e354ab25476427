"""Limits of a provider and of a model, which all tenants use up together, as callers meet them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from aigateway import AsyncClient
from aigateway.errors import GatewayError, RateLimitError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import ChatCompletion
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route, RouteTarget
from aigateway.v1.tenant_pb2 import Budget, ModelRateLimits, RateLimits, Tenant
from aigateway.v1.usage_service_pb2 import LimitUsage
from tests.gateway.callers import CallUnderWay
from tests.gateway.test_fault_matrix import refuse
from tests.support.gateway import Gateway, chat_request, client_of, running_gateway
from tests.support.services import SERVICES
from tests.support.upstream import MODEL, Exchange, Upstream, answer_well, talking

PRICE = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=4_000_000_000)


@dataclass
class World:
    """A gateway, tenants by their ids, and two providers of one model each behind a route."""

    gateway: Gateway
    tenants: dict[str, AsyncClient]
    first: str
    second: str

    async def limit_provider(self, which: str, **limits: int) -> None:
        provider = Provider(name=f"providers/{which}", rate_limits=RateLimits(**limits))
        await self.gateway.client.admin.providers.update(provider, update_mask=["rate_limits"])

    async def limit_model(self, which: str, **limits: int) -> None:
        model = Model(name=f"providers/{which}/models/m", rate_limits=RateLimits(**limits))
        await self.gateway.client.admin.models.update(model, update_mask=["rate_limits"])

    async def limit_tenant(self, tenant: str, **limits: int) -> None:
        changed = Tenant(name=f"tenants/{tenant}", rate_limits=RateLimits(**limits))
        await self.gateway.client.admin.tenants.update(changed, update_mask=["rate_limits"])

    async def ask(self, tenant: str, model: str = "") -> ChatCompletion:
        return await self.tenants[tenant].chat.create(model or f"{self.first}/m", "hello")

    async def refusal(self, tenant: str, model: str = "") -> RateLimitError:
        with pytest.raises(RateLimitError) as caught:
            await self.ask(tenant, model)
        return caught.value

    async def limits_of(self, tenant: str, client: AsyncClient | None = None) -> list[LimitUsage]:
        client = client or self.tenants[tenant]
        return list((await client.usage.get_limits(f"tenants/{tenant}")).limits)


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> AsyncIterator[World]:
    settings = {}
    if request.param == "redis":
        redis = await asyncio.to_thread(SERVICES.redis)
        settings["redis_url"] = f"redis://127.0.0.1:{redis.port}"
    one = uuid.uuid4().hex[:8]  # Redis is shared with other tests
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            running_gateway(tmp_path / "state", retry_initial_backoff_ms=1, **settings)
        )
        admin = gateway.client.admin
        names = [f"first-{one}", f"second-{one}"]
        for name in names:
            provider = Provider(provider_type="vllm", base_url=upstream.base_url)
            await admin.providers.create(provider, provider_id=name)
            model = Model(provider_model=name, price=PRICE)
            await admin.models.create(f"providers/{name}", model, model_id="m")
        targets = [RouteTarget(model=f"providers/{name}/models/m") for name in names]
        await admin.routes.create(Route(targets=targets), route_id="both")
        tenants = {}
        for tenant in ("red", "blue"):
            tenant_id = f"{tenant}-{one}"
            await admin.tenants.create(Tenant(), tenant_id=tenant_id)
            made = await admin.api_keys.create(f"tenants/{tenant_id}", ApiKey())
            tenants[tenant_id] = await stack.enter_async_context(client_of(gateway.address, made.secret))
        yield World(gateway, tenants, *names)


async def test_tenants_share_what_a_provider_and_a_model_may_do(world: World) -> None:
    red, blue = world.tenants
    await world.limit_provider(world.first, requests_per_minute=3)
    for tenant in (red, blue, red):
        await world.ask(tenant)
    for tenant in (red, blue):
        error = await world.refusal(tenant)
        assert error.metadata == {
            "owner": f"providers/{world.first}",
            "kind": "REQUESTS_PER_MINUTE",
            "limit": "3",
        }
        assert error.retry_after is not None
        assert 15 < error.retry_after <= 20
    await world.limit_model(world.second, tokens_per_minute=300)
    with pytest.raises(RateLimitError) as caught:
        for _ in range(60):  # each is put right to the 7 tokens that it took
            await world.ask(blue, f"{world.second}/m")
    assert caught.value.metadata["owner"] == f"providers/{world.second}/models/m"
    assert caught.value.metadata["kind"] == "TOKENS_PER_MINUTE"
    await world.refusal(red, f"{world.second}/m")


async def test_what_others_use_is_told_to_no_tenant(world: World) -> None:
    red, blue = world.tenants
    await world.limit_provider(world.first, requests_per_minute=100, tokens_per_minute=100_000)
    await world.limit_tenant(red, requests_per_minute=50)
    await world.ask(blue)
    own = {f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")}
    for tenant, expected in ((red, own), (blue, set[str]())):
        client = world.tenants[tenant]
        rpc: Any = client.stubs.chat.CreateChatCompletion(
            chat_request(model=f"{world.first}/m"), metadata=client.metadata
        )
        await rpc
        told = {key for key, _ in await rpc.trailing_metadata() if key.startswith("x-ratelimit-")}
        assert told == expected
    for client in (world.tenants[red], world.gateway.client):
        assert {each.owner for each in await world.limits_of(red, client)} == {f"tenants/{red}"}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_left_is_told_once_whichever_targets_were_tried_and_however_it_ends(
    world: World, upstream: Upstream, streams: bool, fails: bool
) -> None:
    red, _ = world.tenants
    tenant = Tenant(
        name=f"tenants/{red}",
        rate_limits=RateLimits(requests_per_minute=600, tokens_per_minute=100_000),
        model_rate_limits=[
            ModelRateLimits(model=f"{world.second}/m", rate_limits=RateLimits(requests_per_minute=5))
        ],
    )
    await world.gateway.client.admin.tenants.update(tenant, update_mask=["rate_limits", "model_rate_limits"])

    async def fail_first(exchange: Exchange) -> None:
        await (refuse(500) if fails or exchange.json["model"] == world.first else answer_well)(exchange)

    upstream.script = fail_first
    chat = world.tenants[red].stubs.chat
    method = chat.StreamChatCompletion if streams else chat.CreateChatCompletion
    call: Any = method(chat_request(model="both"), metadata=world.tenants[red].metadata)
    with suppress(grpc.aio.AioRpcError):
        if streams:
            assert [chunk async for chunk in call]
        else:
            await call
    assert await call.code() == (grpc.StatusCode.UNAVAILABLE if fails else grpc.StatusCode.OK)
    told = [pair for pair in await call.trailing_metadata() if pair[0].startswith("x-ratelimit-")]
    assert sorted(key for key, _ in told) == [
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ]
    left = dict(told)
    assert (left["x-ratelimit-limit-requests"], left["x-ratelimit-remaining-requests"]) == ("5", "4")
    assert left["x-ratelimit-limit-tokens"] == "100000"


async def test_a_call_that_a_full_target_refuses_goes_on_to_another(world: World, upstream: Upstream) -> None:
    red, blue = world.tenants
    await world.limit_provider(world.first, requests_per_minute=1)
    await world.limit_tenant(red, requests_per_minute=4)
    served = []
    for _ in range(2):
        answer = await world.ask(red, "both")
        assert len(answer.attempts) == 1
        served.append(answer.served_by.provider.partition("/")[2])
    async with world.tenants[red].chat.stream("both", "hello") as stream:
        served.append((await stream.final_completion()).served_by.provider.partition("/")[2])
    assert served == [world.first, world.second, world.second]
    [requests] = await world.limits_of(red)
    assert requests.used == 3  # one for each call, not for each target
    await world.limit_model(world.second, requests_per_minute=3)  # of which one is used, or two
    asked = len(upstream.exchanges)
    for _ in range(4):
        await outcome_of(world.ask(blue, "both"))
    assert 1 <= len(upstream.exchanges) - asked <= 3
    error = await world.refusal(red, "both")
    assert error.metadata["owner"] == f"providers/{world.second}/models/m", "it is free again first"
    assert error.retry_after is not None
    assert error.retry_after <= 20
    await world.refusal(red, "both")
    [requests] = await world.limits_of(red)
    assert requests.used == 3  # what was refused by targets took nothing of the tenant


async def outcome_of(call: Awaitable[object]) -> GatewayError | None:
    try:
        await call
    except GatewayError as error:
        return error
    return None


async def test_a_place_is_free_when_a_call_ends_and_when_it_goes_on(world: World, upstream: Upstream) -> None:
    red, blue = world.tenants
    await world.limit_model(world.first, max_concurrent_requests=1)

    async def fail_first(exchange: Exchange) -> None:
        if exchange.json["model"] == world.first:
            await refuse(500)(exchange)
        else:
            await talking("Hello ")(exchange)

    upstream.script = fail_first
    stream = world.tenants[red].chat.stream("both", "hello")
    async with stream:
        assert await anext(aiter(stream.text_stream)) == "Hello "
        upstream.script = answer_well
        await free_again(lambda: world.ask(blue))  # although the other call is under way elsewhere
    upstream.script = talking("Hello ")
    call = CallUnderWay(world.tenants[red], streams=True, model=f"{world.first}/m")
    await call.read_until("Hello ")
    error = await world.refusal(blue)
    assert (error.metadata["kind"], error.retry_after) == ("CONCURRENT_REQUESTS", None)
    call.rpc.cancel()
    await world.gateway.ledger.wait_one(call.end_user_id)
    upstream.script = answer_well
    await free_again(lambda: world.ask(blue))


async def free_again(ask: Callable[[], Awaitable[object]]) -> None:
    """Redis hears of the end of a call a few milliseconds later."""
    async with asyncio.timeout(1):
        while await outcome_of(ask()) is not None:
            await asyncio.sleep(0.01)


async def test_a_target_is_left_with_as_many_requests_as_it_got(world: World) -> None:
    red, blue = world.tenants
    await world.limit_provider(world.first, requests_per_minute=2)
    budget = Budget(daily_nanos=1)
    await world.gateway.client.admin.tenants.update(
        Tenant(name=f"tenants/{red}", budget=budget), update_mask=["budget"]
    )
    for _ in range(5):  # nothing of them reaches the provider
        with pytest.raises(GatewayError) as caught:
            await world.ask(red)
        assert caught.value.reason == "BUDGET_EXCEEDED"
    await world.tenants[blue].chat.count_tokens(f"{world.first}/m", "hello")
    await free_again(lambda: world.ask(blue))
    await free_again(lambda: world.ask(blue))
    assert (await world.refusal(blue)).metadata["owner"] == f"providers/{world.first}"
    counted = await world.tenants[blue].chat.count_tokens(f"{world.first}/m", "hello")
    assert counted.estimated, "a full provider is not asked for it"
    await world.limit_tenant(red, requests_per_minute=4)
    assert (await world.refusal(red, "both")).metadata["owner"] == f"providers/{world.first}"
    async with asyncio.timeout(1):  # the other was too dear: nobody was asked, and nothing is used up
        while (await world.limits_of(red))[0].used:
            await asyncio.sleep(0.01)


async def test_changes_hold_for_the_next_call(world: World) -> None:
    red, _ = world.tenants
    await world.ask(red)
    await world.limit_provider(world.first, requests_per_minute=0)
    assert (await world.refusal(red)).retry_after is None
    await world.limit_provider(world.first)
    await world.ask(red)
    await world.limit_model(world.first, max_concurrent_requests=0)
    assert (await world.refusal(red)).metadata["owner"] == f"providers/{world.first}/models/m"
    await world.limit_model(world.first)
    await world.ask(red)


async def test_a_retry_is_a_request_too(upstream: Upstream, state_dir: Path) -> None:
    async with running_gateway(
        state_dir, vllm_base_url=upstream.base_url, retry_max_attempts=3, retry_initial_backoff_ms=1
    ) as gateway:
        admin = gateway.client.admin
        await admin.providers.update(
            Provider(name="providers/vllm", rate_limits=RateLimits(requests_per_minute=5)),
            update_mask=["rate_limits"],
        )
        upstream.script = refuse(503)
        with pytest.raises(GatewayError):
            await gateway.client.chat.create(MODEL, "hello")
        tried = len(upstream.exchanges)
        assert tried == 3
        upstream.script = answer_well
        for _ in range(5 - tried):
            await gateway.client.chat.create(MODEL, "hello")
        with pytest.raises(RateLimitError):
            await gateway.client.chat.create(MODEL, "hello")
