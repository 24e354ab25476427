"""Real databases for tests: one fresh, migrated store for each backend that the tests run on."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg

from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.schema import upgrade
from tests.support.services import SERVICES, Service

#: What the suites that touch a database run on, each in turn.
BACKENDS: Final[Sequence[str]] = ("sqlite", "postgresql")

_TEMPLATE: Final = "migrated"
_SQLITE_FILE: Final = "gateway.db"


@asynccontextmanager
async def fresh_database(backend: str, folder: Path) -> AsyncIterator[str]:
    """The URL of an empty database, without tables."""
    match backend:
        case "sqlite":
            yield f"sqlite:///{folder / _SQLITE_FILE}"
        case "postgresql":
            async with _postgresql_database(None) as url:
                yield url
        case _:
            raise ValueError(f"no such backend: {backend}")


@asynccontextmanager
async def migrated_database(backend: str, folder: Path) -> AsyncIterator[str]:
    """The URL of a database with all tables and no rows."""
    if backend == "postgresql":
        await _make_template()
        async with _postgresql_database(_TEMPLATE) as url:
            yield url
        return
    async with fresh_database(backend, folder) as url:
        await copy_migrated_sqlite(folder / _SQLITE_FILE)
        yield url


@asynccontextmanager
async def fresh_store(backend: str, folder: Path) -> AsyncIterator[Store]:
    """A store with all tables and no rows."""
    async with migrated_database(backend, folder) as url:
        store = open_store(url)
        try:
            yield store
        finally:
            await store.close()


@asynccontextmanager
async def _postgresql_database(template: str | None) -> AsyncIterator[str]:
    service = await asyncio.to_thread(SERVICES.postgresql)
    name = f"test_{uuid.uuid4().hex}"
    await _run_sql(service, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield postgresql_url(service, name)
    finally:
        await _run_sql(service, f"DROP DATABASE {name} WITH (FORCE)")


def postgresql_url(service: Service, database: str = "postgres") -> str:
    """The URL of a database of a PostgreSQL that tests started."""
    return f"postgresql+asyncpg://postgres@127.0.0.1:{service.port}/{database}"


async def copy_migrated_sqlite(file: Path) -> None:
    """Puts a database with all tables and no rows into a file, unless that is there already.

    It is made once: running all migrations for each test would take longer than most tests.
    """
    if not (template := _template_folder() / _SQLITE_FILE).exists():
        await upgrade(f"sqlite:///{template}")
        for rest in ("-wal", "-shm"):
            assert not template.with_name(template.name + rest).exists(), "not all is in the file"
    await asyncio.to_thread(_copy_to_new, template, file)


def _copy_to_new(template: Path, file: Path) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, file)


@cache
def _template_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="aigw-template-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


async def _make_template() -> None:
    """Once, as for SQLite."""
    service = await asyncio.to_thread(SERVICES.postgresql)
    if not await _run_sql(service, f"SELECT 1 FROM pg_database WHERE datname = '{_TEMPLATE}'"):
        await _run_sql(service, f"CREATE DATABASE {_TEMPLATE}")
        await upgrade(postgresql_url(service, _TEMPLATE))


async def _run_sql(service: Service, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=service.port, user="postgres", database="postgres", ssl=False
    )
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = 1_760_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
