"""What settled calls count for budgets: windows are charged, leases go down, alerts are raised.

The functions are steps of somebody else's transaction, which has the settling lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.engine import Connection

from gateway_server.storage.budget_leases import own_leases, take_from_leases
from gateway_server.storage.budget_windows import (
    WindowKey,
    add_to_bound_window,
    among,
    bound,
    columns_of,
    key_columns,
    key_of,
    lock_windows,
)
from gateway_server.storage.database_clock import database_now
from gateway_server.storage.inserts import insert_once
from gateway_server.storage.sweeps import unsweep_if_swept
from gateway_server.storage.tables import budget_alerts, budget_windows


@dataclass(frozen=True, slots=True)
class Spending:
    """What one settled call cost, and on which windows it was held."""

    tenant_id: str
    api_key_id: str
    start_time: int
    nanos: int
    charges: Mapping[WindowKey, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """A share of a budget that was reached for the first time in a window."""

    window: WindowKey
    percentage: int


def settle_spendings(connection: Connection, gateway_id: str, spendings: Sequence[Spending]) -> None:
    """Counts what calls cost: where it was held, out of the process's leases; on their other windows on top.

    What is more than was leased only adds to what is spent.
    """
    costly = [spending for spending in spendings if spending.nanos]
    if not costly:
        return
    leased: dict[WindowKey, int] = {}
    for spending in costly:
        for window, nanos in spending.charges.items():
            leased[window] = leased.get(window, 0) + nanos
    costs = dict(leased)
    for window, nanos in _unheld(connection, costly):
        costs[window] = costs.get(window, 0) + nanos
    if not costs:
        return
    unsweep_if_swept(connection, gateway_id)
    lock_windows(connection, costs)
    own = own_leases(connection, gateway_id, leased)
    returned = {window: min(has, leased[window]) for window, has in own.items()}
    connection.execute(
        add_to_bound_window(),
        [
            {**bound(window), "spent": nanos, "leased": -returned.get(window, 0)}
            for window, nanos in sorted(costs.items())
        ],
    )
    take_from_leases(connection, gateway_id, own, returned)


def raise_alerts(
    connection: Connection, thresholds: Mapping[WindowKey, Sequence[tuple[int, int]]]
) -> list[Alert]:
    """Notes which shares of budgets have been reached by now; gives those that nobody noted before.

    ``thresholds`` are percentages with their nanos. To be called after the windows were charged.
    """
    if not thresholds:
        return []
    rows = connection.execute(select(budget_windows).where(among(budget_windows, list(thresholds)))).all()
    reached = [
        Alert(window, percentage)
        for row in rows
        for window in [key_of(row)]
        for percentage, nanos in thresholds[window]
        if row.spent_nanos >= nanos
    ]
    if not reached:
        return []
    known = {
        Alert(key_of(row), row.percentage)
        for row in connection.execute(select(budget_alerts).where(among(budget_alerts, list(thresholds))))
    }
    fresh = [alert for alert in reached if alert not in known]
    raised = []
    now = database_now(connection.dialect.name)
    for alert in sorted(fresh, key=lambda each: (each.window, each.percentage)):
        statement = insert_once(budget_alerts, connection.dialect.name).values(
            **columns_of(alert.window), percentage=alert.percentage, raise_time=now
        )
        if connection.execute(statement).rowcount == 1:  # else another process was first
            raised.append(alert)
    return raised


def _unheld(connection: Connection, spendings: Sequence[Spending]) -> list[tuple[WindowKey, int]]:
    """What calls cost on windows that they began in beyond what was held there: those are newer."""
    bound = {
        "tenants": sorted({spending.tenant_id for spending in spendings}),
        "api_keys": sorted({"", *(spending.api_key_id for spending in spendings)}),
        "time": min(spending.start_time for spending in spendings),
    }
    ends: dict[str, list[tuple[WindowKey, int]]] = {}
    for row in connection.execute(_later_windows(), bound):
        ends.setdefault(row.tenant_id, []).append((key_of(row), row.end_time))
    return [
        (window, unheld)
        for spending in spendings
        for window, end_time in ends.get(spending.tenant_id, ())
        if window.api_key_id in {"", spending.api_key_id}
        and window.start_time <= spending.start_time < end_time
        and (unheld := spending.nanos - spending.charges.get(window, 0)) > 0
    ]


@cache
def _later_windows() -> Select[Any]:
    """Those of some owners that had not ended at a time."""
    columns = budget_windows.c
    return select(*key_columns(budget_windows), columns.end_time).where(
        columns.tenant_id.in_(bindparam("tenants", expanding=True)),
        columns.api_key_id.in_(bindparam("api_keys", expanding=True)),
        columns.end_time > bindparam("time"),
    )
