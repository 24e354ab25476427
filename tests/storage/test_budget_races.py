"""Budgets at the worst moments: whatever meets whatever, money is neither granted twice nor lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model, Price
from gateway_server.call import BudgetLimit, CallContext, Principal
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.windows import window_of
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant, WindowState
from gateway_server.storage.changes import Changes
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.spendings import Spending, settle_spendings
from gateway_server.storage.tables import budget_leases, budget_windows
from gateway_server.time_zones import load_time_zones
from gateway_server.usage.ceiling import TokenCeiling, most_nanos
from tests.support.stores import SetClock

NOON = 1_760_011_200.0
DAY = 1_759_968_000_000_000
MODEL = Model(name="providers/p/models/m", price=Price(input_nanos_per_million=1_000_000))
#: Nanos that a hold has for roundings: see ``usage/ceiling.py``.
ROUNDING = 4

TENANT = WindowKey("acme", "", "day", DAY)


class GatedRepository(BudgetRepository):
    """A repository whose writes can be made to wait, before they begin."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()

    async def extend(
        self, gateway_id: str, wants: Sequence[LeaseWant], needs: Sequence[LeaseNeed]
    ) -> dict[WindowKey, WindowState]:
        await self._pass()
        return await super().extend(gateway_id, wants, needs)

    async def keep(self, gateway_id: str, leases: Mapping[WindowKey, int]) -> None:
        await self._pass()
        await super().keep(gateway_id, leases)

    async def _pass(self) -> None:
        self.waiting.set()
        await self.open.wait()
        self.waiting.clear()


class Process:
    """One process: its book and what it calls."""

    def __init__(self, store: Store, clock: SetClock, caps: dict[str, int]) -> None:
        self.gateway_id = new_id()
        self.repository = GatedRepository(store)
        self.book = BudgetBook(self.repository, self.gateway_id, clock=clock, metrics=Metrics())
        self._clock = clock
        self._caps = caps
        self.alert_percentages: tuple[int, ...] = ()
        self.time_zone = "UTC"

    def call(self, api_key_id: str, seconds: float = 100) -> CallContext:
        """A call of one of the keys; only some have budgets of their own."""
        owners = [owner for owner in ("", api_key_id) if owner in self._caps]
        principal = Principal(
            "acme",
            api_key_id,
            frozenset(),
            budgets=tuple(
                BudgetLimit("acme", each, "day", self._caps[each], self.time_zone, self.alert_percentages)
                for each in owners
            ),
        )
        now = self._clock.now()
        return CallContext(new_id(), "CreateChatCompletion", principal, self._clock, now, now, now + seconds)

    async def hold(self, nanos: int, api_key_id: str = "one", *, seconds: float = 100) -> Any:
        """A hold of so many nanos, all of them for input, so that it cannot be cut."""
        ceiling = TokenCeiling(nanos - ROUNDING)
        assert most_nanos(ceiling, MODEL.price) == nanos
        return await self.book.hold(self.call(api_key_id, seconds), MODEL, ceiling)


@asynccontextmanager
async def process(store: Store, clock: SetClock, caps: dict[str, int]) -> AsyncIterator[Process]:
    made = Process(store, clock, caps)
    await GatewayRepository(store).register(made.gateway_id)
    yield made
    await made.book.close()


async def settle(store: Store, its: Process, nanos: int, *windows: WindowKey) -> None:
    """What the ledger's transaction does for a call that cost so much."""
    its.book.settling(windows)
    spending = Spending("acme", "one", round(NOON * 1_000_000), nanos, charges=dict.fromkeys(windows, nanos))
    await store.write_batch(lambda connection: settle_spendings(connection, its.gateway_id, [spending]))


async def row_of(store: Store, window: WindowKey = TENANT) -> Any:
    async with store.read() as connection:
        rows = (await connection.execute(select(budget_windows))).all()
    [found] = [
        row for row in rows if (row.api_key_id, row.start_time) == (window.api_key_id, window.start_time)
    ]
    return found


async def lease_of(store: Store, its: Process, window: WindowKey = TENANT) -> int:
    async with store.read() as connection:
        rows = (await connection.execute(select(budget_leases))).all()
    return sum(
        row.leased_nanos
        for row in rows
        if (row.gateway_id, row.api_key_id) == (its.gateway_id, window.api_key_id)
    )


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOON)


