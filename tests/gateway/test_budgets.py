"""Budgets as callers meet them: never overspent, never blocked by money that nobody spends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from aigateway import AsyncClient
from aigateway.errors import BudgetExceededError, GatewayError
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import RetryPolicy, Route, RouteTarget
from aigateway.v1.routing_pb2 import GatewayOptions
from aigateway.v1.tenant_pb2 import Budget, Tenant
from aigateway.v1.usage_service_pb2 import LimitKind, LimitUsage
from tests.gateway.callers import CallUnderWay
from tests.support.gateway import Gateway, client_of, running_gateway
from tests.support.upstream import (
    MODEL,
    Exchange,
    Script,
    Upstream,
    answer_well,
    completion,
    send_json,
    silent,
    talking,
)

PRICE = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=4_000_000_000)
#: What each answer of the upstream costs: 5 tokens in, 2 out.
COST = 5 * 1_000 + 2 * 4_000


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A gateway with one tenant, whose model has a price, and a client of it."""

    gateway: Gateway
    client: AsyncClient

    async def ask(self, *, max_output_tokens: int = 10, model: str = MODEL) -> int:
        """One call; what it cost."""
        answer = await self.client.chat.create(f"local/{model}", "hello", max_output_tokens=max_output_tokens)
        return answer.cost.total_nanos

    async def limits(self) -> list[LimitUsage]:
        """All limits of the tenant."""
        return list((await self.client.usage.get_limits("tenants/acme")).limits)

    async def day(self) -> LimitUsage:
        """The tenant's day."""
        [day] = [
            limit
            for limit in await self.limits()
            if limit.kind == LimitKind.LIMIT_KIND_DAILY_BUDGET and limit.owner == "tenants/acme"
        ]
        return day


@asynccontextmanager
async def budgeted(
    state_dir: Path, upstream: Upstream, budget: Budget, *, key: ApiKey | None = None, **settings: Any
) -> AsyncIterator[Budgeted]:
    async with running_gateway(state_dir, **settings) as gateway:
        admin = gateway.client.admin
        await admin.tenants.create(Tenant(budget=budget), tenant_id="acme")
        made = await admin.api_keys.create("tenants/acme", key or ApiKey())
        await admin.providers.create(
            Provider(provider_type="vllm", base_url=upstream.base_url), provider_id="local"
        )
        await admin.models.create("providers/local", Model(provider_model=MODEL, price=PRICE))
        await admin.models.create("providers/local", Model(provider_model="free"))
        async with client_of(gateway.address, made.secret) as client:
            yield Budgeted(gateway, client)


async def test_parallel_calls_at_the_cap_never_overspend_it(upstream: Upstream, state_dir: Path) -> None:
    limit = 20 * COST
    async with budgeted(state_dir, upstream, Budget(daily_nanos=limit)) as its:
        outcomes = await asyncio.gather(*(its.ask() for _ in range(100)), return_exceptions=True)
        served = [each for each in outcomes if isinstance(each, int)]
        refused = [each for each in outcomes if isinstance(each, BudgetExceededError)]
        assert len(served) + len(refused) == 100
        assert served
        assert sum(served) <= limit
        assert len(upstream.exchanges) == len(served)
        while (day := await its.day()).held:
            await asyncio.sleep(0.02)
        assert day.used == sum(served)


async def test_what_is_refused_could_not_have_been_paid(upstream: Upstream, state_dir: Path) -> None:
    async with budgeted(state_dir, upstream, Budget(daily_nanos=50 * COST)) as its:
        spent = 0
        with pytest.raises(BudgetExceededError) as caught:
            while True:
                spent += await its.ask()
        told = caught.value.metadata
        assert (told["owner"], told["kind"]) == ("tenants/acme", "DAILY_BUDGET")
        assert int(told["limit_nanos"]) - int(told["remaining_nanos"]) == spent
        assert int(told["needed_nanos"]) > int(told["remaining_nanos"])
        assert told["reset_time"].endswith("T00:00:00Z")


