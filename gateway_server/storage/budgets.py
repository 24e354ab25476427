"""Rows of budgets: windows, and what is leased of them to which process. See docs/decisions/money.md.

The functions on a ``Connection`` are steps of somebody else's transaction; the repository has its own. All of
them lock windows in the order of their keys.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Delete,
    FromClause,
    Row,
    Select,
    Update,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from gateway_server.storage.engine import Store
from gateway_server.storage.inserts import insert_into, insert_once
from gateway_server.storage.past_costs import cost_between
from gateway_server.storage.tables import (
    budget_alerts,
    budget_leases,
    budget_windows,
    gateways,
)
from gateway_server.storage.times import MICROS_OF_A_DAY

#: On PostgreSQL, held by every transaction that settles (shared) and by one that makes a window (alone), so
#: that a window begins with all that is settled; any number that nobody else uses.
_SETTLING_LOCK: Final = 5_005_100_002

#: Of what is left in a window, a process gets at most this share ahead of its need, divided by all processes.
_SHARE_OF_ROOM: Final = 4

_FORGOTTEN_AT_ONCE: Final = 500

#: No window is as long.
_LONGEST: Final[Mapping[str, int]] = {"day": 2 * MICROS_OF_A_DAY, "month": 32 * MICROS_OF_A_DAY}

_Lock = Literal["none", "shared", "alone"]


class WindowKey(NamedTuple):
    """One day or month of one budget. ``api_key_id`` is empty for the tenant's own; ``start_time`` is in
    microseconds since the epoch.
    """

    tenant_id: str
    api_key_id: str
    period: Literal["day", "month"]
    start_time: int


@dataclass(frozen=True, slots=True)
class LeaseWant:
    """What a process wants of one window.

    ``leased_nanos`` is what it counts on having now: what the store has beyond that was granted without being
    heard of, and is taken back. Either ``need_nanos`` more are granted, or nothing on any window; ahead of
    the need, up to ``ahead_nanos`` if there is plenty.
    """

    window: WindowKey
    end_time: int
    limit_nanos: int
    leased_nanos: int
    need_nanos: int
    ahead_nanos: int = 0


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window as a transaction left it. ``granted_nanos`` is what this process got more."""

    spent_nanos: int
    leased_nanos: int
    own_leased_nanos: int
    granted_nanos: int = 0

    @property
    def others_leased_nanos(self) -> int:
        """What other processes have."""
        return self.leased_nanos - self.own_leased_nanos


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


