"""What a killed, cut off or returning process settles is counted once: in rows, sums and budgets alike."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DataError

from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_pb2 import Cost, TokenUsage
from gateway_server.clock import Clock, SystemClock
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant
from gateway_server.storage.engine import Store, store_unavailable
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements, Thresholds
from gateway_server.storage.spendings import Alert
from gateway_server.storage.sweeps import sweep
from gateway_server.storage.tables import (
    budget_leases,
    budget_windows,
    gateways,
    usage_records,
    usage_rollups,
)
from gateway_server.storage.usage_records import CallRecord, CallRows
from gateway_server.usage import ledger as ledger_module
from gateway_server.usage.entries import OpenAttempt
from gateway_server.usage.ledger import Ledger
from gateway_server.usage.recovery import Recovery
from tests.support.ledgers import new_ledger
from tests.support.stores import SetClock

START = 1_760_000_000_000_000
DAY = 86_400_000_000
WINDOW = WindowKey("acme", "", "day", START // DAY * DAY)
COST = 100
MOST = 1_000


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_FIRST_RETRY_SECONDS", 0.001)


def opening(request_id: str) -> OpenAttempt:
    return OpenAttempt(
        request_id=request_id,
        tenant_id="acme",
        api_key_id="k",
        environment="",
        method="CreateChatCompletion",
        model="m",
        start_time=START,
        labels={},
        end_user_id="",
        provider_id="p",
        provider_model="m",
        input_tokens=10,
        output_tokens=10,
        most_nanos=MOST,
        windows=(WINDOW,),
    )


def settled(request_id: str, *, latency: int = 1) -> CallRecord:
    cost = Cost(currency_code="USD", total_nanos=COST)
    usage = TokenUsage(total_tokens=1)
    return CallRecord(
        request_id=request_id,
        tenant_id="acme",
        api_key_id="k",
        method="CreateChatCompletion",
        model="m",
        start_time=START,
        latency=latency,
        status_code=0,
        usage=usage,
        cost=cost,
        attempts=[Attempt(provider="providers/p", provider_model="m", usage=usage, cost=cost)],
        charges={WINDOW: COST},
    )


class Faults:
    """The way into the store, with a fault for each try on it, None where there is none."""

    def __init__(self, store: Store, faults: Sequence[str | None]) -> None:
        self.settlements = Settlements(store)
        self.faults = list(faults)
        self.on_fault: list[CallRecord] = []
        self.ledger: Ledger | None = None

    async def settle(
        self, gateway_id: str, position: int, calls: Sequence[CallRows], *, thresholds: Thresholds
    ) -> list[Alert]:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "away":
            raise store_unavailable()
        alerts = await self.settlements.settle(gateway_id, position, calls, thresholds=thresholds)
        if fault == "unheard":
            while self.on_fault and self.ledger is not None:
                self.ledger.record(self.on_fault.pop())
            raise store_unavailable()
        return alerts


async def lease(store: Store, gateway_id: str, nanos: int = 10_000, window: WindowKey = WINDOW) -> None:
    want = LeaseWant(window, window.start_time + DAY, 10**9, leased_nanos=0)
    await BudgetRepository(store).extend(gateway_id, [want], [LeaseNeed([window], nanos)])


async def counted(store: Store) -> tuple[int, int, int]:
    """How many calls there are by the ledger, by the sums, and by what the budget's window has spent."""
    columns = usage_rollups.c
    of_all = (columns.level == "all", columns.step == "day")
    async with store.read() as connection:
        rows = await connection.scalar(select(func.count()).select_from(usage_records))
        sums = await connection.scalar(select(func.sum(columns.request_count)).where(*of_all))
        spent = await connection.scalar(select(budget_windows.c.spent_nanos))
    return int(rows or 0), int(sums or 0), int(spent or 0)


def die(ledger: Ledger) -> None:
    """As a killed process does: its lock is gone, nothing is written."""
    os.close(ledger._journal._file)
    os.close(ledger._journal._lock)


def recovery(store: Store, folder: Path, clock: Clock | None = None) -> Recovery:
    return Recovery(
        folder / "journal",
        store_id="tests",
        gateways=GatewayRepository(store),
        settlements=Settlements(store),
        clock=clock or SystemClock(),
        metrics=Metrics(),
    )


async def test_calls_that_join_a_batch_whose_commit_was_not_heard_of_count_alone(
    store: Store, tmp_path: Path
) -> None:
    way = Faults(store, ["unheard"])
    ledger = way.ledger = await new_ledger(store, tmp_path, settlements=way, linger_seconds=0.001)
    await lease(store, ledger._gateway_id)
    way.on_fault = [settled("late")]
    for number in range(3):
        ledger.record(settled(f"early{number}"))
    await ledger.start()
    await ledger.flush()
    await ledger.close()
    assert await counted(store) == (4, 4, 4 * COST)