async def test_the_output_is_limited_to_what_is_left(upstream: Upstream, state_dir: Path) -> None:
    async with budgeted(state_dir, upstream, Budget(daily_nanos=1_000_000)) as its:
        await its.ask(max_output_tokens=100_000)
        [exchange] = upstream.exchanges
        [limit] = [
            exchange.json[name] for name in ("max_completion_tokens", "max_tokens") if name in exchange.json
        ]
        assert 100 < limit < 250
        assert limit * 4_000 < 1_000_000


async def test_calls_that_end_badly_hold_nothing_for_long(upstream: Upstream, state_dir: Path) -> None:
    async with budgeted(state_dir, upstream, Budget(daily_nanos=10**9)) as its:

        async def fail(exchange: Exchange) -> None:
            await send_json(exchange, {"error": {"message": "no"}}, status=500)

        for script in (fail, silent, talking("Hello ")):
            upstream.script = script
            call = CallUnderWay(its.client, streams=True)
            if script is not fail:
                await upstream.next()
                assert (await its.day()).held > 0
                call.rpc.cancel()
            await its.gateway.ledger.wait_one(call.end_user_id)
            upstream.reset()
        while (day := await its.day()).held:
            await asyncio.sleep(0.02)
        records = [record async for record in its.client.usage.list_records("tenants/acme")]
        assert day.used == sum(record.cost.total_nanos for record in records) > 0


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("script", "timeout", "settings", "reason"),
    [
        (silent, 2, {}, "DEADLINE_EXCEEDED"),
        (talking("Hello "), 2, {}, "DEADLINE_EXCEEDED"),
        (silent, 30, {"upstream_first_byte_seconds": 2}, "UPSTREAM_TIMEOUT"),
        (talking("Hello "), 30, {"upstream_idle_seconds": 2}, "UPSTREAM_TIMEOUT"),
    ],
    ids=["deadline", "deadline in the answer", "provider's first byte", "provider's silence"],
)
async def test_a_call_that_is_given_up_holds_nothing_for_long(
    upstream: Upstream,
    state_dir: Path,
    script: Script,
    timeout: int,
    settings: dict[str, Any],
    reason: str,
    streams: bool,
) -> None:
    async with budgeted(
        state_dir, upstream, Budget(daily_nanos=10**9), retry_max_attempts=1, **settings
    ) as its:
        upstream.script = script
        options = GatewayOptions(timeout=Duration(seconds=timeout))
        call = CallUnderWay(its.client, streams=streams, gateway_options=options)
        await upstream.next()
        assert (await its.day()).held > 0
        if streams:
            with pytest.raises(grpc.aio.AioRpcError):
                await call.read_to_end()
        row = await its.gateway.ledger.wait_one(call.end_user_id)
        assert row.error_reason == reason
        async with asyncio.timeout(10):
            while (day := await its.day()).held:
                await asyncio.sleep(0.02)
        assert day.used == row.cost.total_nanos > 0


async def test_each_attempt_of_a_call_holds_and_settles_its_own_money(
    upstream: Upstream, state_dir: Path
) -> None:
    """The first may be billed for what it never said, the second is refused for nothing, the third serves."""
    async with budgeted(state_dir, upstream, Budget(daily_nanos=10**9)) as its:
        admin = its.gateway.client.admin
        models = []
        for number, factor in enumerate((3, 5, 1)):
            price = Price(
                input_nanos_per_million=factor * PRICE.input_nanos_per_million,
                output_nanos_per_million=factor * PRICE.output_nanos_per_million,
            )
            made = Model(provider_model=f"{MODEL}-{number}", price=price)
            models.append((await admin.models.create("providers/local", made, model_id=f"m{number}")).name)
        policy = RetryPolicy(max_attempts=1)
        policy.attempt_timeout.FromMilliseconds(300)
        targets = [RouteTarget(model=name) for name in models]
        await admin.routes.create(Route(targets=targets, retry_policy=policy), route_id="three")
        held: list[int] = []

        async def serve(exchange: Exchange) -> None:
            held.append((await its.day()).held)
            match exchange.json["model"].rpartition("-")[2]:
                case "0":
                    await silent(exchange)
                case "1":
                    await send_json(exchange, {"error": {"message": "no"}}, status=500)
                case _:
                    await answer_well(exchange)

        upstream.script = serve
        answer = await its.client.chat.create("three", "hello", max_output_tokens=10)

        lost, refused, served = answer.attempts
        assert lost.cost.total_nanos > 0
        assert refused.cost.total_nanos == 0
        assert served.cost.total_nanos > 0
        assert answer.cost.total_nanos == lost.cost.total_nanos + served.cost.total_nanos
        # Each holds the most that it can cost, and nothing of the one before it is held any more.
        assert held == pytest.approx([3 * held[2], 5 * held[2], held[2]], rel=0.001)
        while (day := await its.day()).held:
            await asyncio.sleep(0.02)
        assert day.used == answer.cost.total_nanos


