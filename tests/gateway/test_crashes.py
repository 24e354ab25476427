"""A gateway that is killed: what its provider served is in ledger and budgets after the next start."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from aigateway import AsyncClient
from aigateway.errors import GatewayError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Budget, Tenant
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.storage.engine import open_store
from gateway_server.storage.tables import budget_leases, budget_windows
from tests.chaos.provider import INPUT_NANOS, OUTPUT_NANOS, Books, Plan
from tests.support.gateway import client_of, gateway_process
from tests.support.stores import BACKENDS, migrated_database
from tests.support.upstream import MODEL, running_upstream

PRICE = Price(
    input_nanos_per_million=INPUT_NANOS * 1_000_000, output_nanos_per_million=OUTPUT_NANOS * 1_000_000
)


async def set_up(admin: AsyncClient, base_url: str, budget: Budget) -> str:
    """A tenant with a budget and a model with a price; the secret of a key."""
    await admin.admin.tenants.create(Tenant(budget=budget), tenant_id="acme")
    await admin.admin.providers.create(Provider(provider_type="vllm", base_url=base_url), provider_id="local")
    await admin.admin.models.create("providers/local", Model(provider_model=MODEL, price=PRICE))
    return (await admin.admin.api_keys.create("tenants/acme", ApiKey())).secret


async def call_until_dead(
    client: AsyncClient, numbers: count[int], draw: random.Random, told: dict[str, str]
) -> None:
    """One call after another, whole and streamed, until nobody answers."""
    while True:
        plan = Plan(
            f"call-{next(numbers)}", draw.randint(1, 40), draw.randint(1, 20), pause=draw.choice([0, 0.02])
        )
        options: dict[str, Any] = {"max_output_tokens": 50, "end_user_id": plan.call_id}
        try:
            if draw.random() < 0.5:
                async with client.chat.stream(f"local/{MODEL}", plan.prompt, **options) as stream:
                    async for _ in stream:
                        pass
            else:
                await client.chat.create(f"local/{MODEL}", plan.prompt, **options)
        except GatewayError as error:
            if not error.reason:
                return
            told[plan.call_id] = error.reason
        else:
            told[plan.call_id] = "OK"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_ledger_and_budget_agree_with_the_provider_after_kills(backend: str, tmp_path: Path) -> None:
    draw, numbers, books = random.Random(1), count(), Books()
    told: dict[str, str] = {}
    async with migrated_database(backend, tmp_path) as url, running_upstream() as upstream:
        upstream.script = books.serve
        settings: dict[str, Any] = {"database_url": url, "max_concurrent_calls": 1000}
        secret = ""
        for _ in range(3):
            async with gateway_process(tmp_path / "state", **settings) as process:
                assert await process.ready(), process.log
                if not secret:
                    async with client_of(process.address) as admin:
                        secret = await set_up(admin, upstream.base_url, Budget(daily_nanos=10**12))
                async with client_of(process.address, secret) as client:
                    callers = [
                        asyncio.create_task(call_until_dead(client, numbers, draw, told)) for _ in range(12)
                    ]
                    await asyncio.sleep(draw.uniform(0.4, 0.9))
                    process.process.kill()
                    await asyncio.gather(*callers)
        async with gateway_process(tmp_path / "state", **settings) as process:
            assert await process.ready(), process.log
            assert "settled" in process.log
            async with client_of(process.address, secret) as client:
                records = {r.end_user_id: r async for r in client.usage.list_records("tenants/acme")}
            process.terminate()
            assert await process.exit_code() == 0
        assert list((tmp_path / "state" / "journal").iterdir()) == []

        assert len(books.served) > 15
        assert all(
            records[call_id].error_reason == ("" if how == "OK" else how) for call_id, how in told.items()
        )
        interrupted = 0
        for call_id, served in books.served.items():
            record = records[call_id]
            if record.usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED:
                assert record.cost.total_nanos == served.nanos
            else:
                assert record.error_reason in {"INTERRUPTED", "UPSTREAM_PROTOCOL_ERROR"}
                assert record.cost.estimated
                assert record.cost.total_nanos >= served.nanos
                interrupted += 1
        assert interrupted >= 1

        store = open_store(url)
        async with store.read() as connection:
            [window] = (await connection.execute(select(budget_windows))).all()
            assert (await connection.execute(select(budget_leases))).all() == []
        await store.close()
        assert window.leased_nanos == 0
        assert window.spent_nanos == sum(record.cost.total_nanos for record in records.values())
