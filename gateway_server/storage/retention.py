"""Forgetting old calls without being in anybody's way: whole partitions where there are any, or a few rows.

On PostgreSQL the ledger has a partition for every 28 days, counted from the epoch; one that is too old is
dropped whole. What is too old in others, and all on SQLite, goes in transactions of some hundred rows.
"""

import re
from functools import partial
from typing import Final

from sqlalchemy import BigInteger, cast, delete, func, literal, select, text, tuple_
from sqlalchemy.engine import Connection

from gateway_server.storage.budget_windows import forget_windows
from gateway_server.storage.database_clock import database_now
from gateway_server.storage.engine import Store
from gateway_server.storage.facts import KEPT_SINCE_DAY
from gateway_server.storage.inserts import insert_into
from gateway_server.storage.rollups import LEVELS
from gateway_server.storage.settling_lock import lock_out_settling
from gateway_server.storage.tables import facts, usage_attempts, usage_records, usage_rollups
from gateway_server.storage.times import MICROS_OF_A_DAY, day_of_micros

PARTITION_DAYS: Final = 28

_TABLES: Final = (usage_records, usage_attempts)
_ROWS_AT_ONCE: Final = 500
_LOCK_TIMEOUT_MS: Final = 200
#: One process at a time forgets; any number that nobody else uses.
_RETENTION_LOCK: Final = 5_005_100_003
_PARTITION: Final = re.compile(r".*_(\d+)")


class RetentionRepository:
    """Old rows of the ledger, and partitions for new ones."""

    def __init__(self, store: Store) -> None:
        self._store = store.unhurried

    async def make_partitions(self, now_micros: int) -> None:
        """Makes the partitions of now and of the next 28 days, on PostgreSQL."""
        if self._store.dialect != "postgresql":
            return
        first = day_of_micros(now_micros) // PARTITION_DAYS
        for number in (first, first + 1):
            await self._store.write_batch(partial(_make_partitions, number=number))

    async def drop_partitions(self, before_day: int) -> None:
        """Drops partitions that have nothing from ``before_day`` on, a day since the epoch; on PostgreSQL.

        Raises STORE_UNAVAILABLE when somebody has been reading them for too long.
        """
        if self._store.dialect == "postgresql":
            await self._store.write_batch(partial(_drop_partitions, before_day=before_day))

    async def forget_some(self, before_day: int) -> int:
        """Deletes some calls from before a day, with their attempts; how many, 0 when none are left."""
        return await self._store.write_batch(partial(_forget_some, before_day=before_day))

    async def forget_some_windows(self, before_micros: int) -> int:
        """Deletes some windows of budgets that ended before a time; how many, 0 when none are left."""
        return await self._store.write_batch(partial(forget_windows, before=before_micros))

    async def forget_some_hours(self, before_day: int) -> int:
        """Deletes some sums by the hour from before a day, not those by the day; how many."""
        return await self._store.write_batch(partial(_forget_some_hours, before_day=before_day))

    async def note_kept_since(self, day: int) -> None:
        """Notes that calls and hours from before a day may be missing: to be done before any goes."""
        statement = insert_into(facts, self._store.dialect).values(name=KEPT_SINCE_DAY, value=str(day))
        raised = statement.on_conflict_do_update(
            index_elements=[facts.c.name],
            set_={"value": statement.excluded.value},
            where=cast(facts.c.value, BigInteger) < day,
        )
        async with self._store.write() as connection:
            await connection.execute(raised)

    async def now_micros(self) -> int:
        """The database's clock, in microseconds since the epoch."""
        async with self._store.read() as connection:
            now: int = (await connection.execute(select(database_now(self._store.dialect)))).scalar_one()
            return now


def _make_partitions(connection: Connection, number: int) -> None:
    _lock(connection)
    lock_out_settling(connection)  # a row on its way into the default partition would find itself misplaced
    first, behind = number * PARTITION_DAYS, (number + 1) * PARTITION_DAYS
    for table in _TABLES:
        name = f"{table.name}_{first}"
        if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar_one() is not None:
            continue
        # Rows of these days that are in the default partition already move into the new one.
        connection.execute(text(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS)"))
        moved = (
            f"WITH moved AS (DELETE FROM {table.name}_default WHERE start_day >= {first}"  # noqa: S608 -- numbers
            f" AND start_day < {behind} RETURNING *) INSERT INTO {name} SELECT * FROM moved"
        )
        connection.execute(text(moved))
        connection.execute(
            text(f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({behind})")
        )


def _drop_partitions(connection: Connection, before_day: int) -> None:
    _lock(connection)
    # It waits for whoever reads the table, and whoever writes it waits behind: not for long.
    connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))
    for table in _TABLES:
        names = connection.execute(
            text(
                "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
                " WHERE inhparent = CAST(:parent AS regclass)"
            ),
            {"parent": table.name},
        ).scalars()
        for name in names.all():
            found = _PARTITION.fullmatch(name)
            if found is not None and int(found[1]) + PARTITION_DAYS <= before_day:
                connection.execute(text(f"DROP TABLE {name}"))


def _forget_some(connection: Connection, before_day: int) -> int:
    _lock(connection)
    columns = usage_records.c
    day = connection.execute(
        select(func.min(columns.start_day)).where(columns.start_day < before_day)
    ).scalar_one()
    if day is None:
        return 0
    first = select(columns.request_id).where(columns.start_day == day).order_by(columns.request_id)
    ids = connection.execute(first.limit(_ROWS_AT_ONCE)).scalars().all()
    # By a bound, as SQLite would read the whole table for a list of keys.
    for table in (usage_attempts, usage_records):
        connection.execute(delete(table).where(table.c.start_day == day, table.c.request_id <= ids[-1]))
    return len(ids)


def _forget_some_hours(connection: Connection, before_day: int) -> int:
    _lock(connection)
    columns = usage_rollups.c
    place = (columns.start_time, columns.tenant_id, columns.api_key_id, columns.group_id)
    for level in LEVELS:
        old = (
            columns.step == "hour",
            columns.level == level,
            columns.start_time < before_day * MICROS_OF_A_DAY,
        )
        keys = connection.execute(select(*place).where(*old).order_by(*place).limit(_ROWS_AT_ONCE)).all()
        if keys:
            last = tuple_(
                *(literal(value, column.type) for value, column in zip(keys[-1], place, strict=True))
            )
            connection.execute(delete(usage_rollups).where(*old, tuple_(*place) <= last))
            return len(keys)
    return 0


def _lock(connection: Connection) -> None:
    """Lets one process at a time forget; writers of SQLite take turns anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _RETENTION_LOCK})
