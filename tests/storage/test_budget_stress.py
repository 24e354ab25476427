"""Callers, ticks, changes, lost answers and late ledgers all at once, in several processes on one store.

The laws of budgets let one step end before the next; here whatever can meet does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import select

from aigateway.v1.model_pb2 import Model, Price
from gateway_server.call import BudgetLimit, CallContext, Principal
from gateway_server.clock import SystemClock
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.windows import window_of
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant, WindowState
from gateway_server.storage.changes import Changes
from gateway_server.storage.engine import Store, store_unavailable
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.spendings import Spending, settle_spendings
from gateway_server.storage.tables import budget_leases, budget_windows
from gateway_server.storage.times import micros_of_seconds
from gateway_server.usage.ceiling import TokenCeiling, most_nanos

MODEL: Final = Model(name="providers/p/models/m", price=Price(input_nanos_per_million=1_000_000))
#: Nanos that a hold has for roundings: see ``usage/ceiling.py``.
ROUNDING: Final = 4
OWNERS: Final = ("", "one", "two")
CALLERS: Final = 12
SECONDS: Final = 3.0
#: A day of its own, so that no midnight comes between.
NOON: Final = 1_760_011_200.0
DAY, DAY_END = window_of(micros_of_seconds(NOON), period="day", time_zone="UTC")


class NoonClock(SystemClock):
    """It is noon."""

    def now(self) -> float:
        return NOON


class Unsteady(BudgetRepository):
    """Takes its time, and now and then does not tell what it has done."""

    def __init__(self, store: Store, draw: random.Random) -> None:
        super().__init__(store)
        self._draw = draw
        self.failures = draw.choice((0.0, 0.1))

    async def extend(
        self, gateway_id: str, wants: Sequence[LeaseWant], needs: Sequence[LeaseNeed]
    ) -> dict[WindowKey, WindowState]:
        await self._pause()
        states = await super().extend(gateway_id, wants, needs)
        await self._end()
        return states

    async def keep(self, gateway_id: str, leases: Mapping[WindowKey, int]) -> None:
        await self._pause()
        await super().keep(gateway_id, leases)
        await self._end()

    async def read_recalls(self, gateway_id: str) -> dict[WindowKey, int]:
        recalls = await super().read_recalls(gateway_id)
        await self._pause()
        return recalls

    async def _pause(self) -> None:
        await asyncio.sleep(self._draw.choice((0, 0, 0.005, 0.03)))

    async def _end(self) -> None:
        await self._pause()
        if self._draw.random() < self.failures:
            raise store_unavailable()


class Process:
    """One process: its book, and a ledger that counts late and hears of it later still."""

    def __init__(self, store: Store, draw: random.Random, caps: Mapping[str, int]) -> None:
        self.gateway_id = new_id()
        self.repository = Unsteady(store, draw)
        self._clock = NoonClock()
        self.book = BudgetBook(self.repository, self.gateway_id, clock=self._clock, metrics=Metrics())
        self._store = store
        self._draw = draw
        self._caps = caps
        self.unwritten: list[tuple[str, int]] = []

    async def hold(self, nanos: int, api_key_id: str) -> Any:
        """Sets aside so much on the tenant's day and the key's."""
        budgets = tuple(
            BudgetLimit("acme", owner, "day", self._caps[owner], "UTC") for owner in ("", api_key_id)
        )
        now = self._clock.monotonic()
        principal = Principal("acme", api_key_id, frozenset(), budgets=budgets)
        call = CallContext(new_id(), "CreateChatCompletion", principal, self._clock, NOON, now, now + 30)
        ceiling = TokenCeiling(nanos - ROUNDING)
        assert most_nanos(ceiling, MODEL.price) == nanos
        return await self.book.hold(call, MODEL, ceiling)

    async def write(self, *, until: asyncio.Event) -> None:
        """Counts what calls cost, in batches."""
        while not until.is_set() or self.unwritten:
            await asyncio.sleep(self._draw.choice((0.01, 0.1, 0.2)))
            batch, self.unwritten = self.unwritten, []
            spendings = [
                Spending("acme", key, micros_of_seconds(NOON), nanos, charges=charges_of(key, nanos))
                for key, nanos in batch
            ]
            charges: dict[WindowKey, int] = {}
            for spending in spendings:
                for window, nanos in spending.charges.items():
                    charges[window] = charges.get(window, 0) + nanos
            self.book.settling(charges)
            await self._store.write_batch(
                partial(settle_spendings, gateway_id=self.gateway_id, spendings=spendings)
            )
            await asyncio.sleep(self._draw.choice((0, 0, 0.05, 0.4)))  # as after a lost answer
            self.book.settled(charges)


def charges_of(api_key_id: str, nanos: int) -> dict[WindowKey, int]:
    return {WindowKey("acme", owner, "day", DAY): nanos for owner in ("", api_key_id)}


class Counts:
    """What callers hold and have spent, by owner, and what was ever above a cap."""

    def __init__(self, caps: Mapping[str, int]) -> None:
        self._caps = caps
        self._held = dict.fromkeys(OWNERS, 0)
        self.spent = dict.fromkeys(OWNERS, 0)
        self.overdrawn: list[tuple[str, int]] = []
        self.served = 0

    def held(self, api_key_id: str, nanos: int) -> None:
        self.served += 1
        for owner in ("", api_key_id):
            self._held[owner] += nanos
            self.check(owner, self.spent[owner] + self._held[owner])

    def ended(self, api_key_id: str, held: int, spent: int) -> None:
        for owner in ("", api_key_id):
            self._held[owner] -= held
            self.spent[owner] += spent

    def check(self, owner: str, nanos: int) -> None:
        if nanos > self._caps[owner]:
            self.overdrawn.append((owner, nanos))

    def left(self, api_key_id: str) -> int:
        """What a call of the key could still hold, were nothing under way."""
        return min(self._caps[owner] - self.spent[owner] for owner in ("", api_key_id))


async def call(processes: Sequence[Process], counts: Counts, draw: random.Random) -> None:
    """One caller's next call: it may lose patience, be refused, cost less than was held, or nothing."""
    its, key, nanos = draw.choice(processes), draw.choice(OWNERS[1:]), draw.choice((10, 50, 200, 1_000))
    try:
        async with asyncio.timeout(draw.choice((0.02, 5, 5))):
            hold = await its.hold(nanos, key)
    except (TimeoutError, GatewayError):
        await asyncio.sleep(0.05)
        return
    counts.held(key, nanos)
    await asyncio.sleep(draw.choice((0, 0.01, 0.1)))
    spent = draw.choice((0, nanos, nanos // 10, nanos // 2))
    hold.settle(spent)
    counts.ended(key, nanos, spent)
    if spent:
        its.unwritten.append((key, spent))
    await asyncio.sleep(draw.choice((0, 0.02, 0.3)))


async def watch(store: Store, counts: Counts) -> None:
    async with store.read() as connection:
        for row in (await connection.execute(select(budget_windows))).all():
            counts.check(row.api_key_id, row.spent_nanos + row.leased_nanos)
    await asyncio.sleep(0.02)


async def change(processes: Sequence[Process], draw: random.Random) -> None:
    await asyncio.sleep(draw.choice((0.05, 0.5)))
    await draw.choice(processes).book.on_changes(Changes(1, ("tenants/acme",)))


async def pay(its: Process, api_key_id: str, nanos: int) -> None:
    """All that is left can be paid, once others have had time to give back what they have."""
    async with asyncio.timeout(20):
        while True:
            try:
                (await its.hold(nanos, api_key_id)).settle(0)
            except GatewayError:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_meets_whatever(store: Store, seed: int) -> None:
    draw = random.Random(seed)
    caps = {"": draw.choice((3_000, 20_000)), "one": draw.choice((2_000, 15_000)), "two": 2_500}
    processes = [Process(store, draw, caps) for _ in range(3 - seed)]
    counts, ends = Counts(caps), asyncio.Event()
    async with AsyncExitStack() as stack:
        for each in processes:
            await GatewayRepository(store).register(each.gateway_id)
            await each.book.start()
            stack.push_async_callback(each.book.close)

        async def until_end(step: Any, *arguments: Any) -> None:
            while not ends.is_set():
                await step(*arguments)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(until_end(call, processes, counts, draw))
            tasks.create_task(until_end(watch, store, counts))
            tasks.create_task(until_end(change, processes, draw))
            for each in processes:
                tasks.create_task(each.write(until=ends))
            await asyncio.sleep(SECONDS)
            ends.set()
        for each in processes:  # what was written last
            await each.write(until=ends)
            each.repository.failures = 0.0
        assert counts.overdrawn == []
        assert counts.served > CALLERS
        for key in OWNERS[1:]:
            for each in processes:
                if (left := counts.left(key)) > ROUNDING:
                    await pay(each, key, left)
        async with asyncio.timeout(20):
            while await leased(store):
                await asyncio.sleep(0.1)


async def leased(store: Store) -> int:
    async with store.read() as connection:
        rows = (await connection.execute(select(budget_leases))).all()
    return sum(row.leased_nanos for row in rows)
