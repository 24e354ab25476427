"""The database of a process: transactions for reading and writing, and failures that say nothing of SQL."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import orjson
from sqlalchemy import URL, event, make_url, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.storage import sqlite
from gateway_server.storage.tables import revisions

_LOG: Final = logging.getLogger(__name__)

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_RETRY_AFTER_SECONDS: Final = 1.0
#: How long a connection to PostgreSQL, a statement, and the wait for a free connection may take.
_TIMEOUT_SECONDS: Final = 5.0
#: How long the wait for a free connection may take where statements may take long.
_POOL_TIMEOUT_SECONDS: Final = 30.0
#: PostgreSQL lacks a privilege, a table, a column or a schema. SQLite has one error for these and worse.
_STATES_OF_ANOTHER_DATABASE: Final = frozenset({"42501", "42P01", "42703", "3F000"})
#: Statements that went on for too long: PostgreSQL's code and SQLite's.
_CUT_SHORT: Final = frozenset({"57014", "SQLITE_INTERRUPT"})
#: How long a report may take.
REPORT_SECONDS: Final = 20.0

#: Under this a connection keeps which of the files at its path it is connected to.
_FILE: Final = "aigw_file"

T = TypeVar("T")


class StoreUrlError(ValueError):
    """A database URL that cannot be used; the message never holds the URL's password."""


