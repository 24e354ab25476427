"""Nothing that was recorded is lost while the process lives, and nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.errors import GatewayError
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.engine import Store, store_unavailable
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.settlement import Settlements, Thresholds
from gateway_server.storage.spendings import Alert
from gateway_server.storage.usage_records import CallRecord, CallRows, UsageQuery, UsageRepository
from gateway_server.usage import ledger as module
from gateway_server.usage.entries import OpenAttempt
from tests.support.ledgers import new_ledger
from tests.support.stores import fresh_store


def call(number: int, *, latency: int = 1) -> CallRecord:
    return CallRecord(
        request_id=f"r{number:05}",
        tenant_id="acme",
        api_key_id="ci",
        method="CreateChatCompletion",
        model="m",
        start_time=1_760_000_000_000_000 + number,
        latency=latency,
        status_code=0,
        usage=TokenUsage(total_tokens=12),
        labels={"secret": "label"},
    )


OPEN = OpenAttempt(
    request_id="r00002",
    tenant_id="acme",
    api_key_id="ci",
    environment="",
    method="CreateChatCompletion",
    model="m",
    start_time=1_760_000_000_000_000,
    labels={},
    end_user_id="",
    provider_id="p",
    provider_model="m",
    input_tokens=1,
    output_tokens=1,
    most_nanos=None,
    windows=(),
)


class FlakyStore:
    """The real repository behind a door that can be shut, and that remembers the batches."""

    def __init__(self, store: Store) -> None:
        self.inner = store
        self._usage = UsageRepository(store)
        self._settlements = Settlements(store)
        self.batches: list[int] = []
        self.shut = False
        self.fail_after_commit = False
        self.refuse_user = ""
        self.tried = asyncio.Event()

    async def settle(
        self, gateway_id: str, position: int, calls: Sequence[CallRows], *, thresholds: Thresholds
    ) -> list[Alert]:
        self.tried.set()
        if self.shut:
            raise store_unavailable()
        if self.refuse_user and any(each.record["end_user_id"] == self.refuse_user for each in calls):
            raise ValueError("no such text")
        await self._settlements.settle(gateway_id, position, calls, thresholds=thresholds)
        self.batches.append(len(calls))
        if self.fail_after_commit:
            self.fail_after_commit = False
            raise store_unavailable()
        return []

    async def ids(self) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = await self._usage.list_page(UsageQuery("acme"), PageRequest(1000, token))
            found.extend(record.name.rpartition("/")[2] for record in page.items)
            token = page.next_page_token
            if not token:
                return sorted(found)


class HeardBudgets:
    """Who remembers what was said to be counted."""

    def __init__(self) -> None:
        self.heard: list[dict[WindowKey, int]] = []

    def settling(self, windows: Iterable[WindowKey]) -> Thresholds:
        return {}

    def settled(self, charges: Mapping[WindowKey, int], alerts: Sequence[Alert] = ()) -> None:
        self.heard.append(dict(charges))


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(module, "_LAST_RETRY_SECONDS", 0.002)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FlakyStore]:
    async with fresh_store("sqlite", tmp_path) as opened:
        yield FlakyStore(opened)


async def test_what_was_recorded_is_there_after_a_flush(store: FlakyStore, tmp_path: Path) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=60)
    await ledger.start()
    for number in range(3):
        ledger.record(call(number))
    assert ledger.backlog == 3
    await ledger.flush()  # does not wait for the minute
    assert await store.ids() == ["r00000", "r00001", "r00002"]
    assert (ledger.backlog, ledger.written_count) == (0, 3)
    assert await ledger.close() == 0


async def test_records_are_written_without_being_asked_for(store: FlakyStore, tmp_path: Path) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=0.01)
    await ledger.start()
    ledger.record(call(1))
    async with asyncio.timeout(5):
        await store.tried.wait()
    await ledger.close()
    assert await store.ids() == ["r00001"]


async def test_records_that_come_together_are_written_together(store: FlakyStore, tmp_path: Path) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=60)
    await ledger.start()
    for number in range(1200):
        ledger.record(call(number))
    await ledger.flush()
    assert store.batches == [500, 500, 200]
    await ledger.close()


async def test_a_flush_with_nothing_to_do_returns(store: FlakyStore, tmp_path: Path) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store)
    await ledger.start()
    await ledger.flush()
    assert await ledger.close() == 0
    assert store.batches == []


async def test_close_writes_what_is_left(store: FlakyStore, tmp_path: Path) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=60)
    await ledger.start()
    ledger.record(call(1))
    assert await ledger.close() == 0
    assert await store.ids() == ["r00001"]


async def test_a_dead_store_loses_nothing_and_refuses_new_calls_at_the_bound(
    store: FlakyStore, tmp_path: Path
) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, capacity=3, linger_seconds=0.001)
    await ledger.start()
    store.shut = True
    for number in range(3):
        ledger.require_room()
        ledger.record(call(number))
    with pytest.raises(GatewayError) as caught:
        ledger.require_room()
    assert caught.value.reason == ErrorReason.ERROR_REASON_STORE_UNAVAILABLE
    ledger.record(call(3))  # a call that was under way
    await store.tried.wait()
    await asyncio.sleep(0)
    health = [ledger.healthy]
    store.shut = False
    await ledger.flush()
    health.append(ledger.healthy)
    assert health == [False, True]
    ledger.require_room()
    assert await store.ids() == ["r00000", "r00001", "r00002", "r00003"]
    await ledger.close()


async def test_a_batch_whose_commit_was_not_heard_of_is_not_counted_twice(
    store: FlakyStore, tmp_path: Path
) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=0.001)
    await ledger.start()
    store.fail_after_commit = True
    ledger.record(call(1))
    ledger.record(call(2))
    await ledger.flush()
    assert store.batches == [2, 2]
    assert await store.ids() == ["r00001", "r00002"]
    await ledger.close()


async def test_a_record_whose_text_the_store_does_not_take_is_written_without_it(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=60)
    await ledger.start()
    store.refuse_user = "odd"
    for number in range(10):
        ledger.record(replace(call(number), end_user_id="odd" if number == 6 else "even"))
    with caplog.at_level(logging.WARNING):
        await ledger.flush()
    assert await store.ids() == [f"r{number:05}" for number in range(10)]
    assert (ledger.rejected_count, ledger.written_count) == (0, 10)
    assert "request_id=r00006" in caplog.text
    assert "odd" not in caplog.text
    records = (await UsageRepository(store.inner).list_page(UsageQuery("acme"))).items
    assert [(each.end_user_id, dict(each.labels)) for each in records[2:5]] == [
        ("even", {"secret": "label"}),
        ("", {}),
        ("even", {"secret": "label"}),
    ]
    assert {each.usage.total_tokens for each in records} == {12}
    await ledger.close()


async def test_what_a_record_cost_that_cannot_be_stored_at_all_is_not_counted(
    store: FlakyStore, tmp_path: Path
) -> None:
    budgets = HeardBudgets()
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=60, budgets=budgets)
    await ledger.start()
    window = WindowKey("acme", "", "day", 0)
    for number in range(3):
        latency = 2**70 if number == 1 else 1
        ledger.record(replace(call(number, latency=latency), charges={window: 10**number}))
    await ledger.flush()
    await ledger.close()
    assert budgets.heard == [{window: 101}]


async def test_a_record_that_cannot_be_stored_at_all_holds_up_no_other_and_is_logged(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=60)
    await ledger.start()
    for number in range(10):
        ledger.record(call(number, latency=2**70 if number == 6 else 1))
    with caplog.at_level(logging.ERROR):
        await ledger.flush()
    assert await store.ids() == [f"r{number:05}" for number in range(10) if number != 6]
    assert (ledger.rejected_count, ledger.written_count) == (1, 9)
    assert "request_id=r00006" in caplog.text
    assert "total_tokens=12" in caplog.text
    assert "label" not in caplog.text
    assert ledger.healthy
    await ledger.close()


async def test_what_cannot_be_written_before_the_end_is_counted_and_stays_in_the_journal(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=0.001)
    await ledger.start()
    store.shut = True
    ledger.record(call(1))
    with caplog.at_level(logging.ERROR):
        assert await ledger.close(drain_seconds=0.05) == 1
    assert "1 settled calls stay in" in caplog.text


async def test_a_call_that_has_not_ended_keeps_the_journal_for_the_next_process(
    store: FlakyStore, tmp_path: Path
) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=0.001)
    await ledger.start()
    ledger.open_attempt(OPEN)
    ledger.record(call(1))
    assert await ledger.close() == 1
    assert await store.ids() == ["r00001"]


async def test_recording_from_many_calls_at_once_loses_none(store: FlakyStore, tmp_path: Path) -> None:
    ledger = await new_ledger(store.inner, tmp_path, settlements=store, linger_seconds=0.001)
    await ledger.start()

    async def caller(first: int) -> None:
        for number in range(first, first + 50):
            ledger.record(call(number))
            if number % 7 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(caller(50 * each) for each in range(20)))
    await ledger.close()
    assert await store.ids() == [f"r{number:05}" for number in range(1000)]