class BudgetRepository:
    """Rows of ``budget_windows`` and ``budget_leases``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def extend(self, gateway_id: str, wants: Sequence[LeaseWant]) -> dict[WindowKey, WindowState]:
        """Leases more of some windows, all or none; gives them as they are then.

        Nothing was granted where ``granted_nanos`` is 0 although something was needed.
        """
        return await self._store.write_batch(lambda connection: _extend(connection, gateway_id, wants))

    async def keep(self, gateway_id: str, leases: Mapping[WindowKey, int]) -> None:
        """Gives back what the store has of these leases beyond what the process still counts on."""

        def give_back(connection: Connection) -> None:
            unsweep_if_swept(connection, gateway_id)
            _lock_windows(connection, leases)
            _lower_leases(connection, gateway_id, _own_leases(connection, gateway_id, leases), to=leases)

        if leases:
            await self._store.write_batch(give_back)

    async def recall(self, window: WindowKey) -> None:
        """Asks all processes to give back what they do not hold of a window, and of those that overlap it."""
        own, columns = budget_windows.alias("own"), budget_windows.c
        end_time = select(own.c.end_time).where(_is(own, window)).scalar_subquery()
        async with self._store.write() as connection:
            await connection.execute(
                update(budget_windows)
                .where(
                    columns.tenant_id == window.tenant_id,
                    columns.api_key_id == window.api_key_id,
                    columns.period == window.period,
                    columns.start_time > window.start_time - _LONGEST[window.period],
                    columns.start_time < end_time,
                    columns.end_time > window.start_time,
                )
                .values(recall_time=database_now(self._store.dialect))
            )

    async def read_recalls(self, gateway_id: str) -> dict[WindowKey, int]:
        """When windows that this process has leases on were last recalled."""
        columns = budget_windows.c
        statement = (
            select(budget_windows)
            .join(budget_leases, _same_window(budget_leases, budget_windows))
            .where(budget_leases.c.gateway_id == gateway_id, columns.recall_time.is_not(None))
        )
        async with self._store.read() as connection:
            rows = (await connection.execute(statement)).all()
        return {_key_of(row): row.recall_time for row in rows}

    async def states(self, gateway_id: str, windows: Sequence[WindowKey]) -> dict[WindowKey, WindowState]:
        """The windows as they are now; those that nobody has used yet are left out."""
        if not windows:
            return {}
        own = budget_leases.alias("own")
        statement = (
            select(budget_windows, own.c.leased_nanos.label("own_leased_nanos"))
            .outerjoin(own, _same_window(own, budget_windows) & (own.c.gateway_id == gateway_id))
            .where(_among(budget_windows, windows))
        )
        async with self._store.read() as connection:
            rows = (await connection.execute(statement)).all()
        return {
            _key_of(row): WindowState(row.spent_nanos, row.leased_nanos, row.own_leased_nanos or 0)
            for row in rows
        }

    async def raise_alerts(self, thresholds: Mapping[WindowKey, Sequence[tuple[int, int]]]) -> list[Alert]:
        """As the function of that name, in a transaction of its own."""
        return await self._store.write_batch(lambda connection: raise_alerts(connection, thresholds))

    async def spent_before(self, window: WindowKey, end_time: int) -> int:
        """What a window that nobody has used yet begins with."""
        async with self._store.read() as connection:
            return await connection.run_sync(_spent_before, window, end_time)


def lock_for_settling(connection: Connection) -> None:
    """Keeps windows from being made until the transaction ends: to be taken before rows are written."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:n)"), {"n": _SETTLING_LOCK})


