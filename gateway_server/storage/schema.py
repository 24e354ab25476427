"""Brings a database to the schema of this version, at start, however many processes start at once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, text
from sqlalchemy.engine import Connection

from gateway_server.storage import sqlite
from gateway_server.storage.engine import StoreUrlError, create_engine, parse_url, translated

#: Serialises the migrations of several processes on PostgreSQL; any number that nobody else uses.
_ADVISORY_LOCK: Final = 5_005_100_001

Step = Callable[[Connection], None]


class DatabaseVersionError(Exception):
    """The database has a schema that this version of the gateway does not know."""


async def upgrade(database_url: str, *, revision: str = "head") -> None:
    """Makes the database if need be and runs the migrations that it lacks, all of them or none.

    Raises StoreUrlError, DatabaseVersionError when a newer version of the gateway wrote the database, and
    STORE_UNAVAILABLE.
    """
    await _run(database_url, lambda settings: command.upgrade(settings, revision))


async def downgrade(database_url: str, revision: str) -> None:
    """Takes the database back to an older schema; what only the newer one can hold is lost."""
    await _run(database_url, lambda settings: command.downgrade(settings, revision))


def alembic_config() -> Config:
    """Alembic's settings for the migrations beside this file."""
    settings = Config()
    folder = Path(__file__).parent / "migrations"
    settings.set_main_option("script_location", str(folder).replace("%", "%%"))
    return settings


async def _run(database_url: str, run: Callable[[Config], None]) -> None:
    url = parse_url(database_url)

    def step(connection: Connection) -> None:
        settings = alembic_config()
        _refuse_newer(connection, ScriptDirectory.from_config(settings))
        settings.attributes["connection"] = connection
        run(settings)

    migrate = _migrate_sqlite if url.get_backend_name() == "sqlite" else _migrate_server
    with translated():
        # In a thread: Alembic reads files.
        await asyncio.to_thread(migrate, url, step)


def _migrate_sqlite(url: URL, step: Step) -> None:
    path = Path(url.database or "")
    if not path.parent.is_dir():
        raise StoreUrlError(f"there is no folder {path.parent} for the database")
    sqlite.prepare_file(path)
    engine = sqlite.open_migration_engine(url)
    try:
        # BEGIN IMMEDIATE: other processes wait until this one is done, and then find nothing to do.
        with engine.begin() as connection:
            step(connection)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(f"a migration left {len(broken)} rows that refer to missing ones")
    finally:
        engine.dispose()


def _migrate_server(url: URL, step: Step) -> None:
    async def run() -> None:
        engine = create_engine(url)
        try:
            async with engine.begin() as connection:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ADVISORY_LOCK})
                await connection.run_sync(step)
        finally:
            await engine.dispose()

    asyncio.run(run())


def _refuse_newer(connection: Connection, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = sorted(set(MigrationContext.configure(connection).get_current_heads()) - known)
    if unknown:
        raise DatabaseVersionError(
            f"the database has schema {', '.join(unknown)}, written by a newer version of the gateway; "
            f"this one knows schemas up to {scripts.get_current_head()}. "
            "Run that version, or restore a backup from before the upgrade."
        )
