"""Forgetting old calls without being in anybody's way: whole partitions where there are any, or a few rows.

On PostgreSQL the ledger has a partition for every 28 days, counted from the epoch; one that is too old is
dropped whole. What is too old in others, and all on SQLite, goes in transactions of some hundred rows.
"""

import re
from functools import partial
from typing import Final

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.engine import Connection

from gateway_server.storage.budgets import forget_windows, lock_out_settling
from gateway_server.storage.engine import Store
from gateway_server.storage.tables import usage_attempts, usage_records, usage_rollups
from gateway_server.storage.times import day_of_micros

PARTITION_DAYS: Final = 28

_TABLES: Final = (usage_records, usage_attempts)
_ROWS_AT_ONCE: Final = 500
_MICROS_OF_A_DAY: Final = 86_400_000_000
#: One process at a time forgets; any number that nobody else uses.
_RETENTION_LOCK: Final = 5_005_100_003
_PARTITION: Final = re.compile(r".*_(\d+)")


class RetentionRepository:
    """Old rows of the ledger, and partitions for new ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def make_partitions(self, now_micros: int) -> None:
        """Makes the partitions of now and of the next 28 days, on PostgreSQL."""
        if self._store.dialect != "postgresql":
            return
        first = day_of_micros(now_micros) // PARTITION_DAYS
        for number in (first, first + 1):
            await self._store.write_batch(partial(_make_partitions, number=number))

    async def drop_partitions(self, before_day: int) -> None:
        """Drops partitions that have nothing from ``before_day`` on, a day since the epoch; on PostgreSQL."""
        if self._store.dialect == "postgresql":
            await self._store.write_batch(partial(_drop_partitions, before_day=before_day))

    async def forget_some(self, before_day: int) -> int:
        """Deletes some calls from before a day, with their attempts; how many, 0 when none are left."""
        return await self._store.write_batch(partial(_forget_some, before_day=before_day))

    async def forget_some_windows(self, before_micros: int) -> int:
        """Deletes some windows of budgets that ended before a time; how many, 0 when none are left."""
        return await self._store.write_batch(partial(forget_windows, before=before_micros))

    async def forget_hours(self, before_day: int) -> None:
        """Deletes sums by the hour from before a day; those by the day stay."""
        async with self._store.write() as connection:
            await connection.execute(
                delete(usage_rollups).where(
                    usage_rollups.c.step == "hour",
                    usage_rollups.c.start_time < before_day * _MICROS_OF_A_DAY,
                )
            )


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
    key = (usage_records.c.start_day, usage_records.c.request_id)
    old = select(*key).where(usage_records.c.start_day < before_day).order_by(*key).limit(_ROWS_AT_ONCE)
    keys = [tuple(row) for row in connection.execute(old)]
    if keys:
        attempts = tuple_(usage_attempts.c.start_day, usage_attempts.c.request_id)
        connection.execute(delete(usage_attempts).where(attempts.in_(keys)))
        connection.execute(delete(usage_records).where(tuple_(*key).in_(keys)))
    return len(keys)


def _lock(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _RETENTION_LOCK})