def lock_out_settling(connection: Connection) -> None:
    """Keeps everybody from settling until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _SETTLING_LOCK})


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
    _lock_windows(connection, costs)
    own = _own_leases(connection, gateway_id, leased)
    returned = {window: min(has, leased[window]) for window, has in own.items()}
    connection.execute(
        _add_to_windows(),
        [
            {**_bound(window), "spent": nanos, "leased": -returned.get(window, 0)}
            for window, nanos in sorted(costs.items())
        ],
    )
    if returned:
        connection.execute(
            _add_to_leases(),
            [
                {**_bound(window), "gateway": gateway_id, "leased": -nanos}
                for window, nanos in sorted(returned.items())
            ],
        )


def raise_alerts(
    connection: Connection, thresholds: Mapping[WindowKey, Sequence[tuple[int, int]]]
) -> list[Alert]:
    """Notes which shares of budgets have been reached by now; gives those that nobody noted before.

    ``thresholds`` are percentages with their nanos. To be called after the windows were charged.
    """
    if not thresholds:
        return []
    rows = connection.execute(select(budget_windows).where(_among(budget_windows, list(thresholds)))).all()
    reached = [
        Alert(window, percentage)
        for row in rows
        for window in [_key_of(row)]
        for percentage, nanos in thresholds[window]
        if row.spent_nanos >= nanos
    ]
    if not reached:
        return []
    known = {
        Alert(_key_of(row), row.percentage)
        for row in connection.execute(select(budget_alerts).where(_among(budget_alerts, list(thresholds))))
    }
    fresh = [alert for alert in reached if alert not in known]
    raised = []
    now = database_now(connection.dialect.name)
    for alert in sorted(fresh, key=lambda each: (each.window, each.percentage)):
        statement = insert_once(budget_alerts, connection.dialect.name).values(
            **_columns(alert.window), percentage=alert.percentage, raise_time=now
        )
        if connection.execute(statement).rowcount == 1:  # else another process was first
            raised.append(alert)
    return raised


def release_leases(connection: Connection, gateway_id: str) -> None:
    """Gives back all that a process had leased: it has ended, and all it spent is settled."""
    # Its last transaction may outlive it by a moment.
    connection.execute(select(gateways.c.swept).where(gateways.c.gateway_id == gateway_id).with_for_update())
    unsweep_if_swept(connection, gateway_id)
    leases = _all_leases(connection, gateway_id)
    _lock_windows(connection, leases)
    _add(connection, leases, leased=-1)
    connection.execute(delete(budget_leases).where(budget_leases.c.gateway_id == gateway_id))


def sweep(connection: Connection, gateway_id: str) -> None:
    """Counts all that a process had leased as spent, as nobody knows better; ``unsweep`` is the reverse.

    Whoever sweeps has the process's row ``FOR UPDATE``: its leases must not change meanwhile.
    """
    _move_all(connection, gateway_id, spent=1, leased=-1)
    connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(swept=True))


def unsweep(connection: Connection, gateway_id: str) -> None:
    """Takes a sweep back: the process, or its journal, is there after all."""
    _move_all(connection, gateway_id, spent=-1, leased=1)
    connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(swept=False))


def unsweep_if_swept(connection: Connection, gateway_id: str) -> None:
    """Takes a sweep of the process back if there was one; there is none from here to the transaction's end.

    To be called before leases are read or changed: what is swept is moved as a whole.
    """
    if _lock_gateway(connection, gateway_id):
        unsweep(connection, gateway_id)


def forget_windows(connection: Connection, before: int) -> int:
    """Deletes some windows, with their alerts, that ended before a time; how many, 0 when none are left.

    One that a process still has a lease on stays, since its journal may be found.
    """
    old = (
        select(*_key_columns(budget_windows))
        .where(budget_windows.c.end_time < before, budget_windows.c.leased_nanos == 0)
        .where(~select(budget_leases).where(_same_window(budget_leases, budget_windows)).exists())
        .limit(_FORGOTTEN_AT_ONCE)
    )
    windows = [WindowKey(*row) for row in connection.execute(old)]
    if windows:
        for table in (budget_alerts, budget_windows):
            connection.execute(delete(table).where(_among(table, windows)))
    return len(windows)


def database_now(dialect: str) -> ColumnElement[int]:
    """The database's own clock, in microseconds since the epoch, as an expression."""
    if dialect == "postgresql":
        return literal_column("(extract(epoch from clock_timestamp()) * 1000000)::bigint", BigInteger)
    return literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", BigInteger)


