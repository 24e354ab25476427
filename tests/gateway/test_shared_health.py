"""Two gateways on one store and one Redis: what one finds of a provider, the other knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aigateway import errors
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.routing_pb2 import BreakerState, TargetState
from tests.gateway.test_fault_matrix import refuse
from tests.support.gateway import Gateway, running_gateway
from tests.support.services import SERVICES, Service
from tests.support.stores import migrated_database
from tests.support.upstream import MODEL, Upstream, answer_well

PEPPER = "1:" + "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="
NAME = f"local/{MODEL}"


@pytest.fixture
async def redis() -> AsyncIterator[Service]:
    service = await asyncio.to_thread(SERVICES.own, "redis")
    yield service
    await asyncio.to_thread(service.kill)


@pytest.fixture
async def gateways(
    tmp_path: Path, upstream: Upstream, redis: Service
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    async with migrated_database("sqlite", tmp_path) as url:
        settings: dict[str, Any] = {
            "database_url": url,
            "key_pepper": PEPPER,
            "redis_url": f"redis://127.0.0.1:{redis.port}",
            "target_breaker": True,
        }
        async with (
            running_gateway(tmp_path / "one", **settings) as one,
            running_gateway(tmp_path / "two", **settings) as two,
        ):
            admin = one.client.admin
            await admin.providers.create(
                Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="local"
            )
            await admin.models.create("providers/local", Model(provider_model=MODEL))
            await until(lambda: is_known(two), 5)
            yield one, two


async def is_known(gateway: Gateway) -> bool:
    try:
        await gateway.client.chat.explain_route(NAME, "hello")
    except errors.GatewayError:
        return False
    return True


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.02)


async def state_of(gateway: Gateway) -> TargetState:
    states = await gateway.client.admin.routes.list_target_states()
    return next((each for each in states if each.model == f"providers/local/models/{MODEL}"), TargetState())


async def is_left_alone(gateway: Gateway) -> bool:
    return bool((await state_of(gateway)).cooldown_reason)


async def reason_of(gateway: Gateway, **fields: Any) -> tuple[str, str]:
    """Why a call fails, and by what; nothing when it is served."""
    try:
        await gateway.client.chat.create(NAME, "hello", **fields)
    except errors.GatewayError as error:
        return error.reason, error.metadata.get("cause", "")
    return "", ""


async def open_breaker(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = refuse(503)
    for _ in range(5):
        assert (await reason_of(gateway))[0] == "UPSTREAM_UNAVAILABLE"
    assert await is_left_alone(gateway)


async def test_a_breaker_that_opens_at_one_keeps_the_other_from_calling(
    gateways: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    one, two = gateways
    assert await reason_of(two) == ("", "")
    await open_breaker(one, upstream)
    began = time.monotonic()
    await until(lambda: is_left_alone(two), 1)
    sent = len(upstream.exchanges)
    assert await reason_of(two) == ("UPSTREAM_UNAVAILABLE", "cooling_down")
    assert len(upstream.exchanges) == sent, "nothing was sent"
    state = await state_of(two)
    assert state.breaker_state == BreakerState.BREAKER_STATE_OPEN
    assert state.cooldown_reason == "BREAKER_OPEN"
    upstream.script = answer_well

    async def serves() -> bool:
        return await reason_of(two) == ("", "")

    await until(serves, 4)
    assert time.monotonic() - began < 3.5, "it finds out for itself after two seconds"


async def test_a_wait_that_a_provider_told_one_is_kept_by_the_other(
    gateways: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    one, two = gateways
    upstream.script = refuse(429, headers={"retry-after": "120"})
    assert (await reason_of(one))[0] == "UPSTREAM_RATE_LIMITED"
    await until(lambda: is_left_alone(two), 1)
    sent = len(upstream.exchanges)
    with pytest.raises(errors.GatewayError) as caught:
        await two.client.chat.create(NAME, "hello", timeout=5)
    assert caught.value.reason == "UPSTREAM_RATE_LIMITED"
    assert caught.value.retry_after == pytest.approx(119, abs=2)
    assert len(upstream.exchanges) == sent
    # Another credential may have other limits: what is known of the provider as it was is void for both.
    upstream.script = answer_well
    provider = Provider(name="providers/local", display_name="With another key")
    await one.client.admin.providers.update(provider, update_mask=["display_name"])
    for gateway in gateways:

        async def is_free(gateway: Gateway = gateway) -> bool:
            return not await is_left_alone(gateway)

        await until(is_free, 3)
        assert await reason_of(gateway) == ("", "")
    await asyncio.sleep(0.6)
    assert not await is_left_alone(one)


async def test_what_may_be_of_one_process_alone_is_not_shared(
    gateways: tuple[Gateway, Gateway], upstream: Upstream
) -> None:
    one, two = gateways
    upstream.script = refuse(401)
    assert (await reason_of(one))[0] == "UPSTREAM_CREDENTIAL_REJECTED"
    assert await is_left_alone(one)
    await asyncio.sleep(0.7)
    assert not await is_left_alone(two)


async def test_no_call_waits_for_redis_and_sharing_comes_back_with_it(
    gateways: tuple[Gateway, Gateway], upstream: Upstream, redis: Service
) -> None:
    one, two = gateways
    for how, back in ((redis.pause, redis.resume), (redis.kill, redis.start)):
        assert await reason_of(two) == ("", "")
        await asyncio.to_thread(how)
        await asyncio.sleep(0.3)
        upstream.script = refuse(429, headers={"retry-after": "4"})
        began = time.monotonic()
        assert (await reason_of(one))[0] == "UPSTREAM_RATE_LIMITED"
        assert time.monotonic() - began < 0.3
        await asyncio.sleep(0.7)
        assert not await is_left_alone(two), "each is on its own"
        upstream.script = answer_well
        assert await reason_of(two) == ("", "")
        await asyncio.to_thread(back)
        await until(lambda: is_left_alone(two), 3)  # told again by who knows

        async def is_free() -> bool:
            return not await is_left_alone(one) and not await is_left_alone(two)

        await until(is_free, 6)
