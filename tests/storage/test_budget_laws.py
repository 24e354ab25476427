"""What is spent and held never exceeds a budget, and nothing that could be paid is refused: whatever several
processes do at once, and whenever they die."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from aigateway.v1.model_pb2 import Model, Price
from gateway_server.call import BudgetLimit, CallContext, Principal
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.budgets import Hold
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository
from gateway_server.storage.changes import Changes
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.sweeps import sweep
from gateway_server.storage.tables import budget_leases, budget_windows, gateways, usage_attempts
from gateway_server.storage.usage_records import CallRecord, CallRows, rows_of
from gateway_server.time_zones import load_time_zones
from gateway_server.usage.ceiling import TokenCeiling, most_nanos
from tests.support.services import SERVICES
from tests.support.stores import BACKENDS, SetClock, fresh_store

NOON = 1_760_011_200.0
MODEL = Model(name="providers/p/models/m", price=Price(output_nanos_per_million=1_000_000))
KEYS = ("one", "two")
#: At noon in UTC, it is the same date in all of them.
ZONES = ("UTC", "Asia/Kolkata", "America/New_York")


class SteppedBook(BudgetBook):
    """A book whose waits let all processes look at their recalls."""

    world: World

    async def _wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        for process in self.world.processes:
            await process.book.tick()


@dataclass(eq=False)
class Held:
    """A call under way."""

    hold: Hold
    api_key_id: str


@dataclass(eq=False)
class Process:
    """One process: its book, its calls under way, and what it has settled but not written."""

    gateway_id: str
    book: SteppedBook
    calls: list[Held] = field(default_factory=list)
    unwritten: list[CallRows] = field(default_factory=list)
    #: What the store has counted and the book has not heard of.
    charges: dict[WindowKey, int] = field(default_factory=dict)
    position: int = 0


class World:
    """Processes on one store, and what a budget is by plain sums."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = SetClock(NOON)
        self.caps = {"": 1_000_000, "one": 600_000, "two": 800_000}
        self.zone = "UTC"
        self.spent = dict.fromkeys(self.caps, 0)
        self.processes: list[Process] = []
        self.dead: list[Process] = []
        #: What a window had already when its cap was lowered below that.
        self.excused = dict.fromkeys(self.caps, 0)

    async def start(self) -> None:
        gateway_id = new_id()
        await GatewayRepository(self.store).register(gateway_id)
        book = SteppedBook(BudgetRepository(self.store), gateway_id, clock=self.clock, metrics=Metrics())
        book.world = self
        self.processes.append(Process(gateway_id, book))

    def call(self, api_key_id: str) -> CallContext:
        budgets = tuple(
            BudgetLimit("acme", owner, "day", self.caps[owner], self.zone) for owner in ("", api_key_id)
        )
        principal = Principal("acme", api_key_id, frozenset(), budgets=budgets)
        now = self.clock.now()
        return CallContext(new_id(), "CreateChatCompletion", principal, self.clock, now, now, now + 100)

    def in_flight(self, owner: str) -> int:
        """What is held, or may have been spent by dead processes, by the plain sum."""
        return sum(
            held.hold.nanos
            for process in (*self.processes, *self.dead)
            for held in process.calls
            if owner in {"", held.api_key_id}
        )

    def left(self, api_key_id: str) -> int:
        return min(self.caps[each] - self.spent[each] - self.in_flight(each) for each in ("", api_key_id))

    async def hold(self, process: Process, api_key_id: str, tokens: int) -> None:
        quiet = not self.dead and not any(each.calls for each in self.processes)
        left = self.left(api_key_id)
        ceiling = TokenCeiling(0, output_tokens=tokens)
        try:
            hold = await process.book.hold(self.call(api_key_id), MODEL, ceiling)
        except GatewayError as error:
            reason = error.reason_name
        else:
            if quiet and hold.max_output_tokens is not None:
                assert most_nanos(ceiling, MODEL.price) > left  # it was cut for want of money alone
            process.calls.append(Held(hold, api_key_id))
            return
        assert reason == "BUDGET_EXCEEDED"
        if quiet:
            assert most_nanos(TokenCeiling(0, output_tokens=1), MODEL.price) > left

    def settle(self, process: Process, call: Held, spent: int) -> None:
        process.calls.remove(call)
        spent = min(spent, call.hold.nanos)
        call.hold.settle(spent)
        self.count(call, spent)
        process.unwritten.append(rows(call, spent))

    def count(self, call: Held, spent: int) -> None:
        self.spent[""] += spent
        self.spent[call.api_key_id] += spent

    async def write(self, process: Process, *, heard: bool = True) -> None:
        """Writes a batch; its process hears of that at once, or after whatever comes between."""
        self.hear(process)
        calls, process.unwritten = process.unwritten, []
        if not calls:
            return
        process.position += 1
        process.book.settling({window for call in calls for window in call.charges})
        for _ in range(1 if heard else 2):  # a commit that was not heard of is tried again
            await Settlements(self.store).settle(process.gateway_id, process.position, calls, thresholds={})
        for call in calls:
            for window, nanos in call.charges.items():
                process.charges[window] = process.charges.get(window, 0) + nanos
        if heard:
            self.hear(process)

    def hear(self, process: Process) -> None:
        charges, process.charges = process.charges, {}
        process.book.settled(charges)

    async def tell_changes(self) -> None:
        """What the change feed does."""
        for process in self.processes:
            await process.book.on_changes(Changes(0, ("tenants/acme",)))

    async def end(self) -> None:
        """All calls end and are written: nothing stays leased to processes that live and have no calls."""
        for process in self.processes:
            for call in list(process.calls):
                self.settle(process, call, call.hold.nanos // 2)
            await self.write(process)
        self.clock.advance(31)  # longer than the idle time of any lease
        for process in self.processes:
            for _ in range(2):
                await process.book.tick()
        living = {process.gateway_id for process in self.processes}
        async with self.store.read() as connection:
            leases = (await connection.execute(select(budget_leases))).all()
        assert not [lease for lease in leases if lease.gateway_id in living and lease.leased_nanos]

    async def recover(self, process: Process) -> None:
        """Settles what a dead process left, its calls under way at all that they may have cost."""
        self.dead.remove(process)
        interrupted = [rows(call, call.hold.nanos) for call in process.calls]
        for call in process.calls:
            self.count(call, call.hold.nanos)
        process.calls = []
        await Settlements(self.store).finish(process.gateway_id, [*process.unwritten, *interrupted])

    async def check(self) -> None:
        for owner, cap in self.caps.items():
            assert self.spent[owner] + self.in_flight(owner) <= max(cap, self.excused[owner])
        async with self.store.read() as connection:
            windows = (await connection.execute(select(budget_windows))).all()
            leases = (await connection.execute(select(budget_leases))).all()
            swept = set(
                (await connection.execute(select(gateways.c.gateway_id).where(gateways.c.swept))).scalars()
            )
        for window in windows:
            assert window.spent_nanos >= 0
            assert window.leased_nanos >= 0
            owner = window.api_key_id
            assert window.spent_nanos + window.leased_nanos <= max(self.caps[owner], self.excused[owner])
            assert window.leased_nanos == sum(
                lease.leased_nanos
                for lease in leases
                if (lease.api_key_id, lease.start_time) == (owner, window.start_time)
                and lease.gateway_id not in swept
            )


def rows(call: Held, spent: int) -> CallRows:
    """As much of a settled call as budgets look at."""

    record = CallRecord(
        request_id=new_id(),
        tenant_id="acme",
        api_key_id=call.api_key_id,
        method="CreateChatCompletion",
        model="m",
        start_time=round(NOON * 1_000_000),
        latency=1,
        status_code=0,
    )
    made = rows_of(record)
    attempt: dict[str, Any] = dict.fromkeys(ATTEMPT_COLUMNS)
    attempt |= {
        "start_day": made.record["start_day"],
        "request_id": record.request_id,
        "attempt_number": 1,
        "tenant_id": "acme",
        "provider_id": "p",
        "provider_model": "m",
        "wait_micros": 0,
        "latency_micros": 1,
        "status_code": 0,
        "error_reason": "",
        "http_status": 200,
        "cost_nanos": spent,
    }
    made.record["cost_nanos"] = spent
    return CallRows(made.record, [attempt], dict.fromkeys(call.hold.windows, spent))


ATTEMPT_COLUMNS = [column.name for column in usage_attempts.columns]


class BudgetMachine(RuleBasedStateMachine):
    """Any order of what can happen."""

    backend = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()

    @initialize()
    def begin(self) -> None:
        store = self.runner.run(
            self.stack.enter_async_context(fresh_store(self.backend, Path(self.folder.name)))
        )
        self.world = World(store)
        for _ in range(2):
            self.runner.run(self.world.start())

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.runner.run(self.world.end())
        finally:
            self.close()

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    def pick(self, number: int) -> Process | None:
        processes = self.world.processes
        return processes[number % len(processes)] if processes else None

    @rule(which=st.integers(0, 3), key=st.sampled_from(KEYS), tokens=st.integers(1, 600_000))
    def hold(self, which: int, key: str, tokens: int) -> None:
        if process := self.pick(which):
            self.runner.run(self.world.hold(process, key, tokens))

    @rule(which=st.integers(0, 3), call=st.integers(0, 9), share=st.integers(0, 100))
    def settle(self, which: int, call: int, share: int) -> None:
        process = self.pick(which)
        if process and process.calls:
            chosen = process.calls[call % len(process.calls)]
            self.world.settle(process, chosen, chosen.hold.nanos * share // 100)

    @rule(which=st.integers(0, 3), heard=st.booleans())
    def write(self, which: int, heard: bool) -> None:
        if process := self.pick(which):
            self.runner.run(self.world.write(process, heard=heard))

    @rule(which=st.integers(0, 3))
    def hear(self, which: int) -> None:
        if process := self.pick(which):
            self.world.hear(process)

    @rule(which=st.integers(0, 3), seconds=st.floats(0, 5))
    def tick(self, which: int, seconds: float) -> None:
        self.world.clock.advance(seconds)
        if process := self.pick(which):
            self.runner.run(process.book.tick())

    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        process = self.pick(which)
        if process and len(self.world.processes) > 1:
            self.world.processes.remove(process)
            self.world.dead.append(process)

    @rule()
    def start(self) -> None:
        if len(self.world.processes) < 3:
            self.runner.run(self.world.start())

    @rule(which=st.integers(0, 3), twice=st.booleans())
    def sweep(self, which: int, twice: bool) -> None:
        """Also one that lives after all: it was only not heard of for long."""
        everybody = [*self.world.dead, *self.world.processes]
        gateway_id = everybody[which % len(everybody)].gateway_id
        refresh = GatewayRepository(self.world.store)

        async def run() -> None:
            await refresh.refresh("nobody", dead_after_seconds=-1 if twice else 3600)
            if not twice:
                await self.world.store.write_batch(lambda connection: _sweep_once(connection, gateway_id))

        self.runner.run(run())

    @rule(which=st.integers(0, 3))
    def recover(self, which: int) -> None:
        dead = self.world.dead
        if dead:
            self.runner.run(self.world.recover(dead[which % len(dead)]))

    @rule(owner=st.sampled_from(["", *KEYS]), cap=st.integers(0, 1_200_000))
    def change_cap(self, owner: str, cap: int) -> None:
        async def change() -> None:
            async with self.world.store.read() as connection:
                rows = (await connection.execute(select(budget_windows))).all()
            had = [row.spent_nanos + row.leased_nanos for row in rows if row.api_key_id == owner]
            self.world.excused[owner] = max(
                [*had, self.world.spent[owner] + self.world.in_flight(owner)], default=0
            )
            self.world.caps[owner] = cap
            await self.world.tell_changes()

        self.runner.run(change())

    @rule(zone=st.sampled_from(ZONES), which=st.integers(0, 3), key=st.sampled_from(KEYS))
    def change_zone(self, zone: str, which: int, key: str) -> None:
        """The next call may take all that is left, on windows that no call under way holds anything of."""
        self.world.zone = zone
        self.runner.run(self.world.tell_changes())
        self.hold(which, key, 600_000)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.runner.run(self.world.check())


def _sweep_once(connection: Any, gateway_id: str) -> None:

    swept = select(gateways.c.swept).where(gateways.c.gateway_id == gateway_id)
    if connection.execute(swept).scalar_one_or_none() is False:
        sweep(connection, gateway_id)


@pytest.mark.parametrize("backend", BACKENDS)
def test_budgets_hold_whatever_happens(backend: str) -> None:

    asyncio.run(load_time_zones(*ZONES))
    if backend == "postgresql":
        SERVICES.postgresql()
    machine = type("Machine", (BudgetMachine,), {"backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 if backend == "sqlite" else 8,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
