"""A store that dies under a running gateway: health tells, cached keys still work, and no row is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway_server import app
from gateway_server.storage import sqlite
from tests.gateway.callers import Caller, Outcome
from tests.support.gateway import Gateway, reading_ledger, running_gateway
from tests.support.upstream import Upstream

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

DATABASE = "ai-gateway.db"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and gives up ten times as often, so that the tests need not wait."""
    monkeypatch.setattr(app, "_HEALTH_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_MS", 200)


@pytest.fixture
async def gateway(upstream: Upstream, state_dir: Path) -> AsyncIterator[Gateway]:
    """A gateway of the test's own; its key has been used."""
    async with running_gateway(state_dir, vllm_base_url=upstream.base_url) as gateway:
        outcome = await call(gateway)
        await gateway.ledger.wait_one(outcome.end_user_id)
        yield gateway


async def call(gateway: Gateway) -> Outcome:
    """A call that must be served."""
    outcome = await Caller(gateway.client, streams=False).call()
    assert outcome.failure is None
    return outcome


async def until(gateway: Gateway, status: int) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(10):
            while (await health.Check(health_pb2.HealthCheckRequest())).status != status:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def locked(state_dir: Path) -> AsyncIterator[None]:
    """Another program holds the write lock and does not let go."""
    with closing(sqlite3.connect(state_dir / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_locked_database_holds_up_rows_but_no_call(gateway: Gateway, state_dir: Path) -> None:
    async with locked(state_dir):
        outcomes = [await call(gateway) for _ in range(5)]
        await until(gateway, NOT_SERVING)
        outcomes += [await call(gateway) for _ in range(5)]
        assert not await gateway.ledger.read(outcomes[0].end_user_id)
    await until(gateway, SERVING)
    for outcome in outcomes:
        row = await gateway.ledger.wait_one(outcome.end_user_id)
        assert row.error_reason == ""


async def test_a_database_that_is_moved_away_and_back_gets_all_rows(
    gateway: Gateway, state_dir: Path
) -> None:
    away = state_dir / "away.db"
    (state_dir / DATABASE).rename(away)
    await until(gateway, NOT_SERVING)
    outcomes = [await call(gateway) for _ in range(5)]
    away.rename(state_dir / DATABASE)
    await until(gateway, SERVING)
    for outcome in outcomes:
        await gateway.ledger.wait_one(outcome.end_user_id)


async def test_a_database_that_is_deleted_and_restored_gets_all_rows(
    gateway: Gateway, upstream: Upstream, state_dir: Path
) -> None:
    backup = state_dir / "backup.db"
    with (
        closing(sqlite3.connect(state_dir / DATABASE)) as source,
        closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (state_dir / name).unlink()
    first = await call(gateway)
    await until(gateway, NOT_SERVING)
    outcomes = [first, *[await call(gateway) for _ in range(5)]]
    backup.rename(state_dir / DATABASE)
    await until(gateway, SERVING)
    async with reading_ledger(state_dir) as ledger:  # the other one has the deleted file open
        for outcome in outcomes:
            await ledger.wait_one(outcome.end_user_id)


async def test_rows_that_wait_for_a_store_outlive_a_stop(upstream: Upstream, state_dir: Path) -> None:
    async with reading_ledger(state_dir) as ledger:
        async with running_gateway(state_dir, vllm_base_url=upstream.base_url) as gateway:
            await call(gateway)
            async with locked(state_dir):
                outcomes = [await call(gateway) for _ in range(5)]
                await until(gateway, NOT_SERVING)
                gateway.stop.set()
                done, _ = await asyncio.wait([gateway.ended], timeout=0.5)
                assert not done, "it stopped although rows were not written"
            await asyncio.wait_for(asyncio.shield(gateway.ended), 15)
        for outcome in outcomes:
            await ledger.wait_one(outcome.end_user_id)
