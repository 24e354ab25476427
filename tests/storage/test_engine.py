"""The store fails clearly: one error without SQL, whatever happens to the database."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.errors import GatewayError
from gateway_server.storage import sqlite
from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.schema import upgrade
from gateway_server.storage.tenants import TenantRepository
from tests.support.services import SERVICES
from tests.support.stores import SetClock


async def unavailable(awaitable: object) -> None:
    with pytest.raises(GatewayError) as caught:
        await awaitable  # type: ignore[misc]
    error = caught.value
    assert error.reason == ErrorReason.ERROR_REASON_STORE_UNAVAILABLE
    assert error.message == "the gateway's database cannot be used at the moment"
    assert error.metadata == {}
    assert error.retry_after == 1.0


async def test_a_file_that_was_deleted_makes_the_check_fail(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    await upgrade(url)
    store = open_store(url)
    await store.check()
    (tmp_path / "gateway.db").unlink()
    await unavailable(store.check())
    await store.close()
    assert not (tmp_path / "gateway.db").exists()


async def test_a_missing_file_is_not_made_anew(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/gateway.db")
    await unavailable(TenantRepository(store, SetClock()).get("acme"))
    assert await asyncio.to_thread(os.listdir, tmp_path) == []
    await store.close()


async def test_a_file_that_is_no_database_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway.db").write_bytes(b"no database at all" * 1000)
    others = set(threading.enumerate())
    store = open_store(f"sqlite:///{tmp_path}/gateway.db")
    with caplog.at_level(logging.WARNING):
        await unavailable(TenantRepository(store, SetClock()).create("acme", Tenant(email="a@example.com")))
    assert "file is not a database" in caplog.text
    assert "example.com" not in caplog.text
    await store.close()
    for thread in set(threading.enumerate()) - others:
        if "_connection_worker" not in thread.name:
            continue
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive(), "each try to connect would leave a thread behind"


async def test_a_database_without_tables_is_unavailable_and_its_log_has_no_parameters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway.db").touch()
    store = open_store(f"sqlite:///{tmp_path}/gateway.db")
    with caplog.at_level(logging.WARNING):
        await unavailable(TenantRepository(store, SetClock()).get("secret-tenant"))
    assert "no such table" in caplog.text
    assert "secret-tenant" not in caplog.text
    await store.close()


async def test_a_writer_waits_for_a_writer_in_another_process_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_MS", 50)
    url = f"sqlite:///{tmp_path}/gateway.db"
    await upgrade(url)
    store = open_store(url)
    tenants = TenantRepository(store, SetClock())
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await unavailable(tenants.create("acme", Tenant()))
        assert (await tenants.list_page()).items == ()  # readers go on
        other.execute("ROLLBACK")
    await tenants.create("acme", Tenant())
    await store.close()


async def test_writers_of_one_process_queue_up(store: Store) -> None:
    tenants = TenantRepository(store, SetClock())
    await asyncio.gather(*(tenants.create(f"t{number}", Tenant()) for number in range(20)))
    assert len((await tenants.list_page()).items) == 20


async def test_a_transaction_that_raises_leaves_nothing_behind(store: Store) -> None:
    async def fail() -> None:
        async with store.write() as connection:
            await connection.execute(text("INSERT INTO facts (name, value) VALUES ('a', 'b')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with store.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM facts"))).scalar_one() == 0


async def test_a_cancelled_writer_lets_the_next_one_write(store: Store) -> None:
    if store.dialect != "sqlite":
        pytest.skip("asyncpg calls a connection lost that it closed itself, and the test's runner hears it")
    tenants = TenantRepository(store, SetClock())
    for number in range(10):
        task = asyncio.create_task(tenants.create(f"t{number}", Tenant()))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await tenants.create("last", Tenant())
    assert (await tenants.get("last")).name == "tenants/last"


async def test_what_is_committed_is_synced_to_the_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    await upgrade(url)
    store = open_store(url)
    async with store.read() as connection:
        values = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]
    await store.close()


async def test_connections_to_a_file_that_was_replaced_are_closed_when_they_come_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    await upgrade(url)
    store = open_store(url)
    await store.check()
    async with store.read() as busy, store.read():  # the second one will be idle
        async with store.read():
            pass
        (tmp_path / "gateway.db").rename(tmp_path / "old.db")
        await unavailable(store.check())
        await upgrade(url)
        await store.check()
        await busy.execute(text("SELECT 1"))
    await TenantRepository(store, SetClock()).create("acme", Tenant())
    assert len((await TenantRepository(store, SetClock()).list_page()).items) == 1
    await store.close()
    gc.collect()  # a connection that nobody closed warns when it goes


def processes_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in processes_of(int(child)))]


@pytest.mark.timeout(120)
async def test_a_postgresql_that_hangs_is_given_up_after_seconds_and_used_again_when_it_goes_on() -> None:
    server = await asyncio.to_thread(SERVICES.own, "postgresql")
    url = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
    await upgrade(url)
    store = open_store(url)
    await store.check()
    assert server._process is not None
    stopped = await asyncio.to_thread(processes_of, server._process.pid)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(40):
            await unavailable(store.check())  # on the connection that was open
            await unavailable(store.check())  # on a new one
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await store.check()
    await store.close()
    await asyncio.to_thread(server.kill)


@pytest.mark.timeout(120)
async def test_a_statement_of_a_transaction_is_cut_and_one_of_a_report_is_not() -> None:
    server = await asyncio.to_thread(SERVICES.postgresql)
    store = open_store(f"postgresql://postgres@127.0.0.1:{server.port}/postgres")
    long = text("SELECT pg_sleep(6)")

    async def run(which: Store) -> None:
        async with which.write() as connection:
            await connection.execute(long)

    await unavailable(run(store))
    await run(store.unhurried)
    await store.close()
