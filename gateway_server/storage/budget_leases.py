"""Rows of ``budget_leases``: what is leased of windows to which process, and how that is counted.

The functions are steps of somebody else's transaction.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Delete, Select, Update, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import Connection

from gateway_server.storage.budget_windows import (
    WindowKey,
    add_to_windows,
    batches,
    bound,
    bound_among,
    columns_of,
    is_among,
    is_bound,
    key_of,
)
from gateway_server.storage.inserts import insert_into
from gateway_server.storage.tables import budget_leases


def own_leases(
    connection: Connection, gateway_id: str, windows: Collection[WindowKey]
) -> dict[WindowKey, int]:
    """What one process has of some windows; those it has nothing of are left out."""
    return {
        key_of(row): row.leased_nanos
        for some in batches(windows)
        for row in connection.execute(_leases(), {"gateway": gateway_id, **bound_among(some)})
    }


def all_leases(connection: Connection, gateway_id: str) -> dict[WindowKey, int]:
    """What one process has of all windows."""
    statement = select(budget_leases).where(budget_leases.c.gateway_id == gateway_id)
    return {key_of(row): row.leased_nanos for row in connection.execute(statement)}


def lower_leases(
    connection: Connection, gateway_id: str, leases: Mapping[WindowKey, int], *, to: Mapping[WindowKey, int]
) -> dict[WindowKey, int]:
    """Gives back what leases are higher than they are to be; how much that was of each."""
    returned = {window: has - to[window] for window, has in leases.items() if has > to[window]}
    add_to_windows(connection, returned, leased=-1)
    take_from_leases(connection, gateway_id, leases, returned)
    return returned


def take_from_leases(
    connection: Connection, gateway_id: str, leases: Mapping[WindowKey, int], taken: Mapping[WindowKey, int]
) -> None:
    """Lowers what a process has leased; nothing stays of a lease that is taken whole."""
    own = [
        (leases[window] > nanos, {**bound(window), "gateway": gateway_id, "leased": -nanos})
        for window, nanos in sorted(taken.items())
    ]
    for statement, some in (
        (_add_to_bound_lease(), [each for is_kept, each in own if is_kept]),
        (_delete_leases(), [each for is_kept, each in own if not is_kept]),
    ):
        if some:
            connection.execute(statement, some)


def raise_leases(connection: Connection, gateway_id: str, granted: Mapping[WindowKey, int]) -> None:
    """Adds to what a process has leased, and to what windows have leased in all."""
    add_to_windows(connection, granted, leased=1)
    if granted:
        connection.execute(
            _grant_leases(connection.dialect.name),
            [
                {"gateway_id": gateway_id, **columns_of(window), "leased_nanos": nanos}
                for window, nanos in sorted(granted.items())
            ],
        )


@cache
def _leases() -> Select[Any]:
    """Those of one process on some windows."""
    return select(budget_leases).where(
        budget_leases.c.gateway_id == bindparam("gateway"), is_among(budget_leases)
    )


@cache
def _add_to_bound_lease() -> Update:
    """Adds ``leased`` nanos to the lease of ``gateway`` on a ``bound`` window."""
    return (
        update(budget_leases)
        .where(budget_leases.c.gateway_id == bindparam("gateway"), is_bound(budget_leases))
        .values(leased_nanos=budget_leases.c.leased_nanos + bindparam("leased"))
    )


@cache
def _delete_leases() -> Delete:
    return delete(budget_leases).where(
        budget_leases.c.gateway_id == bindparam("gateway"), is_bound(budget_leases)
    )


@cache
def _grant_leases(dialect: str) -> SqliteInsert | PostgresqlInsert:
    """Adds to leases, or makes them."""
    statement = insert_into(budget_leases, dialect)
    return statement.on_conflict_do_update(
        index_elements=list(budget_leases.primary_key),
        set_={"leased_nanos": budget_leases.c.leased_nanos + statement.excluded.leased_nanos},
    )