async def test_windows_that_a_call_waits_for_are_not_forgotten(store: Store, clock: SetClock) -> None:
    async with process(store, clock, {"": 100, "two": 100}) as its:
        (await its.hold(10)).settle(0)
        clock.advance(3)
        its.repository.open.clear()
        tick = asyncio.create_task(its.book.tick())  # gives back what is idle, then forgets
        await its.repository.waiting.wait()
        first = asyncio.create_task(its.hold(60, "two"))
        await asyncio.sleep(0)
        its.repository.open.set()
        await tick
        await first
        with pytest.raises(GatewayError) as caught:
            await its.hold(60, "two")
        assert caught.value.metadata["remaining_nanos"] == "40"


async def test_leases_given_back_while_a_batch_is_on_its_way_are_not_lost(
    store: Store, clock: SetClock
) -> None:
    async with process(store, clock, {"": 100}) as its:
        (await its.hold(100)).settle(40)
        clock.advance(3)
        its.repository.open.clear()
        tick = asyncio.create_task(its.book.tick())
        await its.repository.waiting.wait()
        await settle(store, its, 40, TENANT)
        its.repository.open.set()
        await tick
        its.book.settled({TENANT: 40})  # heard of only now
        await its.book.tick()
        assert (await row_of(store)).spent_nanos == 40
        assert await lease_of(store, its) == (await row_of(store)).leased_nanos == 0


@pytest.mark.parametrize("by", ["a tick", "a change"])
async def test_what_is_dropped_while_a_call_waits_for_a_lease_is_there_for_it(
    store: Store, clock: SetClock, by: str
) -> None:
    async with process(store, clock, {"": 100}) as its:
        (await its.hold(50)).settle(0)
        if by == "a tick":
            clock.advance(2.1)  # nobody wants what is leased
        its.repository.open.clear()
        call = asyncio.create_task(its.hold(80))
        await its.repository.waiting.wait()
        if by == "a change":
            await its.book.on_changes(Changes(1, ("tenants/acme",)))
        tick = asyncio.create_task(its.book.tick())
        await asyncio.sleep(0.05)  # as far as it can come
        its.repository.open.set()
        (await call).settle(0)
        await tick


async def test_what_was_dropped_is_there_although_a_batch_is_on_its_way(
    store: Store, clock: SetClock
) -> None:
    """The batch has lowered the lease in the store by more than was dropped, and is not heard of yet."""
    async with process(store, clock, {"": 100}) as its:
        (await its.hold(70)).settle(40)
        await its.book.on_changes(Changes(1, ("tenants/acme",)))
        await settle(store, its, 40, TENANT)
        call = asyncio.create_task(its.hold(50))
        await asyncio.sleep(0.1)
        its.book.settled({TENANT: 40})
        assert (await call).nanos == 50


async def test_a_lease_is_given_back_although_a_commit_is_heard_of_late(
    store: Store, clock: SetClock
) -> None:
    async with process(store, clock, {"": 100}) as its:
        (await its.hold(100)).settle(40)
        await settle(store, its, 40, TENANT)
        clock.advance(3)
        await its.book.tick()
        hold = await its.hold(10)
        its.book.settled({TENANT: 40})
        hold.settle(10)
        await settle(store, its, 10, TENANT)
        its.book.settled({TENANT: 10})
        for _ in range(3):
            await its.book.tick()
            clock.advance(3)
        row = await row_of(store)
        assert (row.spent_nanos, row.leased_nanos) == (50, 0)


async def test_nothing_stays_of_a_lease_that_is_used_up(store: Store, clock: SetClock) -> None:
    async with process(store, clock, {"": 100}) as its:
        (await its.hold(40)).settle(40)
        await settle(store, its, 40, TENANT)
        async with store.read() as connection:
            assert (await connection.execute(select(budget_leases))).all() == []


