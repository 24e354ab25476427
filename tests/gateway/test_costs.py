"""What a call cost, as its caller sees it, however the call ended: all through the API."""

from __future__ import annotations

from pathlib import Path

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Tenant
from aigateway.v1.usage_pb2 import UsageState
from tests.gateway.callers import CallUnderWay
from tests.support.gateway import client_of, running_gateway
from tests.support.upstream import MODEL, Exchange, Upstream, completion, send_json, talking

INPUT, OUTPUT = 2_500_000_000, 10_000_000_000  # nanos for a million tokens


async def test_each_call_costs_what_it_used_until_it_ended(upstream: Upstream, state_dir: Path) -> None:
    async with running_gateway(state_dir) as gateway:
        admin = gateway.client.admin
        await admin.tenants.create(Tenant(), tenant_id="acme")
        made = await admin.api_keys.create("tenants/acme", ApiKey())
        await admin.providers.create(
            Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="local"
        )
        await admin.models.create(
            "providers/local",
            Model(
                provider_model=MODEL,
                price=Price(input_nanos_per_million=INPUT, output_nanos_per_million=OUTPUT),
            ),
        )
        async with client_of(gateway.address, made.secret) as client:
            answer = await client.chat.create(f"local/{MODEL}", "hello")

            upstream.script = talking("Hello ", "there")
            call = CallUnderWay(client, streams=True)
            await call.read_until("Hello there")
            call.rpc.cancel()
            await gateway.ledger.wait_one(call.end_user_id)

            left, served = [row async for row in client.usage.list_records("tenants/acme")]

        assert (served.usage.input_tokens, served.usage.output_tokens) == (5, 2)
        assert served.usage == answer.usage
        assert served.cost == answer.cost == served.attempts[0].cost
        assert served.cost.total_nanos == 5 * INPUT // 10**6 + 2 * OUTPUT // 10**6 == 32_500
        assert not served.cost.estimated

        assert left.error_reason == "CANCELLED"
        assert left.usage.state == UsageState.USAGE_STATE_PARTIAL
        assert (left.usage.input_tokens, left.usage.output_tokens) == (20, 3)
        assert left.cost.total_nanos == 20 * INPUT // 10**6 + 3 * OUTPUT // 10**6 == 80_000
        assert left.cost.estimated


async def test_calls_are_told_apart_whatever_ids_their_provider_gives(
    upstream: Upstream, state_dir: Path
) -> None:
    """Providers repeat ids, and leave them out; each call has its row all the same, and its cost."""
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url) as gateway:
        for answer_id in ("the-same", "the-same", ""):

            async def answer(exchange: Exchange, answer_id: str = answer_id) -> None:
                await send_json(exchange, completion(id=answer_id))

            upstream.script = answer
            await gateway.client.chat.create(MODEL, "hello")
        records = [row async for row in gateway.client.usage.list_records("tenants/-")]
    assert [record.served_by.provider_response_id for record in records] == ["", "the-same", "the-same"]
    assert len({record.name for record in records}) == 3
    assert all(record.usage.total_tokens == 7 for record in records)
