"""Rollups: each call counts once in each, whatever the batches and writers, and as the ledger has it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from aigateway.v1.usage_pb2 import Cost, TokenUsage
from gateway_server.ids import new_id
from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import usage_groups, usage_rollups
from gateway_server.storage.usage_records import CallRecord, rows_of
from tests.support.ledgers import add_calls
from tests.support.stores import BACKENDS, fresh_store, migrated_database
from tests.support.usage_laws import DAY_START, HOUR, call_records, read_rollups


def numbered(records: Sequence[CallRecord]) -> list[CallRecord]:
    return [replace(record, request_id=f"r{number}") for number, record in enumerate(records)]


async def rebuild(store: Store) -> None:
    await Settlements(store).rebuild_rollups()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), records=st.lists(call_records(), max_size=25).map(numbered))
@pytest.mark.parametrize("backend", BACKENDS)
def test_kept_in_any_batches_they_are_what_the_ledger_gives(
    backend: str, data: st.DataObject, records: list[CallRecord], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shuffled = data.draw(st.permutations(records))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(records) - 1, 1)), max_size=5)))

    async def check() -> Mapping[Any, Any]:
        async with fresh_store(backend, tmp_path_factory.mktemp("rollups")) as store:
            for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
                await add_calls(store, shuffled[start:end])
            kept = await read_rollups(store)
            for table in (usage_rollups, usage_rollups, usage_groups):
                await rebuild(store)
                assert await read_rollups(store) == kept
                async with store.write() as connection:
                    await connection.execute(delete(table))
            return kept

    kept = asyncio.run(check())
    for step in ("hour", "day"):
        for level in ("key", "tenant", "all"):
            counted = sum(values[0] for key, values in kept.items() if key[:2] == (step, level))
            assert counted == len(records)


def call(request_id: str, **fields: object) -> CallRecord:
    record = CallRecord(
        request_id=request_id,
        tenant_id="acme",
        api_key_id="ci",
        method="CreateChatCompletion",
        model="gpt-4o",
        start_time=DAY_START,
        latency=1_500_000,
        status_code=0,
    )
    return replace(record, **fields)  # type: ignore[arg-type]


async def test_a_call_counts_in_six_rows(store: Store) -> None:
    await add_calls(store, [call("r1", start_time=DAY_START + 5 * HOUR + 7, labels={"team": "search"})])
    assert {
        (step, level, int(start), tenant, key, labels)
        for step, level, start, tenant, key, _, *_, labels in await read_rollups(store)
    } == {
        (step, level, start, tenant, key, labels)
        for step, start in (("hour", DAY_START + 5 * HOUR), ("day", DAY_START))
        for level, tenant, key, labels in (
            ("key", "acme", "ci", "{'team': 'search'}"),
            ("tenant", "acme", "", "{}"),
            ("all", "", "", "{}"),
        )
    }


async def test_a_batch_that_failed_counts_nothing(store: Store) -> None:
    with pytest.raises(Exception, match=r"int|range"):
        await add_calls(store, [call("r1"), call("r2", provider_model=2**70)])
    assert await read_rollups(store) == {}


async def test_numbers_beyond_any_sense_do_not_stop_the_ledger(store: Store) -> None:
    """A provider that reports as many tokens as a number can hold must not overflow the sum of its day."""
    most = 2**63 - 1
    calls = [
        call(f"r{n}", usage=TokenUsage(total_tokens=most), cost=Cost(total_nanos=most), latency=most)
        for n in range(3)
    ]
    await add_calls(store, calls[:2])
    await add_calls(store, calls[2:])
    kept = await read_rollups(store)
    assert {values[0] for values in kept.values()} == {3}
    await rebuild(store)
    assert await read_rollups(store) == kept


@pytest.mark.parametrize("backend", BACKENDS)
async def test_writers_at_the_same_time_lose_nothing_and_do_not_lock_each_other_out(
    backend: str, tmp_path: Path
) -> None:
    """Three processes count into the same rows, in opposite orders, while a fourth rebuilds them."""
    rounds, size = 12, 8
    async with migrated_database(backend, tmp_path) as url:
        stores = [open_store(url) for _ in range(4)]

        async def write(store: Store, writer: int) -> None:
            gateway_id = new_id()
            await GatewayRepository(store).register(gateway_id)
            for turn in range(rounds):
                calls = [
                    call(f"{writer}-{turn}-{n}", model=f"m{n % 4}", api_key_id=f"k{n}", tenant_id=f"t{n % 3}")
                    for n in range(size)
                ]
                if writer % 2:
                    calls.reverse()
                await Settlements(store).settle(
                    gateway_id, turn + 1, [rows_of(each) for each in calls], thresholds={}
                )

        async def rebuild_often(store: Store) -> None:
            for _ in range(rounds):
                await rebuild(store)

        await asyncio.gather(
            *(write(store, number) for number, store in enumerate(stores[:3])), rebuild_often(stores[3])
        )
        async with stores[0].read() as connection:
            counts = (
                await connection.execute(
                    select(
                        usage_rollups.c.step, usage_rollups.c.level, func.sum(usage_rollups.c.request_count)
                    ).group_by(usage_rollups.c.step, usage_rollups.c.level)
                )
            ).all()
        assert [int(count) for _, _, count in counts] == [3 * rounds * size] * 6
        for store in stores:
            await store.close()
