"""Whatever callers and providers write into the texts of a record, the call is recorded and paid for."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from aigateway.errors import GatewayError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Budget, Tenant
from tests.support.gateway import client_of, running_gateway
from tests.support.stores import BACKENDS, migrated_database
from tests.support.upstream import MODEL, Exchange, completion, running_upstream, send_json

PRICE = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=4_000_000_000)
#: What each answer of the upstream costs: 5 tokens in, 2 out.
COST = 5 * 1_000 + 2 * 4_000


@pytest.mark.parametrize("backend", BACKENDS)
async def test_no_text_keeps_a_call_out_of_the_ledger(backend: str, tmp_path: Path) -> None:
    async with migrated_database(backend, tmp_path) as url, running_upstream() as upstream:
        settings = {"database_url": url, "key_pepper": "1:" + "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="}
        async with running_gateway(tmp_path / "state", **settings) as gateway:
            admin = gateway.client.admin
            await admin.tenants.create(Tenant(budget=Budget(daily_nanos=10**9)), tenant_id="acme")
            await admin.providers.create(
                Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="local"
            )
            await admin.models.create("providers/local", Model(provider_model=MODEL, price=PRICE))
            made = await admin.api_keys.create("tenants/acme", ApiKey())

            async def serve(exchange: Exchange) -> None:
                await send_json(exchange, completion(id="chat\0id", model="m\0id"))

            async with client_of(gateway.address, made.secret) as client:

                async def ask(model: str = f"local/{MODEL}", **fields: Any) -> None:
                    await client.chat.create(model, "hello", max_output_tokens=10, **fields)

                await ask(end_user_id="a\0b")
                await ask(labels={"l": "a\0b"})
                with contextlib.suppress(GatewayError):
                    await ask("nope\0x")
                upstream.script = serve
                await ask()
                records = [record async for record in client.usage.list_records("tenants/acme")]
                answered, refused, valued, used = records
                assert used.end_user_id == "a\ufffdb"
                assert dict(valued.labels) == {"l": "a\ufffdb"}
                assert refused.model == "nope\ufffdx"
                assert answered.served_by.provider_response_id == "chat\ufffdid"
                assert answered.served_by.provider_model == "m\ufffdid"
                assert [record.cost.total_nanos for record in records] == [COST, 0, COST, COST]
                while (day := (await client.usage.get_limits("tenants/acme")).limits[0]).held:
                    await asyncio.sleep(0.02)
                assert day.used == 3 * COST
