"""Migrations: from nothing, from several processes at once, back and forth, never from a newer database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ProgrammingError

from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.errors import GatewayError
from gateway_server.storage.engine import StoreUrlError, create_engine, open_store, parse_url
from gateway_server.storage.schema import DatabaseVersionError, downgrade, upgrade
from gateway_server.storage.tables import metadata
from gateway_server.storage.tenants import TenantRepository
from tests.support.stores import SetClock

_UPGRADE = """
import asyncio, sys
from gateway_server.storage.schema import upgrade
asyncio.run(upgrade(sys.argv[1]))
"""


def is_no_partition(_: object, name: str | None, kind: str, reflected: bool, known: object) -> bool:
    is_partition = (name or "").startswith(("usage_records_", "usage_attempts_"))
    return not (kind == "table" and reflected and known is None and is_partition)


async def test_the_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": is_no_partition}
        )
        return list(compare_metadata(context, metadata))

    await upgrade(database_url)
    engine = create_engine(parse_url(database_url))
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_upgrading_again_keeps_the_data(database_url: str) -> None:
    await upgrade(database_url)
    store = open_store(database_url)
    made = await TenantRepository(store, SetClock()).create("acme", Tenant(display_name="Acme"))
    await store.close()
    await upgrade(database_url)
    store = open_store(database_url)
    assert await TenantRepository(store, SetClock()).get("acme") == made
    await store.close()


async def test_down_and_up_again_with_data(database_url: str) -> None:
    await upgrade(database_url)
    store = open_store(database_url)
    await TenantRepository(store, SetClock()).create("acme", Tenant())
    await store.close()
    await downgrade(database_url, "base")
    await upgrade(database_url)
    store = open_store(database_url)
    assert (await TenantRepository(store, SetClock()).list_page()).items == ()
    await TenantRepository(store, SetClock()).create("acme", Tenant())
    await store.close()


async def test_processes_that_start_at_once_do_not_disturb_each_other(database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _UPGRADE, database_url, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    outcomes = [(await process.communicate())[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outcomes
    store = open_store(database_url)
    await store.check()
    await store.close()


async def test_a_newer_database_is_refused(database_url: str) -> None:
    await upgrade(database_url)
    engine = create_engine(parse_url(database_url))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(DatabaseVersionError, match=r"schema 9999.*newer version.*up to \d{4}"):
        await upgrade(database_url)


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A table in the way lets the first migration fail in its middle.
    await upgrade(database_url)
    await downgrade(database_url, "base")
    engine = create_engine(parse_url(database_url))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE models (mine integer)"))
    with pytest.raises((GatewayError, ProgrammingError)):
        await upgrade(database_url)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert [name for name in names if name != "alembic_version"] == ["models"]
    await engine.dispose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://host/db", "mysql"),
        ("sqlite+pysqlcipher:///x", "pysqlcipher"),
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, words: str) -> None:
    with pytest.raises(StoreUrlError, match=words):
        open_store(url)


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUrlError, match=r"no folder .*nowhere"):
        await upgrade(f"sqlite:///{tmp_path}/nowhere/gateway.db")


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    await upgrade(f"sqlite:///{tmp_path}/gateway.db")
    assert (tmp_path / "gateway.db").stat().st_mode & 0o777 == 0o600


def test_the_two_drivers_are_filled_in() -> None:
    assert parse_url("sqlite:///a.db").drivername == "sqlite+aiosqlite"
    assert parse_url("postgresql://u:p@h/d").drivername == "postgresql+asyncpg"
