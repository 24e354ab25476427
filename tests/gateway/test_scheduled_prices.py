"""A price that changes while the gateway serves: a call costs what its model cost when it began."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from tests.support.gateway import running_gateway
from tests.support.upstream import MODEL, Exchange, answer_well, running_upstream


async def test_a_call_costs_what_its_model_cost_when_it_began(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def wait_then_answer(exchange: Exchange) -> None:
        await release.wait()
        await answer_well(exchange)

    async with running_upstream() as upstream, running_gateway(tmp_path / "state") as gateway:
        admin, chat = gateway.client.admin, gateway.client.chat
        await admin.providers.create(
            Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="p"
        )
        later = Price(input_nanos_per_million=100_000_000)
        later.effective_time.FromNanoseconds(round((time.time() + 1.5) * 1e9))
        model = Model(
            provider_model=MODEL,
            price=Price(input_nanos_per_million=1_000_000),
            scheduled_prices=[later],
        )
        await admin.models.create("providers/p", model, model_id="m")
        assert (await chat.create("p/m", "hello")).cost.total_nanos == 5  # five tokens
        upstream.script = wait_then_answer
        slow = asyncio.create_task(chat.create("p/m", "hello"))
        while len(upstream.exchanges) < 2:
            await asyncio.sleep(0.01)
        upstream.script = answer_well
        async with asyncio.timeout(10):
            while (await chat.create("p/m", "hello")).cost.total_nanos == 5:
                await asyncio.sleep(0.05)
        assert time.time() >= later.effective_time.ToNanoseconds() / 1e9
        assert (await chat.create("p/m", "hello")).cost.total_nanos == 500
        release.set()
        assert (await slow).cost.total_nanos == 5