async def test_a_lease_that_no_window_here_counts_on_is_given_back_when_it_is_recalled(
    store: Store, clock: SetClock
) -> None:
    async with process(store, clock, {"two": 100}) as its:
        want = LeaseWant(TENANT, DAY + 86_400_000_000, 100, 0)
        await its.repository.extend(its.gateway_id, [want], [LeaseNeed([TENANT], 60)])
        await its.repository.recall(TENANT)
        hold = await its.hold(10, "two")
        await its.book.tick()
        assert await lease_of(store, its) == 0
        assert await lease_of(store, its, TENANT._replace(api_key_id="two")) >= hold.nanos


async def test_a_window_that_is_overdrawn_elsewhere_does_not_keep_a_call_asking(
    store: Store, clock: SetClock
) -> None:
    async with process(store, clock, {"": 100, "two": 1000}) as its:
        (await its.hold(60)).settle(0)  # the process has this much of the tenant's day now
        await settle(store, its, 70)  # by a call from before there was a budget
        assert (await row_of(store)).spent_nanos == 70
        async with asyncio.timeout(10):
            hold = await its.hold(30, "two")  # as much as there is
            with pytest.raises(GatewayError) as caught:
                await its.hold(5, "two")
        assert caught.value.metadata["remaining_nanos"] == "0"
        await its.book.tick()
        row = await row_of(store)
        assert row.spent_nanos + row.leased_nanos <= 100
        hold.settle(0)


