"""Reports end in time, and leave a connection that others can use."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.storage.engine import Store

ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n")


async def count(store: Store, times: int = 20) -> list[int]:
    """What a statement of some length finds, so often at once that all connections are used."""

    async def once() -> int:
        statement = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
        async with store.read() as connection:
            return int((await connection.execute(text(statement + "SELECT max(i) FROM n"))).scalar_one())

    return await asyncio.gather(*(once() for _ in range(times)))


async def test_a_report_that_takes_too_long_says_what_to_do(store: Store) -> None:
    with pytest.raises(GatewayError) as caught:
        async with store.report(0.05) as connection:
            await connection.execute(ENDLESS)
    assert caught.value.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
    assert caught.value.metadata == {"timeout_ms": "50"}
    assert "filter" in caught.value.message
    assert set(await count(store)) == {100_000}


async def test_a_report_whose_caller_has_left_goes_no_further(store: Store) -> None:
    async def report() -> None:
        async with store.report(3600) as connection:
            begun.set()
            await connection.execute(ENDLESS)

    begun = asyncio.Event()
    reports = [asyncio.create_task(report()) for _ in range(5)]
    await begun.wait()
    await asyncio.sleep(0.1)
    for task in reports:
        task.cancel()
    ended = await asyncio.gather(*reports, return_exceptions=True)
    assert [type(each) for each in ended] == 5 * [asyncio.CancelledError], ended
    assert set(await count(store)) == {100_000}
