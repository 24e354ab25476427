"""What a new window of a budget begins with: all that was spent in it, found quickly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from aigateway.v1.usage_pb2 import Cost
from gateway_server.ids import new_id
from gateway_server.limits.windows import window_of
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.retention import RetentionRepository
from gateway_server.storage.usage_records import CallRecord
from gateway_server.time_zones import load_time_zones
from gateway_server.usage.retention import Retention
from tests.support.ledgers import add_calls
from tests.support.stores import BACKENDS, SetClock, fresh_store
from tests.support.usage_laws import DAY, DAY_START, HOUR, MINUTE, call_records

#: Whole hours and others, on both sides of Greenwich, and one that sets its clocks by half an hour.
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe")

Period = Literal["day", "month"]


def call(start_time: int, *, tenant_id: str = "acme", api_key_id: str = "ci", nanos: int = 1) -> CallRecord:
    return CallRecord(
        request_id=new_id(),
        tenant_id=tenant_id,
        api_key_id=api_key_id,
        method="CreateChatCompletion",
        model="m",
        start_time=start_time,
        latency=1,
        status_code=0,
        cost=Cost(total_nanos=nanos),
    )


async def begin(store: Store, now: int, *, api_key_id: str, period: Period, time_zone: str) -> int:
    """What a window begins with when it is first used at ``now``."""
    start, end = window_of(now, period=period, time_zone=time_zone)
    window = WindowKey("acme", api_key_id, period, start)
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    want = LeaseWant(window, end, limit_nanos=10**15, leased_nanos=0)
    states = await BudgetRepository(store).extend(gateway_id, [want], [LeaseNeed([window], 1)])
    return states[window].spent_nanos


def plain_sum(records: Sequence[CallRecord], start: int, end: int, api_key_id: str) -> int:
    return sum(
        record.cost.total_nanos
        for record in records
        if record.cost is not None
        and record.tenant_id == "acme"
        and api_key_id in {"", record.api_key_id}
        and start <= record.start_time < end
    )


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        call_records(days=45).map(lambda record: replace(record, request_id=new_id())), max_size=40
    ),
    now=st.integers(0, 45 * DAY - 1),
    zones=st.permutations(ZONES),
)
@example(records=[call(DAY_START + n * 15 * MINUTE, nanos=4**n) for n in range(24)], now=0, zones=[*ZONES])
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_sum_of_all_calls_in_the_window(
    backend: str,
    records: list[CallRecord],
    now: int,
    zones: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def check() -> None:
        await load_time_zones(*ZONES)
        moment = DAY_START + now
        async with fresh_store(backend, tmp_path_factory.mktemp("starts")) as store:
            await add_calls(store, records)
            seen = set()
            for zone in zones[:3]:
                for period in ("day", "month"):
                    start, end = window_of(moment, period=period, time_zone=zone)
                    if (period, start) in seen:
                        continue  # another zone's window that begins with it is there already
                    seen.add((period, start))
                    for key in ("", "ci"):
                        spent = await begin(
                            store,
                            moment,
                            api_key_id=key,
                            period=period,
                            time_zone=zone,
                        )
                        assert spent == plain_sum(records, start, end, key)

    asyncio.run(check())


@pytest.mark.parametrize("key", ["", "ci"])
async def test_calls_that_are_no_longer_kept_count(store: Store, key: str) -> None:
    now = DAY_START + 9 * DAY
    start, _ = window_of(now, period="month", time_zone="UTC")
    old = [call(start + number * HOUR, nanos=13_000) for number in range(4)]
    await add_calls(store, [*old, call(now, nanos=13_000), call(start - 1, nanos=10**9)])
    await Retention(RetentionRepository(store), 5, clock=SetClock(now / 10**6)).tend()
    assert await begin(store, now, api_key_id=key, period="month", time_zone="UTC") == 65_000


async def test_of_a_day_that_is_no_longer_kept_by_the_hour_all_counts(store: Store) -> None:
    """Nobody knows which of its calls were before the window began, and a budget must not be overspent."""
    await load_time_zones("Asia/Kolkata")
    now = DAY_START + 9 * DAY
    start, _ = window_of(now, period="month", time_zone="Asia/Kolkata")
    midnight = start - start % DAY
    assert start - midnight == 18 * HOUR + 30 * MINUTE
    calls = [
        call(midnight - 1, nanos=1),
        call(midnight, nanos=10),
        call(start, nanos=100),
        call(now, nanos=1000),
    ]
    await add_calls(store, calls)
    await Retention(RetentionRepository(store), 5, clock=SetClock(now / 10**6)).tend()
    assert await begin(store, now, api_key_id="", period="month", time_zone="Asia/Kolkata") == 1110


@pytest.mark.parametrize("period", ["day", "month"])
async def test_whole_hours_are_not_summed_call_by_call(store: Store, period: Period) -> None:
    """The first call of a window waits for that, and on SQLite everybody who writes."""
    await load_time_zones(*ZONES)
    statements: list[str] = []
    engines = [store._engine.sync_engine, *([store._file._engine] if store._file is not None else [])]
    for engine in engines:
        event.listen(
            engine, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement)
        )
    for zone, reads in (("Europe/Berlin", 0), ("Asia/Kolkata", 2)):  # parts of hours: its start and its end
        statements.clear()
        await begin(store, DAY_START, api_key_id="", period=period, time_zone=zone)
        assert sum("FROM usage_records" in statement for statement in statements) == reads
        assert any("FROM usage_rollups" in statement for statement in statements)
