"""What happens to calls under way when their key must not be used any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aigateway.errors import GatewayError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import Tenant
from tests.gateway.callers import CallUnderWay
from tests.support.gateway import client_of, running_gateway
from tests.support.upstream import MODEL, STOP, Exchange, Upstream, talking, text_chunk, usage_chunk
from tests.support.wire import to_sse


@pytest.mark.parametrize(
    ("how", "reason"), [("revoked", "API_KEY_INVALID"), ("suspended", "TENANT_SUSPENDED")]
)
async def test_a_call_under_way_goes_on_and_new_ones_are_refused(
    upstream: Upstream, state_dir: Path, how: str, reason: str
) -> None:
    going_on = asyncio.Event()

    async def rest(exchange: Exchange) -> None:
        await going_on.wait()
        await exchange.send(to_sse([text_chunk("world"), STOP, usage_chunk()]))
        await exchange.finish()

    async with running_gateway(state_dir, vllm_base_url=upstream.base_url) as gateway:
        admin = gateway.client.admin
        await admin.tenants.create(Tenant(), tenant_id="acme")
        made = await admin.api_keys.create("tenants/acme", ApiKey())
        async with client_of(gateway.address, made.secret) as client:
            upstream.script = talking("Hello ", then=rest)
            call = CallUnderWay(client, streams=True)
            await call.read_until("Hello ")
            if how == "revoked":
                await admin.api_keys.revoke(made.api_key.name)
            else:
                suspended = Tenant(name="tenants/acme", state=Tenant.State.STATE_SUSPENDED)
                await admin.tenants.update(suspended, update_mask=["state"])
            with pytest.raises(GatewayError) as caught:
                await client.chat.create(MODEL, "hello")
            assert caught.value.reason == reason
            going_on.set()
            answer = await call.read_to_end()
            assert answer.choices[0].message.parts[0].text.text == "Hello world"
