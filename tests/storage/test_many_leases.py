"""A process with leases on more windows than a statement can name."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, select, update

from gateway_server.storage.budget_windows import WindowKey, columns_of
from gateway_server.storage.budgets import BudgetRepository
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import budget_leases, budget_windows, gateways

#: PostgreSQL takes 32,767 parameters, and a window has four.
WINDOWS: Final = [
    WindowKey(f"t{number // 4:05d}", "" if number % 4 < 2 else "k", ("day", "month")[number % 2], 0)
    for number in range(9_000)
]


async def lease_all(store: Store, gateway_id: str) -> None:
    """Five nanos of each."""

    def fill(connection: Connection) -> None:
        ends = {"end_time": 2**60, "spent_nanos": 0, "leased_nanos": 5}
        connection.execute(insert(budget_windows), [{**columns_of(each), **ends} for each in WINDOWS])
        own = {"gateway_id": gateway_id, "leased_nanos": 5}
        connection.execute(insert(budget_leases), [{**columns_of(each), **own} for each in WINDOWS])

    await GatewayRepository(store).register(gateway_id)
    await store.write_batch(fill)


async def sums(store: Store) -> tuple[int, int, int]:
    """What windows have as spent and as leased, and what processes have leased."""
    columns = budget_windows.c
    async with store.read() as connection:
        spent, leased = (
            await connection.execute(select(func.sum(columns.spent_nanos), func.sum(columns.leased_nanos)))
        ).one()
        own = (await connection.execute(select(func.sum(budget_leases.c.leased_nanos)))).scalar_one()
    return int(spent), int(leased), int(own or 0)


async def test_all_are_given_back_at_once(store: Store) -> None:
    await lease_all(store, "a")
    await BudgetRepository(store).keep("a", dict.fromkeys(WINDOWS[1:], 1) | {WINDOWS[0]: 0})
    assert await sums(store) == (0, len(WINDOWS) - 1, len(WINDOWS) - 1)


async def test_a_process_that_ends_leaves_none(store: Store) -> None:
    await lease_all(store, "a")
    await Settlements(store).finish("a")
    assert await sums(store) == (0, 0, 0)


async def test_a_process_that_is_not_heard_of_is_swept(store: Store) -> None:
    await lease_all(store, "dead")
    await store.write_batch(lambda connection: connection.execute(update(gateways).values(seen_time=0)))
    assert await GatewayRepository(store).refresh("live", dead_after_seconds=60) == ("dead",)
    assert await sums(store) == (5 * len(WINDOWS), 0, 5 * len(WINDOWS))
    await Settlements(store).finish("dead")  # its journal is found after all
    assert await sums(store) == (0, 0, 0)
