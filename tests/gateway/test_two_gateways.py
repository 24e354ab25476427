"""Two gateways on one store: what one is told, the other does within seconds, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aigateway import AsyncClient
from aigateway.errors import GatewayError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Budget, RateLimits, Tenant
from tests.support.gateway import client_of, running_gateway
from tests.support.stores import BACKENDS, migrated_database
from tests.support.upstream import MODEL, running_upstream

PRICE = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=4_000_000_000)


async def refusal_of(client: AsyncClient) -> str:
    """Why a call is refused; empty when it is served."""
    try:
        await client.chat.create(f"local/{MODEL}", "hello", max_output_tokens=10)
    except GatewayError as error:
        return error.reason
    return ""


async def within_five_seconds(client: AsyncClient, reason: str) -> None:
    async with asyncio.timeout(5):
        while await refusal_of(client) != reason:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_change_at_one_is_in_effect_at_the_other(backend: str, tmp_path: Path) -> None:
    async with migrated_database(backend, tmp_path) as url, running_upstream() as upstream:
        settings = {"database_url": url, "key_pepper": "1:" + "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="}
        async with (
            running_gateway(tmp_path / "one", **settings) as one,
            running_gateway(tmp_path / "two", **settings) as two,
        ):
            admin = one.client.admin
            tenant = await admin.tenants.create(Tenant(), tenant_id="acme")
            await admin.providers.create(
                Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="local"
            )
            await admin.models.create("providers/local", Model(provider_model=MODEL, price=PRICE))
            made = await admin.api_keys.create("tenants/acme", ApiKey())
            key = made.api_key

            async def set_tenant(mask: str, **fields: object) -> None:
                await admin.tenants.update(Tenant(name=tenant.name, **fields), update_mask=[mask])  # type: ignore[arg-type]

            async def set_key(mask: str, **fields: object) -> None:
                await admin.api_keys.update(ApiKey(name=key.name, **fields), update_mask=[mask])  # type: ignore[arg-type]

            async def set_provider(**fields: object) -> None:
                provider = Provider(name="providers/local", **fields)  # type: ignore[arg-type]
                await admin.providers.update(provider, update_mask=["rate_limits"])

            async def set_model(**fields: object) -> None:
                model = Model(name=f"providers/local/models/{MODEL}", **fields)  # type: ignore[arg-type]
                await admin.models.update(model, update_mask=["rate_limits"])

            async with (
                client_of(one.address, made.secret) as here,
                client_of(two.address, made.secret) as there,
            ):
                nothing = RateLimits(requests_per_minute=0)
                steps: list[tuple[Callable[[], Awaitable[object]], str]] = [
                    (lambda: set_tenant("allowed_models", allowed_models=["else"]), "MODEL_NOT_FOUND"),
                    (lambda: set_tenant("allowed_models"), ""),
                    (lambda: set_tenant("budget", budget=Budget(daily_nanos=1)), "BUDGET_EXCEEDED"),
                    (lambda: set_tenant("budget"), ""),
                    (
                        lambda: set_key("rate_limits_override", rate_limits_override=nothing),
                        "RATE_LIMIT_EXCEEDED",
                    ),
                    (lambda: set_key("rate_limits_override"), ""),
                    (lambda: set_provider(rate_limits=nothing), "RATE_LIMIT_EXCEEDED"),
                    (set_provider, ""),
                    (lambda: set_model(rate_limits=nothing), "RATE_LIMIT_EXCEEDED"),
                    (set_model, ""),
                    (lambda: set_tenant("state", state=Tenant.STATE_SUSPENDED), "TENANT_SUSPENDED"),
                    (lambda: set_tenant("state", state=Tenant.STATE_ACTIVE), ""),
                    (lambda: admin.api_keys.revoke(key.name), "API_KEY_INVALID"),
                ]
                await within_five_seconds(there, "")
                for change, reason in steps:
                    await change()
                    assert await refusal_of(here) == reason  # at once where it was changed
                    await within_five_seconds(there, reason)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_two_gateways_spend_one_budget(backend: str, tmp_path: Path) -> None:
    async with migrated_database(backend, tmp_path) as url, running_upstream() as upstream:
        settings = {"database_url": url, "key_pepper": "1:" + "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="}
        async with (
            running_gateway(tmp_path / "one", **settings) as one,
            running_gateway(tmp_path / "two", **settings) as two,
        ):
            admin = one.client.admin
            await admin.tenants.create(Tenant(budget=Budget(daily_nanos=520_000)), tenant_id="acme")
            await admin.providers.create(
                Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="local"
            )
            await admin.models.create("providers/local", Model(provider_model=MODEL, price=PRICE))
            made = await admin.api_keys.create("tenants/acme", ApiKey())
            async with client_of(one.address, made.secret) as a, client_of(two.address, made.secret) as b:
                await within_five_seconds(b, "")
                served = 1
                for turn in range(60):  # one at a time: nothing else is in flight
                    if await refusal_of((a, b)[turn % 2]):
                        break
                    served += 1
                else:
                    pytest.fail("the budget has no end")
            # Each costs 13,000; the last that was refused needed more than what was left.
            least = 110 * 1_000 + 1 * 4_000
            assert 520_000 - least - 13_000 < served * 13_000 <= 520_000
