"""What a store that holds much costs: questions about usage, and the writing of calls, beside an empty one.

    uv run --frozen python -m bench.scale                                  # 200,000 calls of 20,000 keys
    uv run --frozen python -m bench.scale --calls 10000000 --keys 1000000  # half an hour and 6 GB
    uv run --frozen python -m bench.scale --postgresql                     # instead of SQLite
    uv run --frozen python -m bench.scale --database URL                   # that one, kept for the next time

The calls are spread over the 60 days until today, 1,000 tenants and 10 models; sums by hour and day are made
from them by `rebuild_rollups`. Each time is the median of several runs. At last a gateway is put in front of the
full store and another in front of an empty one: `bench.full_store`.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Final

from sqlalchemy import text

from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_pb2 import Cost, TokenUsage
from bench.filling import DAY, DAYS, TENANTS, Filling, fill, find_filling, make_room, rebuild_sums
from gateway_server.clock import SystemClock
from gateway_server.ids import new_id
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.schema import upgrade
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.usage_records import CallRecord, UsageQuery, UsageRepository, rows_of
from gateway_server.storage.usage_sums import SumQuery, UsageSumRepository
from gateway_server.usage.filter import parse_filter
from tests.support.services import SERVICES

_RUNS: Final = 9
_BATCH: Final = 100

Rows = list[tuple[str, str]]


async def _time(ask: Callable[[], Awaitable[object]]) -> str:
    """The median time in milliseconds."""
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    return f"{median(times) * 1000:.1f} ms"


def _calls(filling: Filling) -> list[CallRecord]:
    """A batch of calls of different keys at the end of the last day."""
    usage = TokenUsage(input_tokens=100, output_tokens=10, total_tokens=110)
    cost = Cost(total_nanos=1_000)
    draw = random.Random(1)
    return [
        CallRecord(
            request_id=new_id(),
            tenant_id=f"t{key % TENANTS}",
            api_key_id=f"k{key}",
            method="CreateChatCompletion",
            model="model-1",
            provider_id="p1",
            provider_model="pm-1",
            start_time=filling.end_time - 1 - place,
            latency=draw.randint(1_000, 10_000_000),
            time_to_first_token=draw.randint(1_000, 1_000_000),
            status_code=0,
            usage=usage,
            cost=cost,
            attempts=[Attempt(provider="providers/p1", provider_model="pm-1", usage=usage, cost=cost)],
        )
        for place, key in enumerate(draw.sample(range(filling.keys), _BATCH))
    ]


async def _measure_writing(store: Store, filling: Filling, title: str) -> Rows:
    """What it takes to settle batches of calls of different keys."""
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    times, cpu = [], []
    for position in range(1, _RUNS + 1):
        rows = [rows_of(call) for call in _calls(filling)]
        began, began_cpu = time.perf_counter(), time.process_time()
        await Settlements(store).settle(gateway_id, position, rows, thresholds={})
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    took, used = (median(each) / _BATCH * 1e6 for each in (times, cpu))
    return [(f"settling a call, {_BATCH} keys in a batch, {title}", f"{took:.0f} us, {used:.0f} us of CPU")]


async def _measure_questions(store: Store, filling: Filling) -> Rows:
    sums, records = UsageSumRepository(store, SystemClock()), UsageRepository(store)
    api_keys = ApiKeyRepository(store, SystemClock())
    page = PageRequest(50)
    month = (filling.end_time - 30 * DAY, filling.end_time)
    async with store.read() as connection:
        secret_hash = (
            await connection.execute(text("SELECT secret_hash FROM api_keys LIMIT 1"))
        ).scalar_one()
    by_day = SumQuery(UsageQuery(None, *month), step="day", group_by=("model",))
    of_tenant = SumQuery(UsageQuery("t7", *month), step="day", group_by=("model",))
    of_key = SumQuery(
        UsageQuery("t7", *month, parse_filter("api_key = tenants/t7/apiKeys/k7")),
        step="day",
        group_by=("model",),
    )
    by_key = SumQuery(UsageQuery("t7", *month), group_by=("api_key_id",), largest="cost_nanos")
    today = SumQuery(
        UsageQuery(None, filling.end_time - DAY, filling.end_time),
        group_by=("tenant_id", "api_key_id"),
        largest="cost_nanos",
    )
    first = await records.list_page(UsageQuery(None), page)
    failed = parse_filter("status_code != 0")
    deep = UsageQuery("t7", end_time=filling.end_time - DAYS // 2 * DAY)
    questions: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("reading that nothing has changed", store.check),
        ("a key by its hash", lambda: api_keys.find([secret_hash])),
        (
            "QueryUsage: 30 days of all tenants by day and model",
            lambda: sums.query(by_day, PageRequest(1000)),
        ),
        (
            "QueryUsage: 30 days of a tenant by day and model",
            lambda: sums.query(of_tenant, PageRequest(1000)),
        ),
        ("QueryUsage: 30 days of a key by day and model", lambda: sums.query(of_key, PageRequest(1000))),
        (
            f"QueryUsage: 30 days of a tenant, the 50 largest of {filling.keys // TENANTS:,} keys",
            lambda: sums.query(by_key, page),
        ),
        ("QueryUsage: a day of all tenants, the 50 largest keys", lambda: sums.query(today, page)),
        ("ListUsageRecords: the newest 50 of all tenants", lambda: records.list_page(UsageQuery(None), page)),
        (
            "ListUsageRecords: the page after it",
            lambda: records.list_page(UsageQuery(None), PageRequest(50, first.next_page_token)),
        ),
        ("ListUsageRecords: the newest 50 of a tenant", lambda: records.list_page(UsageQuery("t7"), page)),
        ("ListUsageRecords: 50 of a tenant, a month ago", lambda: records.list_page(deep, page)),
        (
            "ListUsageRecords: the newest 50 of all tenants that failed",
            lambda: records.list_page(UsageQuery(None, conditions=failed), page),
        ),
    ]
    return [(name, await _time(ask)) for name, ask in questions]


async def _run(url: str, filling: Filling) -> str:
    await upgrade(url)
    store = open_store(url)
    rows: Rows = []
    before = await find_filling(store)
    if before is None:
        rows += await _fill(store, filling)
    else:
        filling = before
    rows += await _measure_writing(store, filling, "in the full one")
    rows += await _measure_questions(store, filling)
    lines = [f"{store.dialect}, {filling.calls:,} calls of {filling.keys:,} keys:", ""]
    lines += ["| What | Time |", "| --- | --- |", *(f"| {name} | {found} |" for name, found in rows)]
    await store.close()
    return "\n".join(lines)


async def _fill(store: Store, filling: Filling) -> Rows:
    """What it took, and what it takes to write calls before there are any."""
    await make_room(store, filling)
    rows = await _measure_writing(store, filling, "in an empty store")
    began = time.perf_counter()
    await fill(store, filling)
    filled = time.perf_counter()
    await rebuild_sums(store)
    rebuilt = time.perf_counter()
    return [
        *rows,
        ("filling it", f"{filled - began:.0f} s"),
        ("`ai-gateway rebuild-usage`", f"{rebuilt - filled:.0f} s"),
    ]


def main() -> None:
    """Fills a database of its own and asks it."""
    parser = argparse.ArgumentParser(prog="bench.scale", description="What a store that holds much costs.")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--postgresql", action="store_true", help="a PostgreSQL of the benchmark's own")
    parser.add_argument("--database", default="", help="URL of a database to use, filled when it is empty")
    arguments = parser.parse_args()
    filling = Filling(arguments.calls, arguments.keys, end_day=int(time.time()) * 1_000_000 // DAY)
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{Path(folder) / 'bench.db'}"
        if arguments.postgresql:
            url = f"postgresql://postgres@127.0.0.1:{SERVICES.postgresql().port}/postgres"
        try:
            report = asyncio.run(_run(url, filling))
        finally:
            SERVICES.close()
    print(report)


if __name__ == "__main__":
    main()