async def test_a_model_without_a_price_is_refused_unless_an_admin_says_otherwise(
    upstream: Upstream, state_dir: Path
) -> None:
    async with budgeted(state_dir, upstream, Budget(daily_nanos=10**9)) as its:
        with pytest.raises(GatewayError) as caught:
            await its.ask(model="free")
        assert caught.value.reason == "MODEL_UNPRICED"
        await its.gateway.client.admin.tenants.update(
            Tenant(name="tenants/acme", budget=Budget(allow_unpriced_models=True)),
            update_mask=["budget.allow_unpriced_models"],
        )
        assert await its.ask(model="free") == 0


async def test_a_budget_lowered_while_calls_are_in_flight_grants_nothing_more(
    upstream: Upstream, state_dir: Path
) -> None:
    async with budgeted(state_dir, upstream, Budget(daily_nanos=10**9)) as its:
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await send_json(exchange, completion())

        upstream.script = wait
        under_way = asyncio.create_task(its.ask())
        await upstream.next()
        await its.gateway.client.admin.tenants.update(
            Tenant(name="tenants/acme", budget=Budget(daily_nanos=1)), update_mask=["budget.daily_nanos"]
        )
        with pytest.raises(BudgetExceededError) as caught:
            await its.ask()
        assert caught.value.metadata["remaining_nanos"] == "0"
        release.set()
        assert await under_way == COST  # what was begun is served


PLENTY = Budget(daily_nanos=10**9)
NOTHING = Budget(daily_nanos=1)


@pytest.mark.parametrize(
    ("changes", "attempts"),
    [
        ([NOTHING], 1),
        ([Budget(daily_nanos=10**9, monthly_nanos=1)], 1),
        ([NOTHING, PLENTY], 2),
        ([NOTHING, Budget()], 2),
        ([Budget(daily_nanos=10**9, time_zone="Asia/Tokyo")], 2),
    ],
    ids=["lowered", "added", "raised again", "removed", "moved"],
)
async def test_an_attempt_keeps_to_the_budgets_that_there_are_when_it_begins(
    upstream: Upstream, state_dir: Path, changes: list[Budget], attempts: int
) -> None:
    """Not when its call did; no other call has brought the last change."""
    async with budgeted(state_dir, upstream, PLENTY, retry_max_attempts=2, retry_initial_backoff_ms=1) as its:
        release = asyncio.Event()

        async def fail(exchange: Exchange) -> None:
            await release.wait()
            await send_json(exchange, {}, status=503)

        upstream.script = fail
        under_way = asyncio.create_task(its.ask())
        await upstream.next()
        for number, budget in enumerate(changes):
            if number:
                with pytest.raises(BudgetExceededError):
                    await its.ask()
            await its.gateway.client.admin.tenants.update(
                Tenant(name="tenants/acme", budget=budget), update_mask=["budget"]
            )
        release.set()
        with pytest.raises(GatewayError):
            await under_way
        assert len(upstream.exchanges) == attempts