def _extend(
    connection: Connection, gateway_id: str, wants: Sequence[LeaseWant]
) -> dict[WindowKey, WindowState]:
    wanted = {want.window: want for want in wants}
    swept = _lock_gateway(connection, gateway_id)
    _make_windows(connection, wants)
    if swept:
        unsweep(connection, gateway_id)
    touched = _bound_overlapping(wants)
    rows = {_key_of(row): row for row in connection.execute(_lock_overlapping(), touched)}
    leases = connection.execute(_leases_on_overlapping(), {"gateway": gateway_id, **touched}).all()
    own = {_key_of(row): int(row.own_nanos) for row in leases if _key_of(row) in wanted and row.own_nanos}
    heard = {window: wanted[window].leased_nanos for window in own}
    unheard = _lower_leases(connection, gateway_id, own, to=heard)
    states = {
        window: WindowState(
            rows[window].spent_nanos,
            rows[window].leased_nanos - unheard.get(window, 0) + _leased_elsewhere(want, leases),
            own.get(window, 0) - unheard.get(window, 0),
        )
        for window, want in wanted.items()
    }
    if any(
        want.limit_nanos - states[window].spent_nanos - states[window].leased_nanos < want.need_nanos
        for window, want in wanted.items()
    ):
        return states
    processes = _count_living(connection)
    granted: dict[WindowKey, int] = {}
    for window, want in wanted.items():
        state = states[window]
        room = want.limit_nanos - state.spent_nanos - state.leased_nanos
        nanos = max(want.need_nanos, min(want.ahead_nanos, room // (_SHARE_OF_ROOM * processes)))
        if nanos:
            granted[window] = nanos
        states[window] = WindowState(
            state.spent_nanos, state.leased_nanos + nanos, state.own_leased_nanos + nanos, nanos
        )
    _raise_leases(connection, gateway_id, granted)
    return states


def _leased_elsewhere(want: LeaseWant, leases: Iterable[Row[Any]]) -> int:
    """What is leased on other windows of the same budget that overlap, as after a change of the time zone.

    What calls spend of it comes to this window too: see ``_unheld``.
    """
    return sum(
        int(row.all_nanos)
        for row in leases
        for other in [_key_of(row)]
        if other != want.window
        and other[:3] == want.window[:3]
        and other.start_time < want.end_time
        and row.end_time > want.window.start_time
    )


def _count_living(connection: Connection) -> int:
    count: int = connection.execute(_living()).scalar_one()
    return max(count, 1)


def _make_windows(connection: Connection, wants: Iterable[LeaseWant]) -> None:
    """Makes windows that are not there, with what was spent in them before."""
    wanted = {want.window: want for want in wants}
    rows = connection.execute(_windows(), _bound_among(wanted))
    there = {_key_of(row) for row in rows}
    missing = sorted(wanted.keys() - there)
    if not missing:
        return
    lock_out_settling(connection)
    for window in missing:
        connection.execute(
            insert_once(budget_windows, connection.dialect.name).values(
                **_columns(window),
                end_time=wanted[window].end_time,
                spent_nanos=_spent_before(connection, window, wanted[window].end_time),
                leased_nanos=0,
            )
        )


def _spent_before(connection: Connection, window: WindowKey, end_time: int) -> int:
    return cost_between(connection, window.tenant_id, window.api_key_id, window.start_time, end_time)


def _unheld(connection: Connection, spendings: Sequence[Spending]) -> list[tuple[WindowKey, int]]:
    """What calls cost on windows that they began in without money being held there: those are newer."""
    statement = select(budget_windows).where(
        budget_windows.c.tenant_id.in_({spending.tenant_id for spending in spendings}),
        budget_windows.c.api_key_id.in_({"", *(spending.api_key_id for spending in spendings)}),
        budget_windows.c.end_time > min(spending.start_time for spending in spendings),
    )
    rows_of: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(statement):
        rows_of.setdefault(row.tenant_id, []).append(row)
    return [
        (window, spending.nanos)
        for spending in spendings
        for row in rows_of.get(spending.tenant_id, ())
        if row.api_key_id in {"", spending.api_key_id}
        and row.start_time <= spending.start_time < row.end_time
        for window in [_key_of(row)]
        if window not in spending.charges
    ]


def _lock_windows(connection: Connection, windows: Collection[WindowKey]) -> dict[WindowKey, Row[Any]]:
    """The windows, which nobody else changes until the transaction ends."""
    rows = connection.execute(_windows(locked=True), _bound_among(windows))
    return {_key_of(row): row for row in rows}


def _own_leases(
    connection: Connection, gateway_id: str, windows: Collection[WindowKey]
) -> dict[WindowKey, int]:
    rows = connection.execute(_leases(), {"gateway": gateway_id, **_bound_among(windows)})
    return {_key_of(row): row.leased_nanos for row in rows}


def _all_leases(connection: Connection, gateway_id: str) -> dict[WindowKey, int]:
    statement = select(budget_leases).where(budget_leases.c.gateway_id == gateway_id)
    return {_key_of(row): row.leased_nanos for row in connection.execute(statement)}


def _lower_leases(
    connection: Connection, gateway_id: str, leases: Mapping[WindowKey, int], *, to: Mapping[WindowKey, int]
) -> dict[WindowKey, int]:
    """Gives back what leases are higher than they are to be; how much that was of each."""
    returned = {window: has - to[window] for window, has in leases.items() if has > to[window]}
    _add(connection, returned, leased=-1)
    own = [{**_bound(window), "gateway": gateway_id, "leased": -returned[window]} for window in returned]
    kept = [each for each, window in zip(own, returned, strict=True) if to[window]]
    if kept:
        connection.execute(_add_to_leases(), kept)
    gone = [each for each, window in zip(own, returned, strict=True) if not to[window]]
    if gone:
        connection.execute(_delete_leases(), gone)
    return returned


def _raise_leases(connection: Connection, gateway_id: str, granted: Mapping[WindowKey, int]) -> None:
    _add(connection, granted, leased=1)
    if granted:
        connection.execute(
            _grant_leases(connection.dialect.name),
            [
                {"gateway_id": gateway_id, **_columns(window), "leased_nanos": nanos}
                for window, nanos in sorted(granted.items())
            ],
        )


def _lock_gateway(connection: Connection, gateway_id: str) -> bool:
    """Keeps a process from being swept until the transaction ends; True when it has been, and no other
    transaction is about to take that back.

    Comes before all other locks. Transactions of one process do not wait for each other here.
    """
    locks: tuple[_Lock, ...] = ("none", "shared") if connection.dialect.name == "postgresql" else ("none",)
    own = {"gateway": gateway_id}
    if any(connection.execute(_swept(lock), own).scalar_one_or_none() for lock in locks):
        return bool(connection.execute(_swept("alone"), own).scalar_one_or_none())
    return False


def _move_all(connection: Connection, gateway_id: str, *, spent: int, leased: int) -> None:
    leases = _all_leases(connection, gateway_id)
    _lock_windows(connection, leases)
    _add(connection, leases, spent=spent, leased=leased)


def _add(
    connection: Connection, amounts: Mapping[WindowKey, int], *, spent: int = 0, leased: int = 0
) -> None:
    """Adds each window's amount, times the factors, to what is spent and leased."""
    if amounts:
        connection.execute(
            _add_to_windows(),
            [
                {**_bound(window), "spent": spent * nanos, "leased": leased * nanos}
                for window, nanos in sorted(amounts.items())
            ],
        )


# Statements that run for every batch and lease are made once: SQLAlchemy takes longer to make them, and to
# see that it knows them, than the database takes to run them.


@cache
def _windows(*, locked: bool = False) -> Select[Any]:
    statement = select(budget_windows).where(_is_among(budget_windows))
    return statement.order_by(*_key_columns(budget_windows)).with_for_update() if locked else statement


@cache
def _lock_overlapping() -> Select[Any]:
    """Windows of some budgets that overlap the wanted ones, and few others."""
    statement = select(budget_windows).where(_is_near())
    return statement.order_by(*_key_columns(budget_windows)).with_for_update()


@cache
def _leases_on_overlapping() -> Select[Any]:
    """What is leased on such windows: to one process, and to all, swept ones too."""
    keys, nanos = _key_columns(budget_windows), budget_leases.c.leased_nanos
    own = case((budget_leases.c.gateway_id == bindparam("gateway"), nanos), else_=0)
    return (
        select(
            *keys,
            budget_windows.c.end_time,
            func.sum(own).label("own_nanos"),
            func.sum(nanos).label("all_nanos"),
        )
        .join(budget_leases, _same_window(budget_leases, budget_windows))
        .where(_is_near())
        .group_by(*keys, budget_windows.c.end_time)
    )


def _is_near() -> ColumnElement[bool]:
    columns = budget_windows.c
    owners = columns.tenant_id.in_(bindparam("tenants", expanding=True)) & columns.api_key_id.in_(
        bindparam("api_keys", expanding=True)
    )
    # With the tenant in each, SQLite seeks the days and the months, and does not read all windows between.
    return or_(
        *(
            owners
            & (columns.period == literal_column(f"'{period}'"))
            & (columns.start_time > bindparam(f"{period}_since"))
            & (columns.start_time < bindparam(f"{period}_end"))
            & (columns.end_time > bindparam(f"{period}_start"))
            for period in _LONGEST
        )
    )


def _bound_overlapping(wants: Collection[LeaseWant]) -> dict[str, Any]:
    """Windows as parameters of ``_is_near``."""
    bound: dict[str, Any] = {
        "tenants": sorted({want.window.tenant_id for want in wants}),
        "api_keys": sorted({want.window.api_key_id for want in wants}),
    }
    for period, longest in _LONGEST.items():
        of_period = [want for want in wants if want.window.period == period]
        start = min((want.window.start_time for want in of_period), default=0)
        bound[f"{period}_start"] = start
        bound[f"{period}_since"] = start - longest
        bound[f"{period}_end"] = max((want.end_time for want in of_period), default=start - longest)
    return bound


@cache
def _leases() -> Select[Any]:
    """Those of one process on some windows."""
    return select(budget_leases).where(
        budget_leases.c.gateway_id == bindparam("gateway"), _is_among(budget_leases)
    )


@cache
def _living() -> Select[Any]:
    return select(func.count()).select_from(gateways).where(gateways.c.swept.is_(False))


@cache
def _swept(lock: _Lock) -> Select[Any]:
    statement = select(gateways.c.swept).where(gateways.c.gateway_id == bindparam("gateway"))
    match lock:
        case "none":
            return statement
        case "shared":
            return statement.with_for_update(read=True, key_share=True)
        case "alone":
            return statement.with_for_update()


@cache
def _add_to_windows() -> Update:
    columns = budget_windows.c
    return (
        update(budget_windows)
        .where(_is_bound(budget_windows))
        .values(
            spent_nanos=columns.spent_nanos + bindparam("spent"),
            leased_nanos=columns.leased_nanos + bindparam("leased"),
        )
    )


@cache
def _add_to_leases() -> Update:
    return (
        update(budget_leases)
        .where(budget_leases.c.gateway_id == bindparam("gateway"), _is_bound(budget_leases))
        .values(leased_nanos=budget_leases.c.leased_nanos + bindparam("leased"))
    )


@cache
def _delete_leases() -> Delete:
    return delete(budget_leases).where(
        budget_leases.c.gateway_id == bindparam("gateway"), _is_bound(budget_leases)
    )


@cache
def _grant_leases(dialect: str) -> SqliteInsert | PostgresqlInsert:
    """Adds to leases, or makes them."""
    statement = insert_into(budget_leases, dialect)
    return statement.on_conflict_do_update(
        index_elements=list(budget_leases.primary_key),
        set_={"leased_nanos": budget_leases.c.leased_nanos + statement.excluded.leased_nanos},
    )


def _key_of(row: Row[Any]) -> WindowKey:
    return WindowKey(row.tenant_id, row.api_key_id, row.period, row.start_time)


def _columns(window: WindowKey) -> dict[str, Any]:
    return {
        "tenant_id": window.tenant_id,
        "api_key_id": window.api_key_id,
        "period": window.period,
        "start_time": window.start_time,
    }


def _bound(window: WindowKey) -> dict[str, Any]:
    """A window as parameters of ``_is_bound``."""
    return {f"b_{name}": value for name, value in _columns(window).items()}


def _key_columns(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    return table.c.tenant_id, table.c.api_key_id, table.c.period, table.c.start_time


def _is_bound(table: FromClause) -> ColumnElement[bool]:
    tenant_id, api_key_id, period, start_time = _key_columns(table)
    return (
        (tenant_id == bindparam("b_tenant_id"))
        & (api_key_id == bindparam("b_api_key_id"))
        & (period == bindparam("b_period"))
        & (start_time == bindparam("b_start_time"))
    )


def _is_among(table: FromClause) -> ColumnElement[bool]:
    """``_among``, of windows that are bound later."""
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
        & tuple_(*_key_columns(table)).in_(windows)
    )


def _bound_among(windows: Collection[WindowKey]) -> dict[str, Any]:
    """Windows as parameters of ``_is_among``."""
    return {
        "tenants": sorted({window.tenant_id for window in windows}),
        "api_keys": sorted({window.api_key_id for window in windows}),
        "windows": [tuple(_columns(window).values()) for window in windows],
    }


def _is(table: FromClause, window: WindowKey) -> ColumnElement[bool]:
    return tuple_(*_key_columns(table)) == tuple_(*_columns(window).values())


def _among(table: FromClause, windows: Sequence[WindowKey]) -> ColumnElement[bool]:
    return _is_one_of(table, **_bound_among(windows))


def _same_window(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    pairs = zip(_key_columns(one), _key_columns(other), strict=True)
    first, *rest = (left == right for left, right in pairs)
    for condition in rest:
        first &= condition
    return first
