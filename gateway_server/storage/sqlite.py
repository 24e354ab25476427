"""How this gateway uses SQLite: a file that writes ahead, transactions that take their lock at once."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

import aiosqlite
import orjson
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

#: Marks a connection whose transactions write.
WRITES: Final = "aigw_writes"

_POOL_SIZE: Final = 5
_POOL_TIMEOUT_SECONDS: Final = 10
#: How long a writer waits for one in another process.
_BUSY_TIMEOUT_MS: Final = 5_000
#: How many of its machine's instructions SQLite carries out between looks at the clock: about 1 ms.
_INSTRUCTIONS: Final = 50_000
#: How long a process waits for another that is migrating the same database.
_MIGRATION_TIMEOUT_SECONDS: Final = 60


def open_engine(url: URL) -> AsyncEngine:
    """The engine for use on an event loop."""
    engine = create_async_engine(
        _existing(url),
        json_serializer=to_json,
        json_deserializer=orjson.loads,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def open_thread_engine(url: URL) -> Engine:
    """An engine of one connection for use in a thread; all its transactions write."""
    engine = create_engine(
        _existing(url.set(drivername="sqlite")),
        json_serializer=to_json,
        json_deserializer=orjson.loads,
        pool_size=1,
        max_overflow=0,
        execution_options={WRITES: True},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def open_migration_engine(url: URL) -> Engine:
    """An engine for migrations: as in a thread, but foreign keys hold only at the end.

    A migration that rebuilds a table would otherwise delete what refers to it.
    """
    engine = open_thread_engine(url)

    @event.listens_for(engine, "connect")
    def loosen(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_MIGRATION_TIMEOUT_SECONDS * 1000}")
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.close()

    return engine


@asynccontextmanager
async def time_limit(connection: aiosqlite.Connection, seconds: float) -> AsyncIterator[None]:
    """Statements in the block are interrupted once it has lasted so long, or its task is cancelled.

    A cancelled task waits for its statement, which nobody else could end.
    """
    give_up_at = time.monotonic() + seconds
    task = asyncio.current_task()

    def give_up() -> bool:
        return time.monotonic() > give_up_at or (task is not None and task.cancelling() > 0)

    await connection.set_progress_handler(give_up, _INSTRUCTIONS)
    try:
        yield
    finally:
        with suppress(ValueError):  # the pool has closed it, as it does when a task is cancelled
            await connection.set_progress_handler(_never, 0)


def _never() -> bool:
    return False


def prepare_file(path: Path) -> None:
    """Makes the database's file, readable by its owner alone, and has it write ahead (WAL) from now on."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    give_up_at = time.monotonic() + _MIGRATION_TIMEOUT_SECONDS
    with closing(sqlite3.connect(path, timeout=_MIGRATION_TIMEOUT_SECONDS)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # Changing the mode does not wait for a lock as other statements do.
                if "locked" not in str(error) or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.02)
            else:
                return


def inode_of(path: Path) -> int:
    """The identity of the file at ``path``. Raises FileNotFoundError."""
    return path.stat().st_ino


def to_json(value: object) -> str:
    """JSON as it stands in a column."""
    return orjson.dumps(value).decode()


def _existing(url: URL) -> URL:
    """The URL of a file that must exist: one that has gone must not be made anew, empty."""
    path = Path(url.database or "").absolute().as_uri()
    return url.set(database=path).update_query_dict({"uri": "true", "mode": "rw"})


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late for a writer: see _begin.
    connection.isolation_level = None
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        # FULL: what was committed survives a power cut. A revoked key must not come back, nor a row of the
        # ledger go; both are written in few, batched commits, so that one fsync each costs little.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()
    except BaseException:
        connection.close()  # nobody else would, and its thread would stay
        raise


def _begin(connection: Connection) -> None:
    # A writer takes its lock at the start: one that reads first and then finds the lock taken, or its
    # snapshot old, fails at once without waiting.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
