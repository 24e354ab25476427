"""Old calls go, new ones come meanwhile, and sums by the day stay."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from aigateway.v1.routing_pb2 import Attempt
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant
from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.facts import kept_since_day
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.retention import PARTITION_DAYS, RetentionRepository
from gateway_server.storage.schema import downgrade, upgrade
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import usage_attempts, usage_records, usage_rollups
from gateway_server.storage.usage_records import CallRecord, UsageQuery, UsageRepository
from gateway_server.storage.usage_sums import SumQuery, UsageSumRepository
from gateway_server.usage.retention import Retention
from tests.support.ledgers import add_calls
from tests.support.stores import BACKENDS, SetClock, fresh_database

DAY = 86_400_000_000
NOW = 20_000 * DAY + DAY // 2


def call(day: int) -> CallRecord:
    return CallRecord(
        request_id=new_id(),
        tenant_id="acme",
        api_key_id="k",
        method="CreateChatCompletion",
        model="m",
        start_time=day * DAY + 1,
        latency=1,
        status_code=0,
        attempts=[Attempt(provider="providers/p", provider_model="m")],
    )


async def days_in(store: Store) -> list[int]:
    async with store.read() as connection:
        rows = await connection.execute(select(usage_records.c.start_day).order_by(usage_records.c.start_day))
        return list(rows.scalars())


async def test_a_process_whose_clock_is_ahead_lets_nothing_go_that_is_young(store: Store) -> None:
    today = int(time.time()) // 86_400
    await add_calls(store, [call(day) for day in (today - 20, today - 5)])
    retention = Retention(RetentionRepository(store), 10, clock=SetClock((today + 400) * 86_400))
    assert await retention.tend() > 0
    assert await days_in(store) == [today - 5]
    async with store.read() as connection:
        since = await connection.run_sync(kept_since_day)
    assert since is not None
    assert since <= today - 9  # a day may have begun meanwhile


async def test_processes_note_together_from_when_on_calls_are_kept(store: Store) -> None:
    repository = RetentionRepository(store)
    for day in (20_000, 20_010, 19_000):
        await asyncio.gather(*(repository.note_kept_since(day - number) for number in range(4)))
    async with store.read() as connection:
        assert await connection.run_sync(kept_since_day) == 20_010


async def test_calls_are_kept_for_so_many_days(store: Store) -> None:
    days = [19_000, 19_985, 19_989, 19_990, 19_991, 20_000]
    clock = SetClock(NOW / 1_000_000)
    retention = Retention(RetentionRepository(store), 10, clock=clock)
    await retention.tend()
    await add_calls(store, [call(day) for day in days for _ in range(3)])
    assert await retention.tend() > 0
    assert await days_in(store) == [day for day in days if day >= 19_990 for _ in range(3)]
    async with store.read() as connection:
        count = select(func.count()).select_from(usage_attempts)
        assert (await connection.execute(count)).scalar_one() == 9
    everything = await UsageSumRepository(store, clock).query(
        SumQuery(UsageQuery("acme", 18_000 * DAY, 21_000 * DAY)), PageRequest()
    )
    assert everything.total.counters["request_count"] == 18
    assert await retention.tend() == 0


async def test_without_a_setting_all_are_kept(store: Store) -> None:
    await add_calls(store, [call(1)])
    assert await Retention(RetentionRepository(store), 0, clock=SetClock(NOW / 1_000_000)).tend() == 0
    assert await days_in(store) == [1]


async def test_new_calls_are_written_while_old_ones_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_server.storage.retention._ROWS_AT_ONCE", 20)
    monkeypatch.setattr("gateway_server.usage.retention._PAUSE_SECONDS", 0)
    await add_calls(store, [call(100) for _ in range(600)])
    retention = Retention(RetentionRepository(store), 10, clock=SetClock(NOW / 1_000_000))
    tending = asyncio.create_task(retention.tend())
    written = 0
    while not tending.done():
        await add_calls(store, [call(20_000)])
        written += 1
    assert await tending == 600
    assert written > 3
    assert await days_in(store) == [20_000] * written


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_ledger_from_before_keeps_its_calls_both_ways(backend: str, tmp_path: Path) -> None:
    draw = random.Random(1)
    days = sorted(draw.randint(19_900, 20_040) for _ in range(50))
    async with fresh_database(backend, tmp_path) as url:
        await upgrade(url, revision="0005")
        store = open_store(url)
        await add_calls(store, [call(day) for day in days])
        await upgrade(url)
        assert await days_in(store) == days
        clock = SetClock(NOW / 1_000_000)
        await Retention(RetentionRepository(store), 0, clock=clock).tend()
        assert await days_in(store) == days
        page = await UsageRepository(store).list_page(UsageQuery("acme"))
        assert len(page.items) == 50
        assert all(len(record.attempts) == 1 for record in page.items)
        await store.close()
        await downgrade(url, "0005")
        store = open_store(url)
        assert await days_in(store) == days
        await store.close()
        await upgrade(url)


async def test_whole_partitions_are_dropped(store: Store) -> None:
    if store.dialect != "postgresql":
        pytest.skip("SQLite has no partitions")
    repository = RetentionRepository(store)
    first = 20_000 // PARTITION_DAYS
    await repository.make_partitions((first - 5) * PARTITION_DAYS * DAY)
    await repository.make_partitions(NOW)
    await add_calls(store, [call((first - 5) * PARTITION_DAYS + day) for day in range(3)])
    await add_calls(store, [call(20_000)])
    await repository.drop_partitions(20_000 - PARTITION_DAYS)
    async with store.read() as connection:
        rows = await connection.execute(
            text(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_records'::regclass"
            )
        )
        names = set(rows.scalars())
    assert names == {
        "usage_records_default",
        f"usage_records_{first * PARTITION_DAYS}",
        f"usage_records_{(first + 1) * PARTITION_DAYS}",
    }
    assert await days_in(store) == [20_000]


async def sums_of(store: Store, query: SumQuery) -> int:
    page = await UsageSumRepository(store, SetClock(NOW / 1_000_000)).query(query, PageRequest())
    return page.total.counters["request_count"]


async def test_sums_of_days_that_went_outlive_a_rebuild(store: Store) -> None:
    clock = SetClock(NOW / 1_000_000)
    await add_calls(store, [call(day) for day in (19_000, 19_995, 20_000) for _ in range(2)])
    await Retention(RetentionRepository(store), 10, clock=clock).tend()
    assert await Settlements(store).rebuild_rollups() == 4
    query = SumQuery(UsageQuery("acme", 18_000 * DAY, 21_000 * DAY), step="day")
    assert await sums_of(store, query) == 6


async def test_what_is_gone_is_not_told_as_nothing(store: Store) -> None:
    """A sum over hours or calls that are no longer there would be too small, so it is refused."""
    clock = SetClock(NOW / 1_000_000)
    await add_calls(store, [call(19_000), call(20_000)])
    await Retention(RetentionRepository(store), 10, clock=clock).tend()
    first = 19_000 * DAY
    for query in (
        SumQuery(UsageQuery("acme", first, 20_001 * DAY), step="hour"),
        SumQuery(UsageQuery("acme", first + 1, 20_001 * DAY)),
        SumQuery(UsageQuery("acme", first, first + DAY), step="minute"),
        SumQuery(UsageQuery("acme", first, first + DAY), group_by=("end_user_id",)),
    ):
        with pytest.raises(GatewayError, match="only whole days"):
            await sums_of(store, query)
    assert await sums_of(store, SumQuery(UsageQuery("acme", first, 20_001 * DAY), step="month")) == 2
    assert await sums_of(store, SumQuery(UsageQuery("acme", 19_990 * DAY, 20_001 * DAY), step="hour")) == 1


async def test_hours_go_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_server.storage.retention._ROWS_AT_ONCE", 2)
    await add_calls(store, [replace(call(19_000), api_key_id=f"k{number}") for number in range(5)])
    repository = RetentionRepository(store)
    counts = []
    while some := await repository.forget_some_hours(20_000):
        counts.append(some)
    assert counts == [2, 2, 1, 1, 1]  # five keys, their tenant, all tenants
    async with store.read() as connection:
        steps = set((await connection.execute(select(usage_rollups.c.step))).scalars())
    assert steps == {"day"}


async def test_a_partition_that_is_read_does_not_keep_writers_waiting(store: Store) -> None:
    if store.dialect != "postgresql":
        pytest.skip("SQLite has no partitions")
    repository = RetentionRepository(store)
    await repository.make_partitions(19_000 * DAY)
    await repository.make_partitions(NOW)
    await add_calls(store, [call(19_000)])
    async with store.read() as reader:
        await reader.execute(select(usage_records))
        dropping = asyncio.create_task(repository.drop_partitions(20_000))
        async with asyncio.timeout(20):
            await add_calls(store, [call(20_000)])
            with pytest.raises(GatewayError):
                await dropping
    assert await days_in(store) == [19_000, 20_000]
    await repository.drop_partitions(20_000)
    assert await days_in(store) == [20_000]


async def test_windows_of_budgets_go_long_after_they_have_ended(store: Store) -> None:
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    budgets = BudgetRepository(store)
    wants = [
        LeaseWant(WindowKey("acme", "", "day", day * DAY), (day + 1) * DAY, 100, 0)
        for day in (19_900, 19_901, 20_000)
    ]
    await budgets.extend(gateway_id, wants, [LeaseNeed([want.window], 10) for want in wants])
    await budgets.keep(gateway_id, {want.window: 0 for want in wants[1:]})
    await Retention(RetentionRepository(store), 0, clock=SetClock(NOW / 1_000_000)).tend()
    left = await budgets.states(gateway_id, [want.window for want in wants])
    assert list(left) == [wants[0].window, wants[2].window]  # the first is still leased to somebody