async def test_a_budget_that_is_new_counts_the_attempts_before_it_too(
    upstream: Upstream, state_dir: Path
) -> None:
    async with budgeted(state_dir, upstream, PLENTY) as its:
        admin = its.gateway.client.admin
        second = Model(provider_model=f"{MODEL}-2", price=PRICE)
        models = [
            f"providers/local/models/{MODEL}",
            (await admin.models.create("providers/local", second)).name,
        ]
        policy = RetryPolicy(max_attempts=1)
        policy.attempt_timeout.FromMilliseconds(1_000)
        route = Route(targets=[RouteTarget(model=name) for name in models], retry_policy=policy)
        await admin.routes.create(route, route_id="two")

        async def serve(exchange: Exchange) -> None:
            await (silent if exchange.json["model"] == MODEL else answer_well)(exchange)

        upstream.script = serve
        under_way = asyncio.create_task(its.client.chat.create("two", "hello", max_output_tokens=10))
        await upstream.next()
        both = Budget(daily_nanos=10**9, monthly_nanos=10**9)
        await admin.tenants.update(Tenant(name="tenants/acme", budget=both), update_mask=["budget"])
        answer = await under_way
        assert [bool(attempt.cost.total_nanos) for attempt in answer.attempts] == [True, True]
        await its.gateway.ledger.wait("", 1)
        async with asyncio.timeout(5):
            while any(limit.held for limit in await its.limits()):
                await asyncio.sleep(0.02)
        assert [limit.used for limit in await its.limits()] == [answer.cost.total_nanos] * 2


async def test_a_price_changed_during_a_call_does_not_change_the_call(
    upstream: Upstream, state_dir: Path
) -> None:
    async with budgeted(state_dir, upstream, Budget(daily_nanos=10**9)) as its:
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await send_json(exchange, completion())

        upstream.script = wait
        under_way = asyncio.create_task(its.ask())
        await upstream.next()
        models = its.gateway.client.admin.models
        await models.update(
            Model(
                name=f"providers/local/models/{MODEL}",
                price=Price(input_nanos_per_million=10**12, output_nanos_per_million=10**12),
            ),
            update_mask=["price"],
        )
        release.set()
        assert await under_way == COST
        while (day := await its.day()).held:
            await asyncio.sleep(0.02)
        assert day.used == COST


async def test_tenant_and_key_must_both_have_room(upstream: Upstream, state_dir: Path) -> None:
    key = ApiKey(budget=Budget(daily_nanos=1, monthly_nanos=10**9))
    async with budgeted(state_dir, upstream, Budget(daily_nanos=10**9), key=key) as its:
        with pytest.raises(BudgetExceededError) as caught:
            await its.ask()
        assert caught.value.metadata["owner"].startswith("tenants/acme/apiKeys/")
        assert (await its.day()).held == 0  # all budgets or none


async def test_a_budget_counts_what_was_spent_before_there_was_one(
    upstream: Upstream, state_dir: Path
) -> None:
    async with budgeted(state_dir, upstream, Budget()) as its:
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await send_json(exchange, completion())

        await its.ask()
        upstream.script = wait
        under_way = asyncio.create_task(its.ask())  # begins before there is a budget
        await upstream.next()
        await upstream.next()
        await its.gateway.client.admin.tenants.update(
            Tenant(name="tenants/acme", budget=Budget(daily_nanos=10**9)), update_mask=["budget"]
        )
        release.set()
        await under_way
        await its.ask()
        async with asyncio.timeout(5):  # what was spent before comes with the batch that writes it
            while (await its.day()).used != 3 * COST:
                await asyncio.sleep(0.02)
        assert (await its.day()).held == 0


async def test_what_was_spent_before_there_was_a_budget_is_told_before_a_call_counts_it(
    upstream: Upstream, state_dir: Path
) -> None:
    async with budgeted(state_dir, upstream, Budget()) as its:
        for _ in range(3):
            await its.ask()
        assert len([record async for record in its.client.usage.list_records("tenants/acme")]) == 3
        await its.gateway.client.admin.tenants.update(
            Tenant(name="tenants/acme", budget=Budget(daily_nanos=3 * COST + 1)), update_mask=["budget"]
        )
        assert (await its.day()).used == 3 * COST
        with pytest.raises(BudgetExceededError):
            await its.ask()
        assert (await its.day()).used == 3 * COST


async def test_alerts_are_raised_once(
    upstream: Upstream, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(daily_nanos=100 * COST, alert_percentages=[2, 5, 99])
    async with budgeted(state_dir, upstream, budget) as its:
        for _ in range(8):
            await its.ask()
            await its.day()
        records = [record async for record in its.client.usage.list_records("tenants/acme")]
        assert len(records) == 8
    alerts = [record.getMessage() for record in caplog.records if "budget alert" in record.getMessage()]
    assert alerts == [
        "budget alert: tenants/acme has spent 2% of its day",
        "budget alert: tenants/acme has spent 5% of its day",
    ]