async def test_the_half_of_a_batch_that_got_in_is_not_counted_again_with_the_other(
    store: Store, tmp_path: Path
) -> None:
    # The whole fails for the sake of one record; one half gets in, then the store goes away for a moment.
    way = Faults(store, [None, None, "away"])
    ledger = await new_ledger(store, tmp_path, settlements=way, linger_seconds=60)
    await lease(store, ledger._gateway_id)
    for number in range(4):
        ledger.record(settled(f"r{number}", latency=2**70 if number == 3 else 1))
    await ledger.start()
    await ledger.flush()
    await ledger.close()
    assert await counted(store) == (3, 3, 3 * COST)
    assert (ledger.written_count, ledger.rejected_count) == (3, 1)


async def test_calls_that_a_full_disk_kept_out_of_the_journal_count_once_after_a_crash(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await new_ledger(store, tmp_path, linger_seconds=0.001)
    await lease(store, ledger._gateway_id)
    for name in ("a", "b", "c", "d"):
        ledger.open_attempt(opening(name))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_disk)
        patch.setattr(ledger._journal, "rotate", no_space)
        ledger.record(settled("c"))
        ledger.record(settled("d"))
        await ledger.start()
        await ledger.flush()
        assert ledger._writer is not None
        ledger._writer.cancel()
        await asyncio.wait([ledger._writer])
    await asyncio.to_thread(die, ledger)
    await recovery(store, tmp_path).run()  # a and b were open, at most 1000 nanos each
    assert await counted(store) == (4, 4, 2 * COST + 2 * MOST)


