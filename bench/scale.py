"""How long questions about usage take when there is much of it.

    uv run --frozen python -m bench.scale                                    # 200,000 calls of 20,000 keys
    uv run --frozen python -m bench.scale --calls 10000000 --keys 1000000    # takes an hour, and 10 GB
    uv run --frozen python -m bench.scale --postgresql                       # instead of SQLite

The calls are spread over 60 days, 1,000 tenants and 5 models. Times are the median of several runs, to be
read beside the time of a query that does nothing, which is in the table.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy.engine import Connection

from aigateway.v1.usage_pb2 import Cost, TokenUsage
from gateway_server.clock import SystemClock
from gateway_server.ids import new_id
from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.rollups import add_to_rollups
from gateway_server.storage.schema import upgrade
from gateway_server.storage.usage_records import (
    CallRecord,
    UsageQuery,
    UsageRepository,
    insert_calls,
    rows_of,
)
from gateway_server.storage.usage_sums import SumQuery, UsageSumRepository
from tests.support.services import SERVICES

_DAY: Final = 86_400_000_000
_LAST_DAY: Final = 20_700
_DAYS: Final = 60
_TENANTS: Final = 1_000
_BATCH: Final = 10_000


def _call(draw: random.Random, keys: int) -> CallRecord:
    key = draw.randrange(keys)
    return CallRecord(
        request_id=new_id(),
        tenant_id=f"t{key % _TENANTS}",
        api_key_id=f"k{key}",
        method="CreateChatCompletion",
        model=f"m{draw.randrange(5)}",
        provider_id="p",
        provider_model="pm",
        start_time=(_LAST_DAY - _DAYS) * _DAY + draw.randrange(_DAYS * _DAY),
        latency=draw.randint(1_000, 10_000_000),
        time_to_first_token=1_000,
        status_code=0,
        usage=TokenUsage(input_tokens=100, output_tokens=10, total_tokens=110),
        cost=Cost(total_nanos=1_000),
    )


async def _fill(store: Store, calls: int, keys: int) -> None:
    draw = random.Random(1)  # noqa: S311 -- calls for a benchmark
    for start in range(0, calls, _BATCH):
        rows = [rows_of(_call(draw, keys)) for _ in range(min(_BATCH, calls - start))]

        def write(connection: Connection, rows: list[Any] = rows) -> None:
            insert_calls(connection, rows)
            add_to_rollups(connection, [each.record for each in rows])

        await store.write_batch(write)


async def _measure(name: str, ask: Callable[[], Awaitable[object]]) -> None:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    print(f"| {name} | {median(times) * 1000:.1f} |")


async def _run(url: str, calls: int, keys: int) -> None:
    await upgrade(url)
    store = open_store(url)
    began = time.perf_counter()
    await _fill(store, calls, keys)
    took = time.perf_counter() - began
    print(f"{calls:,} calls of {keys:,} keys in {store.dialect}, written in {took:.0f} s\n")
    sums, records = UsageSumRepository(store, SystemClock()), UsageRepository(store)
    page = PageRequest(50)
    month = (_LAST_DAY - 30) * _DAY, _LAST_DAY * _DAY
    print("| Question | ms |\n| --- | --- |")
    await _measure("nothing", store.check)
    everything = SumQuery(UsageQuery(None, *month), step="day", group_by=("model",))
    await _measure("30 days of all tenants by day and model", lambda: sums.query(everything, page))
    tenants = SumQuery(UsageQuery("t7", *month), step="day", group_by=("model",))
    await _measure("30 days of a tenant by day and model", lambda: sums.query(tenants, page))
    by_key = SumQuery(UsageQuery("t7", *month), group_by=("api_key_id",))
    await _measure("30 days of a tenant by key", lambda: sums.query(by_key, page))
    await _measure("newest 50 calls of all tenants", lambda: records.list_page(UsageQuery(None), page))
    await _measure("newest 50 calls of a tenant", lambda: records.list_page(UsageQuery("t7"), page))
    await store.close()


def main() -> None:
    """Fills a database of its own and asks it."""
    parser = argparse.ArgumentParser(prog="bench.scale", description="How long questions about usage take.")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--postgresql", action="store_true", help="a PostgreSQL of the benchmark's own")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        if arguments.postgresql:
            url = f"postgresql://postgres@127.0.0.1:{SERVICES.postgresql().port}/postgres"
        try:
            asyncio.run(_run(url, arguments.calls, arguments.keys))
        finally:
            SERVICES.close()


if __name__ == "__main__":
    main()
