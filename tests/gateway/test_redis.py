"""A gateway whose limits are in Redis, and what it does while Redis is away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from aigateway.errors import GatewayError, RateLimitError, UnavailableError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import RateLimits, Tenant
from tests.support.gateway import Gateway, client_of, running_gateway
from tests.support.services import SERVICES
from tests.support.upstream import MODEL, Upstream


async def health_of(gateway: Gateway, service: str) -> int:
    stub: Any = HealthStub(gateway.client.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def wait_for_health(gateway: Gateway, status: int) -> None:
    async with asyncio.timeout(10):
        while await health_of(gateway, "aigateway.limits") != status:
            await asyncio.sleep(0.1)


async def test_without_redis_tenants_get_a_share_or_nothing_as_they_want(
    upstream: Upstream, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redis = await asyncio.to_thread(SERVICES.own, "redis")
    url = f"redis://:hunter2@127.0.0.1:{redis.port}"
    await asyncio.to_thread(redis.stop)
    redis.set_password("hunter2")
    await asyncio.to_thread(redis.start)
    response = health_pb2.HealthCheckResponse
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url, redis_url=url) as gateway:
        admin = gateway.client.admin
        limits = RateLimits(requests_per_minute=5)
        secrets = {}
        for tenant_id, policy in (
            ("open", Tenant.LIMITER_FAILURE_POLICY_OPEN),
            ("closed", Tenant.LIMITER_FAILURE_POLICY_CLOSED),
        ):
            tenant = Tenant(rate_limits=limits, limiter_failure_policy=policy)
            await admin.tenants.create(tenant, tenant_id=tenant_id)
            secrets[tenant_id] = (await admin.api_keys.create(f"tenants/{tenant_id}", ApiKey())).secret
        async with (
            client_of(gateway.address, secrets["open"]) as open_client,
            client_of(gateway.address, secrets["closed"]) as closed_client,
        ):
            for client in (open_client, closed_client):
                await client.chat.create(MODEL, "hello")
            assert await health_of(gateway, "aigateway.limits") == response.SERVING

            await asyncio.to_thread(redis.kill)
            with pytest.raises(UnavailableError) as closed:
                await closed_client.chat.create(MODEL, "hello")
            assert closed.value.reason == "LIMITER_UNAVAILABLE"
            assert closed.value.retry_after is not None
            with pytest.raises(RateLimitError) as degraded:
                for _ in range(6):  # the one process there is has the whole limit
                    await open_client.chat.create(MODEL, "hello")
            assert degraded.value.metadata["limiter"] == "local_share"
            await wait_for_health(gateway, response.NOT_SERVING)
            assert await health_of(gateway, "") == response.SERVING

            await asyncio.to_thread(redis.start)
            async with asyncio.timeout(10):
                while True:
                    try:
                        await closed_client.chat.create(MODEL, "hello")
                        break
                    except GatewayError:
                        await asyncio.sleep(0.1)
            await wait_for_health(gateway, response.SERVING)
    assert "hunter2" not in caplog.text
    await asyncio.to_thread(redis.kill)