def full_disk(file: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


async def no_space() -> bool:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_store_that_goes_away_in_a_recovery_leaves_the_other_journals_to_be_found(
    store: Store, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        ledger = await new_ledger(store, tmp_path)
        ledger.record(settled(name))
        await asyncio.to_thread(die, ledger)
    way = Faults(store, ["away"])
    recover = recovery(store, tmp_path)
    recover._settlements.settle = way.settle  # type: ignore[method-assign]
    assert await recover.run() == 2
    assert recover.left_count == 1
    assert await recover.run() == 1
    assert recover.left_count == 0
    assert (await counted(store))[0] == 3
    assert list((tmp_path / "journal").iterdir()) == []


async def leased(store: Store) -> tuple[int, int]:
    """What the budget's window has spent, and what is leased of it."""
    columns = budget_windows.c
    async with store.read() as connection:
        row = (await connection.execute(select(columns.spent_nanos, columns.leased_nanos))).one()
    return row.spent_nanos, row.leased_nanos


async def test_a_damaged_journal_keeps_its_money_and_all_that_is_in_it_until_it_is_whole(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, whole = [await new_ledger(store, tmp_path) for _ in range(2)]
    for ledger in (damaged, whole):
        await lease(store, ledger._gateway_id)
    for name in ("a", "b", "c"):
        damaged.record(settled(name))
    damaged.open_attempt(opening("d"))
    whole.record(settled("e"))
    for ledger in (damaged, whole):
        await asyncio.to_thread(die, ledger)
    segment = damaged._journal.folder / "00000001.segment"
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b'"b"', b'"B"', 1))
    clock = SetClock()
    recover = recovery(store, tmp_path, clock)
    assert await recover.run() == 1
    assert recover.left_count == 1
    assert await counted(store) == (2, 2, 2 * COST)  # a and e
    assert await leased(store) == (2 * COST, 10_000 - COST)
    assert caplog.text.count(str(segment)) == 1
    segment.write_bytes(content)
    assert await recover.run() == 0  # not at once: it may be large
    clock.advance(60)
    assert await recover.run() == 3
    assert (recover.left_count, list((tmp_path / "journal").iterdir())) == (0, [])
    assert await counted(store) == (5, 5, 4 * COST + MOST)
    assert await leased(store) == (4 * COST + MOST, 0)


async def test_what_the_database_refuses_of_a_journal_is_kept_and_tried_again_by_every_process(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await new_ledger(store, tmp_path)
    await lease(store, ledger._gateway_id)
    for name in ("a", "b", "c"):
        ledger.record(settled(name))
    await asyncio.to_thread(die, ledger)
    refuses = RefusesOne(store, "b")
    for _ in range(2):  # the second one is another process
        recover = recovery(store, tmp_path, clock := SetClock())
        recover._settlements.settle = refuses.settle  # type: ignore[method-assign]
        for _ in range(2):
            assert await recover.run() == 0
            assert recover.left_count == 1
            clock.advance(60)
        assert await counted(store) == (2, 2, 2 * COST)
        assert await leased(store) == (2 * COST, 10_000 - 2 * COST)
    assert caplog.text.count("cannot hold the calls b") == 2
    assert await recovery(store, tmp_path).run() == 1
    assert await counted(store) == (3, 3, 3 * COST)
    assert await leased(store) == (3 * COST, 0)
    assert list((tmp_path / "journal").iterdir()) == []


class RefusesOne:
    """The way into a store that cannot hold the call of one id."""

    def __init__(self, store: Store, request_id: str) -> None:
        self.settlements = Settlements(store)
        self.request_id = request_id

    async def settle(
        self, gateway_id: str, position: int, calls: Sequence[CallRows], *, thresholds: Thresholds
    ) -> list[Alert]:
        if any(call.record["request_id"] == self.request_id for call in calls):
            raise DataError("INSERT", {}, ValueError("out of range"))
        return await self.settlements.settle(gateway_id, position, calls, thresholds=thresholds)


async def test_a_journal_that_cannot_even_be_locked_stops_no_other(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal/0/lock").mkdir(parents=True)
    ledger = await new_ledger(store, tmp_path)
    ledger.record(settled("a"))
    await asyncio.to_thread(die, ledger)
    recover = recovery(store, tmp_path)
    assert await recover.run() == 1
    assert recover.left_count == 1
    assert caplog.text.count("Is a directory") == 1
    shutil.rmtree(tmp_path / "journal/0")
    assert await recover.run() == 0
    assert recover.left_count == 0


@pytest.mark.parametrize("entry", [b"[7]", b"[0, 1]", b"no json"])
async def test_a_journal_that_cannot_be_understood_is_left_alone_and_told_once(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, entry: bytes
) -> None:
    ledgers = [await new_ledger(store, tmp_path) for _ in range(2)]
    for number, ledger in enumerate(ledgers):
        ledger.record(settled(f"r{number}"))
    ledgers[0]._journal.append(entry)
    odd = ledgers[0]._journal.folder
    for ledger in ledgers:
        await asyncio.to_thread(die, ledger)
    recover = recovery(store, tmp_path)
    assert await recover.run() == 1
    assert await recover.run() == 0
    assert list((tmp_path / "journal").iterdir()) == [odd]
    assert caplog.text.count("is left alone") == 1


async def test_a_process_that_its_database_does_not_know_any_more_writes_on(
    store: Store, tmp_path: Path
) -> None:
    ledger = await new_ledger(store, tmp_path, linger_seconds=0.001)
    await ledger.start()
    async with store.write() as connection:  # a backup from before its start was restored
        await connection.execute(delete(gateways))
    ledger.record(settled("a"))
    await ledger.flush()
    await GatewayRepository(store).refresh(ledger._gateway_id, dead_after_seconds=60)
    ledger.record(settled("b"))
    await ledger.flush()
    await ledger.close()
    assert (await counted(store))[:2] == (2, 2)


async def test_a_process_that_tells_that_it_lives_is_swept_no_longer(store: Store) -> None:
    repository, gateway_id = GatewayRepository(store), new_id()
    await repository.register(gateway_id)
    await lease(store, gateway_id)
    async with store.write() as connection:
        await connection.run_sync(sweep, gateway_id)
    assert (await counted(store))[2] == 10_000
    await repository.refresh(gateway_id, dead_after_seconds=60)
    assert (await counted(store))[2] == 0
    async with store.read() as connection:
        assert (await connection.execute(select(gateways.c.swept))).scalars().all() == [False]


async def test_a_sweep_is_taken_back_once_however_many_come_back_at_once(store: Store) -> None:
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    windows = [WindowKey(f"t{number}", "", "day", START // DAY * DAY) for number in range(4)]
    for window in windows:
        await lease(store, gateway_id, 1_000, window)
    for _ in range(5):
        async with store.write() as connection:
            await connection.run_sync(sweep, gateway_id)
        back = [BudgetRepository(store).keep(gateway_id, {window: 1_000}) for window in windows]
        failures = [each for each in await asyncio.gather(*back, return_exceptions=True) if each is not None]
        assert all(isinstance(failure, GatewayError) for failure in failures)  # they may come again
        async with store.read() as connection:
            rows = (await connection.execute(select(budget_windows))).all()
            leases = (await connection.execute(select(budget_leases.c.leased_nanos))).scalars().all()
        assert [(row.spent_nanos, row.leased_nanos) for row in rows] == [(0, 1_000)] * 4
        assert leases == [1_000] * 4


async def test_a_database_that_lost_a_table_gets_all_calls_once_it_is_back(
    store: Store, tmp_path: Path
) -> None:
    ledger = await new_ledger(store, tmp_path, linger_seconds=0.001)
    await ledger.start()
    async with store.write() as connection:
        await connection.execute(text("ALTER TABLE usage_attempts RENAME TO elsewhere"))
    ledger.record(settled("a"))
    async with asyncio.timeout(5):
        while ledger.healthy and not ledger.rejected_count:
            await asyncio.sleep(0.001)
    async with store.write() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO usage_attempts"))
    await ledger.flush()
    await ledger.close()
    assert (ledger.written_count, ledger.rejected_count) == (1, 0)
