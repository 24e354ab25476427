"""Leases on budgets, as processes ask for them and give them back. See docs/decisions/money.md."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import Row, Select, bindparam, case, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from gateway_server.storage.budget_leases import lower_leases, own_leases, raise_leases
from gateway_server.storage.budget_windows import (
    WindowKey,
    among,
    batches,
    bound_among,
    bound_windows,
    columns_of,
    is_window,
    key_columns,
    key_of,
    lock_windows,
    same_window,
)
from gateway_server.storage.database_clock import database_now
from gateway_server.storage.engine import Store
from gateway_server.storage.inserts import insert_once
from gateway_server.storage.past_costs import cost_between
from gateway_server.storage.settling_lock import lock_out_settling
from gateway_server.storage.spendings import Alert, raise_alerts
from gateway_server.storage.sweeps import lock_gateway, unsweep, unsweep_if_swept
from gateway_server.storage.tables import budget_leases, budget_windows, gateways
from gateway_server.storage.times import MICROS_OF_A_DAY

#: Of what is left in a window, a process gets at most this share ahead of its need, divided by all processes.
_SHARE_OF_ROOM: Final = 4

#: No window is as long.
_LONGEST: Final[Mapping[str, int]] = {"day": 2 * MICROS_OF_A_DAY, "month": 32 * MICROS_OF_A_DAY}


@dataclass(frozen=True, slots=True)
class LeaseWant:
    """What a process has of one window, and wants.

    ``leased_nanos`` is what it counts on having: what the store has beyond that was granted without being
    heard of, and is taken back. ``free_nanos`` of it are for the needs. If there is plenty, and no need is
    refused, the window gets so much that ``ahead_nanos`` are free.
    """

    window: WindowKey
    end_time: int
    limit_nanos: int
    leased_nanos: int
    free_nanos: int = 0
    ahead_nanos: int = 0


@dataclass(frozen=True, slots=True)
class LeaseNeed:
    """So much is to be free in all of some windows, besides what other needs take; or is refused in all."""

    windows: Sequence[WindowKey]
    nanos: int


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window as a transaction left it.

    ``granted_nanos`` is what this process got more; ``recall_time`` is when it was last recalled.
    """

    spent_nanos: int
    leased_nanos: int
    own_leased_nanos: int
    granted_nanos: int = 0
    recall_time: int | None = None

    @property
    def others_leased_nanos(self) -> int:
        """What other processes have."""
        return self.leased_nanos - self.own_leased_nanos


