"""The database: one engine, transactions for reading and writing, and failures that say nothing of SQL."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final, Literal

import orjson
from sqlalchemy import URL, event, make_url, select
from sqlalchemy import create_engine as create_sync_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.storage.tables import revisions

_LOG: Final = logging.getLogger(__name__)

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_POOL_SIZE: Final = 5
_POOL_TIMEOUT_SECONDS: Final = 10
#: How long SQLite waits for a writer in another process.
_BUSY_TIMEOUT_MS: Final = 5_000
#: How long a process waits for another that is migrating the same database.
_MIGRATION_BUSY_TIMEOUT_MS: Final = 60_000
_RETRY_AFTER_SECONDS: Final = 1.0
#: Marks a connection whose transactions write.
_WRITES: Final = "aigw_writes"


class StoreUrlError(ValueError):
    """A database URL that cannot be used; the message never holds the URL's password."""


class Store:
    """The database of a process. Its owner closes it.

    Transactions raise STORE_UNAVAILABLE when the database cannot be used; violated constraints come
    through as SQLAlchemy's ``IntegrityError``.
    """

    def __init__(self, engine: AsyncEngine, path: Path | None) -> None:
        self._engine = engine
        self._path = path
        self._inode: int | None = None
        # SQLite has one writer; those of this process line up here rather than poll the file's lock.
        self._writer: asyncio.Lock | None = asyncio.Lock() if path is not None else None

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads."""
        with translated():
            async with self._engine.connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed when the block ends, rolled back when it raises."""
        with translated():
            async with self._writer or nullcontext(), self._engine.connect() as plain:
                connection = await plain.execution_options(**{_WRITES: True})
                async with connection.begin():
                    yield connection

    async def check(self) -> None:
        """Raises STORE_UNAVAILABLE when the database cannot be read, or its file is no longer there."""
        if self._path is not None:
            inode = await asyncio.to_thread(_inode, self._path)
            self._inode = self._inode or inode
            if inode is None or inode != self._inode:
                raise store_unavailable()  # open connections would go on writing into a deleted file
        async with self.read() as connection:
            await connection.execute(select(revisions.c.revision))

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()


def open_store(database_url: str) -> Store:
    """The store at ``database_url``, which ``schema.upgrade`` has prepared; connects when first used.

    Raises StoreUrlError. ``sqlite:///path`` and ``postgresql://...`` stand for their async drivers.
    """
    url = parse_url(database_url)
    if url.get_backend_name() == "sqlite":
        return Store(create_engine(url), Path(_database_of(url)))
    return Store(create_engine(url), None)


def parse_url(database_url: str) -> URL:
    """``database_url`` with the driver filled in; raises StoreUrlError."""
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise StoreUrlError("the database URL cannot be read; see database_url in the settings") from None
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None or url.drivername not in {driver, url.get_backend_name()}:
        known = ", ".join(_DRIVERS)
        raise StoreUrlError(f"there is no driver for {url.drivername!r}; a database is one of {known}")
    if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
        raise StoreUrlError("a database in memory cannot be shared by connections; name a file")
    return url.set(drivername=driver)


def create_engine(url: URL) -> AsyncEngine:
    """An engine whose connections are set up for this gateway."""
    if url.get_backend_name() != "sqlite":
        return create_async_engine(
            url, json_serializer=_to_json, json_deserializer=orjson.loads, pool_pre_ping=True
        )
    # mode=rw: a file that has gone must not be made anew, empty.
    path = Path(_database_of(url)).absolute().as_uri()
    engine = create_async_engine(
        url.set(database=path).update_query_dict({"uri": "true", "mode": "rw"}),
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def create_migration_engine(url: URL) -> Engine:
    """A SQLite engine without asyncio, whose transactions all write and check foreign keys at the end only.

    A migration that rebuilds a table would otherwise delete what refers to it.
    """
    engine = create_sync_engine(url.set(drivername="sqlite"), execution_options={_WRITES: True})

    def set_up(dbapi_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        _set_up_sqlite(dbapi_connection, entry)
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_MIGRATION_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.close()

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def store_unavailable() -> GatewayError:
    """The error for a database that cannot be used; what exactly is wrong is for the log."""
    return GatewayError(
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        "the gateway's database cannot be used at the moment",
        retry_after=_RETRY_AFTER_SECONDS,
        retryable=True,
    )


def violated_constraint(error: IntegrityError) -> Literal["unique", "foreign_key", "other"]:
    """What kind of constraint an insert or delete violated."""
    origin = error.orig
    code = str(
        getattr(origin, "sqlite_errorname", None)
        or getattr(origin, "sqlstate", None)
        or getattr(getattr(origin, "__cause__", None), "sqlite_errorname", "")
    )
    if code in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "23505"}:
        return "unique"
    if code in {"SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER", "23503", "23001"}:
        return "foreign_key"
    return "other"


class translated:  # noqa: N801 -- used as a with-statement, like contextlib's
    """Turns failures of the database into STORE_UNAVAILABLE; faults of our own SQL come through.

    ``with translated():`` around whatever uses the database.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if isinstance(error, IntegrityError | DataError | ProgrammingError | NotSupportedError):
            return
        if isinstance(error, DBAPIError | PoolTimeoutError | sqlite3.Error | OSError):
            _LOG.warning("the database failed: %s", _first_line(error))
            raise store_unavailable() from error


def _first_line(error: BaseException) -> str:
    """The driver's own words, without the statement and its parameters."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return str(origin).partition("\n")[0]


def _set_up_sqlite(dbapi_connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late for a writer: see _begin_sqlite.
    dbapi_connection.isolation_level = None
    try:
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        # FULL: what was committed survives a power cut. A revoked key must not come back, nor a row of the
        # ledger go; both are written in few, batched commits, so that one fsync each costs little.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()
    except BaseException:
        dbapi_connection.close()  # nobody else would, and its thread would stay
        raise


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at the start: one that reads first and then finds the lock taken, or its
    # snapshot old, fails at once without waiting.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _database_of(url: URL) -> str:
    if url.database is None:
        raise StoreUrlError("the database URL names no file")
    return url.database


def _inode(path: Path) -> int | None:
    """The identity of the file at ``path``, None when there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()
