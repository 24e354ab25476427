"""Rows of ``budget_windows``: how windows are named, found, locked, added to and forgotten.

The functions on a ``Connection`` are steps of somebody else's transaction. All of them lock windows in the
order of their keys.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    BindParameter,
    FromClause,
    Row,
    Select,
    Update,
    bindparam,
    delete,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from gateway_server.storage.tables import budget_alerts, budget_leases, budget_windows

_FORGOTTEN_AT_ONCE: Final = 500
_MOST_NAMED: Final = 500


class WindowKey(NamedTuple):
    """One day or month of one budget. ``api_key_id`` is empty for the tenant's own; ``start_time`` is in
    microseconds since the epoch.
    """

    tenant_id: str
    api_key_id: str
    period: Literal["day", "month"]
    start_time: int


def lock_windows(connection: Connection, windows: Collection[WindowKey]) -> dict[WindowKey, Row[Any]]:
    """The windows, which nobody else changes until the transaction ends."""
    statement = bound_windows(locked=True)
    return {
        key_of(row): row
        for some in batches(windows)
        for row in connection.execute(statement, bound_among(some))
    }


def batches(windows: Iterable[WindowKey]) -> Iterator[tuple[WindowKey, ...]]:
    """The windows in the order of their keys, as many at a time as a statement can name.

    PostgreSQL takes 32,767 parameters, and SQLite takes long to look through a long list.
    """
    remaining = iter(sorted(windows))
    while some := tuple(islice(remaining, _MOST_NAMED)):
        yield some


def add_to_windows(
    connection: Connection, amounts: Mapping[WindowKey, int], *, spent: int = 0, leased: int = 0
) -> None:
    """Adds each window's amount, times the factors, to what is spent and leased."""
    if amounts:
        connection.execute(
            add_to_bound_window(),
            [
                {**bound(window), "spent": spent * nanos, "leased": leased * nanos}
                for window, nanos in sorted(amounts.items())
            ],
        )


def forget_windows(connection: Connection, before: int) -> int:
    """Deletes some windows, with their alerts, that ended before a time; how many, 0 when none are left.

    One that a process still has a lease on stays, since its journal may be found.
    """
    old = (
        select(*key_columns(budget_windows))
        .where(budget_windows.c.end_time < before, budget_windows.c.leased_nanos == 0)
        .where(~select(budget_leases).where(same_window(budget_leases, budget_windows)).exists())
        .limit(_FORGOTTEN_AT_ONCE)
    )
    windows = [WindowKey(*row) for row in connection.execute(old)]
    if windows:
        for table in (budget_alerts, budget_windows):
            connection.execute(delete(table).where(among(table, windows)))
    return len(windows)


# Statements that run for every batch and lease are made once: SQLAlchemy takes longer to make them, and to
# see that it knows them, than the database takes to run them.


@cache
def bound_windows(*, locked: bool = False) -> Select[Any]:
    """Those that ``bound_among`` names, in the order of their keys if locked."""
    statement = select(budget_windows).where(is_among(budget_windows))
    return statement.order_by(*key_columns(budget_windows)).with_for_update() if locked else statement


@cache
def add_to_bound_window() -> Update:
    """Adds ``spent`` and ``leased`` nanos to a ``bound`` window."""
    columns = budget_windows.c
    return (
        update(budget_windows)
        .where(is_bound(budget_windows))
        .values(
            spent_nanos=columns.spent_nanos + bindparam("spent"),
            leased_nanos=columns.leased_nanos + bindparam("leased"),
        )
    )


def key_of(row: Row[Any]) -> WindowKey:
    """The window of a row that has the four columns of its key."""
    return WindowKey(row.tenant_id, row.api_key_id, row.period, row.start_time)


def columns_of(window: WindowKey) -> dict[str, Any]:
    """A window's key as values of its columns."""
    return {
        "tenant_id": window.tenant_id,
        "api_key_id": window.api_key_id,
        "period": window.period,
        "start_time": window.start_time,
    }


def bound(window: WindowKey) -> dict[str, Any]:
    """A window as parameters of ``is_bound``."""
    return {f"b_{name}": value for name, value in columns_of(window).items()}


def key_columns(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """The columns of a window's key in a table that has them."""
    return table.c.tenant_id, table.c.api_key_id, table.c.period, table.c.start_time


def is_bound(table: FromClause) -> ColumnElement[bool]:
    """Whether a row is of the window that is ``bound`` later."""
    tenant_id, api_key_id, period, start_time = key_columns(table)
    return (
        (tenant_id == bindparam("b_tenant_id"))
        & (api_key_id == bindparam("b_api_key_id"))
        & (period == bindparam("b_period"))
        & (start_time == bindparam("b_start_time"))
    )


def is_among(table: FromClause) -> ColumnElement[bool]:
    """``among``, of windows that are bound later."""
    names = ("tenants", "api_keys", "windows")
    return _is_one_of(table, **{name: bindparam(name, expanding=True) for name in names})


def _is_one_of(
    table: FromClause,
    tenants: Sequence[str] | BindParameter[Any],
    api_keys: Sequence[str] | BindParameter[Any],
    windows: Sequence[tuple[Any, ...]] | BindParameter[Any],
) -> ColumnElement[bool]:
    # The first two are there for SQLite: it seeks single values, and reads a whole table for a list of rows.
    return (
        table.c.tenant_id.in_(tenants)
        & table.c.api_key_id.in_(api_keys)
        & tuple_(*key_columns(table)).in_(windows)
    )


def bound_among(windows: Collection[WindowKey]) -> dict[str, Any]:
    """Windows as parameters of ``is_among``."""
    return {
        "tenants": sorted({window.tenant_id for window in windows}),
        "api_keys": sorted({window.api_key_id for window in windows}),
        "windows": [tuple(columns_of(window).values()) for window in windows],
    }


def is_window(table: FromClause, window: WindowKey) -> ColumnElement[bool]:
    """Whether a row is of a window."""
    return tuple_(*key_columns(table)) == tuple_(*columns_of(window).values())


def among(table: FromClause, windows: Sequence[WindowKey]) -> ColumnElement[bool]:
    """Whether a row is of one of some windows."""
    return _is_one_of(table, **bound_among(windows))


def same_window(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    """Whether rows of two tables are of the same window."""
    pairs = zip(key_columns(one), key_columns(other), strict=True)
    first, *rest = (left == right for left, right in pairs)
    for condition in rest:
        first &= condition
    return first