class Store:
    """The database of a process. Its owner closes it.

    Transactions raise STORE_UNAVAILABLE when the database cannot be used; violated constraints come
    through as SQLAlchemy's ``IntegrityError``.
    """

    def __init__(
        self, engine: AsyncEngine, sqlite_file: "_SqliteFile | None", unhurried: AsyncEngine | None = None
    ) -> None:
        """``unhurried`` is for statements that may take long, where the others are cut."""
        self._engine = engine
        self._file = sqlite_file
        self._unhurried = None if unhurried is None else Store(unhurried, None)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @property
    def unhurried(self) -> "Store":
        """The same database for reports and upkeep, whose statements may take as long as they need.

        Those of the store itself are given up after seconds where the database does not answer.
        """
        return self._unhurried or self

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads."""
        with translated():
            async with self._engine.connect() as connection, _transaction(connection):
                yield connection

    @asynccontextmanager
    async def report(self, seconds: float = REPORT_SECONDS) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads much. Raises DEADLINE_EXCEEDED when it takes too long.

        With SQLite all its statements have so many seconds, with PostgreSQL each of them.
        """
        async with self.read() as connection, self._time_limit(connection, seconds):
            try:
                yield connection
            except DBAPIError as error:
                if _code_of(error) in _CUT_SHORT:
                    raise _took_too_long(seconds) from error
                raise

    @asynccontextmanager
    async def _time_limit(self, connection: AsyncConnection, seconds: float) -> AsyncIterator[None]:
        if self._file is None:
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
            yield
            return
        driver: Any = (await connection.get_raw_connection()).driver_connection
        async with sqlite.time_limit(driver, seconds):
            yield

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed when the block ends, rolled back when it raises."""
        with translated():
            if self._file is not None:
                await self._file.follow()
            line = self._file.writers if self._file is not None else nullcontext()
            async with line, self._engine.connect() as plain:
                connection = await plain.execution_options(**{sqlite.WRITES: True})
                async with _transaction(connection):
                    yield connection

    async def write_batch(self, work: Callable[[Connection], T]) -> T:
        """Runs ``work`` in a transaction that writes, off the event loop where the database allows.

        With SQLite this costs a third of what a ``write`` does: one change of threads for all statements.
        """
        if self._file is None:
            async with self.write() as connection:
                return await connection.run_sync(work)
        with translated():
            async with self._file.writers:
                return await self._file.run(work)

    async def check(self) -> None:
        """Raises STORE_UNAVAILABLE when the database cannot be read, or its file is no longer there."""
        if self._file is not None:
            with translated():
                await self._file.follow()
        async with self.read() as connection:
            await connection.execute(select(revisions.c.revision))

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()
        if self._file is not None:
            await self._file.close()
        if self._unhurried is not None:
            await self._unhurried.close()


@asynccontextmanager
async def _transaction(connection: AsyncConnection) -> AsyncIterator[None]:
    async with _closing_what_hangs(connection), connection.begin(), _closing_what_hangs(connection):
        yield


@asynccontextmanager
async def _closing_what_hangs(connection: AsyncConnection) -> AsyncIterator[None]:
    """Closes a connection whose statement was given up, before a rollback or the pool waits on it too."""
    try:
        yield
    except TimeoutError:
        await connection.invalidate()
        raise


class _SqliteFile:
    """What a store on SQLite has besides: a line for writers, a thread for batches, an eye on the file.

    Open connections would go on with a file that was deleted, and what they write would be gone with it; so
    whoever writes looks first. A file that was put in its place, a restored backup for one, is taken.
    """

    def __init__(self, url: URL, engine: AsyncEngine) -> None:
        # SQLite has one writer; those of this process line up here rather than poll the file's lock.
        self.writers = asyncio.Lock()
        self._engine: Engine = sqlite.open_thread_engine(url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-batch")
        self._path = Path(url.database or "")
        self._inode: int | None = None
        self._thread_inode: int | None = None
        self._times_replaced = 0
        event.listen(engine.sync_engine, "connect", self._on_connect)
        event.listen(engine.sync_engine, "checkout", self._on_checkout)

    async def run(self, work: Callable[[Connection], T]) -> T:
        def transact() -> T:
            inode = sqlite.inode_of(self._path)
            if self._thread_inode not in {None, inode}:
                self._engine.dispose()
            self._thread_inode = inode
            with self._engine.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, transact)

    async def follow(self) -> None:
        """Notices that another file has taken the place of the one that is open: connections to the old one
        are closed instead of being used again.

        Raises FileNotFoundError when there is none.
        """
        inode = await asyncio.to_thread(sqlite.inode_of, self._path)
        if self._inode not in {None, inode}:
            self._times_replaced += 1
        self._inode = inode

    def _on_connect(self, _: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info[_FILE] = self._times_replaced

    def _on_checkout(self, _: DBAPIConnection, entry: ConnectionPoolEntry, __: object) -> None:
        if entry.info[_FILE] != self._times_replaced:
            raise DisconnectionError  # the pool closes it and connects anew

    async def close(self) -> None:
        # Connections belong to the thread that made them.
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()


def open_store(database_url: str) -> Store:
    """The store at ``database_url``, which ``schema.upgrade`` has prepared; connects when first used.

    Raises StoreUrlError. ``sqlite:///path`` and ``postgresql://...`` stand for their async drivers.
    """
    url = parse_url(database_url)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url)
        return Store(engine, _SqliteFile(url, engine))
    return Store(create_engine(url, timeout=_TIMEOUT_SECONDS), None, create_engine(url))


def require_database(database_url: str) -> None:
    """Raises StoreUrlError when there is no database at ``database_url``, as far as that shows. Blocks."""
    url = parse_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise StoreUrlError(f"there is no database {url.database}")


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


def create_engine(url: URL, *, timeout: float | None = None) -> AsyncEngine:
    """An engine whose connections are set up for this gateway.

    ``timeout`` is how many seconds a statement may take on PostgreSQL, and the wait for a free connection.
    """
    if url.get_backend_name() == "sqlite":
        return sqlite.open_engine(url)
    return create_async_engine(
        url,
        json_serializer=sqlite.to_json,
        json_deserializer=orjson.loads,
        pool_pre_ping=True,
        pool_timeout=timeout or _POOL_TIMEOUT_SECONDS,
        connect_args={"timeout": _TIMEOUT_SECONDS, "command_timeout": timeout},
    )


def store_unavailable() -> GatewayError:
    """The error for a database that cannot be used; what exactly is wrong is for the log."""
    return GatewayError(
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        "the gateway's database cannot be used at the moment",
        retry_after=_RETRY_AFTER_SECONDS,
        retryable=True,
    )


def _took_too_long(seconds: float) -> GatewayError:
    return GatewayError(
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        f"the report took longer than {seconds:g} s: ask for less time, or with another filter",
        metadata={"timeout_ms": str(round(seconds * 1000))},
    )


def violated_constraint(error: IntegrityError) -> Literal["unique", "foreign_key", "other"]:
    """What kind of constraint an insert or delete violated."""
    code = _code_of(error)
    if code in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "23505"}:
        return "unique"
    if code in {"SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER", "23503", "23001"}:
        return "foreign_key"
    return "other"


def _code_of(error: DBAPIError) -> str:
    """SQLite's name or PostgreSQL's code of an error; empty where there is none."""
    origin = error.orig
    return str(
        getattr(origin, "sqlite_errorname", None)
        or getattr(origin, "sqlstate", None)
        or getattr(getattr(origin, "__cause__", None), "sqlite_errorname", "")
    )


class translated:  # noqa: N801 -- used as a with-statement, like contextlib's
    """Turns failures of the database into STORE_UNAVAILABLE; faults of our own SQL come through.

    ``with translated():`` around whatever uses the database.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if isinstance(error, ProgrammingError) and _sqlstate(error) in _STATES_OF_ANOTHER_DATABASE:
            _LOG.error("the database is not as this gateway needs it: %s", _first_line(error))
            raise store_unavailable() from error
        if isinstance(error, IntegrityError | DataError | ProgrammingError | NotSupportedError):
            return
        if isinstance(error, DBAPIError) and _is_fault_of_data(error):
            return
        if isinstance(error, DBAPIError | PoolTimeoutError | sqlite3.Error | OSError):
            _LOG.warning("the database failed: %s", _first_line(error))
            raise store_unavailable() from error


def _is_fault_of_data(error: DBAPIError) -> bool:
    """Whether a value cannot be stored; asyncpg has no class of its own for that."""
    cause = getattr(error.orig, "__cause__", None)
    return isinstance(cause, ValueError) or _sqlstate(error).startswith("22")


def _sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's code for what went wrong; empty where there is none."""
    cause = getattr(error.orig, "__cause__", None)
    return str(getattr(error.orig, "sqlstate", None) or getattr(cause, "sqlstate", None) or "")


def _first_line(error: BaseException) -> str:
    """The driver's own words, without the statement and its parameters."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return str(origin).partition("\n")[0]