class BudgetRepository:
    """Rows of ``budget_windows`` and ``budget_leases``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def extend(
        self, gateway_id: str, wants: Sequence[LeaseWant], needs: Sequence[LeaseNeed]
    ) -> dict[WindowKey, WindowState]:
        """Leases more of some windows for needs, which come first as they stand; gives the windows as they
        are then.

        There is a want for each window of a need.
        """
        return await self._store.write_batch(lambda connection: _extend(connection, gateway_id, wants, needs))

    async def keep(self, gateway_id: str, leases: Mapping[WindowKey, int]) -> None:
        """Gives back what the store has of these leases beyond what the process still counts on."""

        def give_back(connection: Connection, some: Sequence[WindowKey]) -> None:
            unsweep_if_swept(connection, gateway_id)
            lock_windows(connection, some)
            lower_leases(connection, gateway_id, own_leases(connection, gateway_id, some), to=leases)

        for some in batches(leases):
            await self._store.write_batch(partial(give_back, some=some))

    async def recall(self, window: WindowKey) -> None:
        """Asks all processes to give back what they do not hold of a window, and of those that overlap it."""
        own, columns = budget_windows.alias("own"), budget_windows.c
        end_time = select(own.c.end_time).where(is_window(own, window)).scalar_subquery()
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
        async with self._store.read() as connection:
            rows = (await connection.execute(_recalls(), {"gateway": gateway_id})).all()
        return {key_of(row): row.recall_time for row in rows}

    async def states(self, gateway_id: str, windows: Sequence[WindowKey]) -> dict[WindowKey, WindowState]:
        """The windows as they are now; those that nobody has used yet are left out."""
        if not windows:
            return {}
        own = budget_leases.alias("own")
        statement = (
            select(budget_windows, own.c.leased_nanos.label("own_leased_nanos"))
            .outerjoin(own, same_window(own, budget_windows) & (own.c.gateway_id == gateway_id))
            .where(among(budget_windows, windows))
        )
        async with self._store.read() as connection:
            rows = (await connection.execute(statement)).all()
        return {
            key_of(row): WindowState(row.spent_nanos, row.leased_nanos, row.own_leased_nanos or 0)
            for row in rows
        }

    async def raise_alerts(self, thresholds: Mapping[WindowKey, Sequence[tuple[int, int]]]) -> list[Alert]:
        """As the function of that name, in a transaction of its own."""
        return await self._store.write_batch(lambda connection: raise_alerts(connection, thresholds))

    async def spent_before(self, window: WindowKey, end_time: int) -> int:
        """What a window that nobody has used yet begins with."""
        async with self._store.read() as connection:
            return await connection.run_sync(_spent_before, window, end_time)


def _extend(
    connection: Connection, gateway_id: str, wants: Sequence[LeaseWant], needs: Sequence[LeaseNeed]
) -> dict[WindowKey, WindowState]:
    wanted = {want.window: want for want in wants}
    swept = lock_gateway(connection, gateway_id)
    _make_windows(connection, wants)
    if swept:
        unsweep(connection, gateway_id)
    touched = _bound_overlapping(wants)
    rows = {key_of(row): row for row in connection.execute(_lock_overlapping(), touched)}
    leases = connection.execute(_leases_on_overlapping(), {"gateway": gateway_id, **touched}).all()
    own = {key_of(row): int(row.own_nanos) for row in leases if key_of(row) in wanted and row.own_nanos}
    heard = {window: wanted[window].leased_nanos for window in own}
    unheard = lower_leases(connection, gateway_id, own, to=heard)
    states = {
        window: WindowState(
            rows[window].spent_nanos,
            rows[window].leased_nanos - unheard.get(window, 0) + _leased_elsewhere(want, leases),
            own.get(window, 0) - unheard.get(window, 0),
            recall_time=rows[window].recall_time,
        )
        for window, want in wanted.items()
    }
    granted = _grants(wanted, states, needs, partial(_count_living, connection))
    raise_leases(connection, gateway_id, granted)
    return {
        window: replace(
            state,
            leased_nanos=state.leased_nanos + granted.get(window, 0),
            own_leased_nanos=state.own_leased_nanos + granted.get(window, 0),
            granted_nanos=granted.get(window, 0),
        )
        for window, state in states.items()
    }


def _grants(
    wanted: Mapping[WindowKey, LeaseWant],
    states: Mapping[WindowKey, WindowState],
    needs: Sequence[LeaseNeed],
    count_processes: Callable[[], int],
) -> dict[WindowKey, int]:
    """How much more is leased of which window."""
    rooms = {
        window: want.limit_nanos - states[window].spent_nanos - states[window].leased_nanos
        for window, want in wanted.items()
    }
    taken, refused = dict.fromkeys(wanted, 0), set[WindowKey]()
    for need in needs:
        if all(taken[each] + need.nanos <= wanted[each].free_nanos + rooms[each] for each in need.windows):
            for window in need.windows:
                taken[window] += need.nanos
        else:
            refused.update(need.windows)
    aims = {window: wanted[window].ahead_nanos for window in wanted.keys() - refused}
    share = _SHARE_OF_ROOM * count_processes() if any(aims.values()) else 1
    granted = {}
    for window, want in wanted.items():
        ahead = min(aims.get(window, 0) - want.free_nanos, rooms[window] // share)
        if (nanos := max(taken[window] - want.free_nanos, ahead)) > 0:
            granted[window] = nanos
    return granted


def _leased_elsewhere(want: LeaseWant, leases: Iterable[Row[Any]]) -> int:
    """What is leased on other windows of the same budget that overlap, as after a change of the time zone.

    What calls spend of it comes to this window too: see ``spendings``.
    """
    return sum(
        int(row.all_nanos)
        for row in leases
        for other in [key_of(row)]
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
    rows = connection.execute(bound_windows(), bound_among(wanted))
    there = {key_of(row) for row in rows}
    missing = sorted(wanted.keys() - there)
    if not missing:
        return
    lock_out_settling(connection)
    connection.execute(
        _insert_windows(connection.dialect.name),
        [
            {
                **columns_of(window),
                "end_time": wanted[window].end_time,
                "spent_nanos": _spent_before(connection, window, wanted[window].end_time),
                "leased_nanos": 0,
            }
            for window in missing
        ],
    )


def _spent_before(connection: Connection, window: WindowKey, end_time: int) -> int:
    return cost_between(connection, window.tenant_id, window.api_key_id, window.start_time, end_time)


@cache
def _recalls() -> Select[Any]:
    return (
        select(*key_columns(budget_windows), budget_windows.c.recall_time)
        .join(budget_leases, same_window(budget_leases, budget_windows))
        .where(
            budget_leases.c.gateway_id == bindparam("gateway"),
            budget_leases.c.leased_nanos > 0,
            budget_windows.c.recall_time.is_not(None),
        )
    )


@cache
def _insert_windows(dialect: str) -> SqliteInsert | PostgresqlInsert:
    return insert_once(budget_windows, dialect)


@cache
def _lock_overlapping() -> Select[Any]:
    """Windows of some budgets that overlap the wanted ones, and few others."""
    statement = select(budget_windows).where(_is_near())
    return statement.order_by(*key_columns(budget_windows)).with_for_update()


@cache
def _leases_on_overlapping() -> Select[Any]:
    """What is leased on such windows: to one process, and to all, swept ones too."""
    keys, nanos = key_columns(budget_windows), budget_leases.c.leased_nanos
    own = case((budget_leases.c.gateway_id == bindparam("gateway"), nanos), else_=0)
    return (
        select(
            *keys,
            budget_windows.c.end_time,
            func.sum(own).label("own_nanos"),
            func.sum(nanos).label("all_nanos"),
        )
        .join(budget_leases, same_window(budget_leases, budget_windows))
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
def _living() -> Select[Any]:
    return select(func.count()).select_from(gateways).where(gateways.c.swept.is_(False))