async def test_an_alert_is_raised_for_what_a_process_that_is_gone_has_spent(
    store: Store, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever settles what it left behind, or sweeps it, knows of no thresholds."""
    async with process(store, clock, {"": 100}) as gone:
        await gone.hold(60)
        await settle(store, gone, 60, TENANT)
    async with process(store, clock, {"": 100}) as one, process(store, clock, {"": 100}) as two:
        for its in (one, two):
            its.alert_percentages = (50, 60, 99)
            for _ in range(2):
                (await its.hold(5)).settle(0)
                await its.book.tick()
                clock.advance(3)  # the window is forgotten, and made again
                await its.book.tick()
        with pytest.raises(GatewayError):
            await two.hold(50)
    alerts = [record.getMessage() for record in caplog.records if "budget alert" in record.getMessage()]
    assert alerts == [
        "budget alert: tenants/acme has spent 50% of its day",
        "budget alert: tenants/acme has spent 60% of its day",
    ]


async def test_money_that_nobody_holds_any_more_is_found_although_a_wait_was_in_vain(
    store: Store, clock: SetClock
) -> None:
    async with process(store, clock, {"": 100}) as one, process(store, clock, {"": 100}) as two:
        await one.book.start()
        await two.book.start()
        held = await two.hold(80)
        waiting = asyncio.create_task(one.hold(50))
        while not (await row_of(store)).recall_time:
            await asyncio.sleep(0.02)
        clock.advance(2.1)
        with pytest.raises(GatewayError):
            await waiting
        held.settle(0)
        (await one.hold(50)).settle(0)  # nothing is in flight now


@pytest.mark.parametrize("is_back_in_time", [True, False])
async def test_a_call_with_a_short_deadline_is_not_refused_for_money_that_nobody_holds(
    store: Store, clock: SetClock, *, is_back_in_time: bool
) -> None:
    async with process(store, clock, {"": 100}) as one, process(store, clock, {"": 100}) as two:
        (await two.hold(80)).settle(0)
        waiting = asyncio.create_task(one.hold(50, seconds=0.4))
        while not (await row_of(store)).recall_time:
            await asyncio.sleep(0.02)
        clock.advance(0.3)
        await asyncio.wait([waiting], timeout=0.3)
        if is_back_in_time:
            await two.book.tick()
            (await waiting).settle(0)
        else:
            clock.advance(0.2)
            with pytest.raises(GatewayError) as caught:
                await waiting
            assert caught.value.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED


async def test_recalls_are_heard_when_the_clock_of_the_database_is_set_back(
    store: Store, clock: SetClock
) -> None:
    async with process(store, clock, {"": 100}) as its:
        (await its.hold(80)).settle(0)
        await its.repository.recall(TENANT)
        await its.book.tick()
        assert await lease_of(store, its) == 0
        (await its.hold(80)).settle(0)
        async with store.write() as connection:
            await connection.execute(
                update(budget_windows).values(recall_time=budget_windows.c.recall_time - 3_600_000_000)
            )
        await its.book.tick()
        assert await lease_of(store, its) == 0


async def test_leases_do_not_grow_with_the_number_of_keys(store: Store, clock: SetClock) -> None:
    caps = {"": 1_000_000, **{f"k{number}": 1_000_000 for number in range(20)}}
    async with process(store, clock, caps) as its:
        (await its.hold(1_000)).settle(1_000)
        await settle(store, its, 1_000, TENANT)
        its.book.settled({TENANT: 1_000})
        for number in range(20):
            (await its.hold(10, f"k{number}")).settle(0)
        assert await lease_of(store, its) <= 2 * 1_000 + 10  # two seconds ahead of the need


@pytest.mark.parametrize("backend", ["postgresql"])  # SQLite has one writer at a time
async def test_a_process_that_is_swept_while_it_leases_has_its_money_moved_whole(
    store: Store, clock: SetClock
) -> None:
    """It was not heard of for long, and lives: its lease, and the sweep, meet in the database."""
    gateways = GatewayRepository(store)
    async with process(store, clock, {"": 1_000}) as its, process(store, clock, {"": 1_000}) as other:
        want = LeaseWant(TENANT, DAY + 86_400_000_000, 1_000, 0)
        await its.repository.extend(its.gateway_id, [want], [LeaseNeed([TENANT], 100)])
        more = replace(want, leased_nanos=100)
        for order in ("lease", "sweep"):
            lease = its.repository.extend(its.gateway_id, [more], [LeaseNeed([TENANT], 50)])
            sweep = gateways.refresh(other.gateway_id, dead_after_seconds=-1)
            async with store.write() as connection:
                await connection.execute(select(budget_windows).with_for_update())
                tasks: list[asyncio.Task[object]] = []
                for step in (lease, sweep) if order == "lease" else (sweep, lease):
                    tasks.append(asyncio.create_task(step))  # comes as far as it can without the window
                    await asyncio.sleep(0.2)
            await asyncio.gather(*tasks)
            more = replace(more, leased_nanos=await lease_of(store, its))
            await its.repository.keep(its.gateway_id, {TENANT: more.leased_nanos})  # it lives
            row = await row_of(store)
            assert (row.spent_nanos, row.leased_nanos) == (0, more.leased_nanos)


@pytest.mark.parametrize("ends", ["settled", "swept"])
async def test_calls_under_way_count_on_the_windows_of_another_time_zone(
    store: Store, clock: SetClock, ends: str
) -> None:
    """What they cost is added to the new window when they end: until then nobody else may have it."""
    await load_time_zones("Asia/Kolkata")
    async with process(store, clock, {"": 100}) as one, process(store, clock, {"": 100}) as two:
        held = await one.hold(60)
        if ends == "swept":
            await GatewayRepository(store).refresh(two.gateway_id, dead_after_seconds=-1)
        two.time_zone = "Asia/Kolkata"
        waiting = asyncio.create_task(two.hold(41))
        while not waiting.done():
            await asyncio.sleep(0.05)
            clock.advance(1)
        with pytest.raises(GatewayError) as caught:
            await waiting
        assert caught.value.metadata["remaining_nanos"] == "40"
        (await two.hold(40)).settle(0)
        held.settle(60)
        await settle(store, one, 60, TENANT)
        one.book.settled({TENANT: 60})
        kolkata = WindowKey("acme", "", "day", window_of(DAY, period="day", time_zone="Asia/Kolkata")[0])
        row = await row_of(store, kolkata)
        assert (row.spent_nanos, row.leased_nanos) == (60, 40)


async def test_leases_on_the_windows_of_another_time_zone_that_nobody_holds_are_recalled(
    store: Store, clock: SetClock
) -> None:
    await load_time_zones("Asia/Kolkata")
    async with process(store, clock, {"": 100}) as one, process(store, clock, {"": 100}) as two:
        await one.book.start()
        (await one.hold(60)).settle(0)
        two.time_zone = "Asia/Kolkata"
        async with asyncio.timeout(10):
            (await two.hold(80)).settle(0)  # the clock stands: no lease gets idle
