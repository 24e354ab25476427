"""What a store that holds much costs: questions about usage, and the writing of calls, beside an empty one.

    uv run --frozen python -m bench.scale                                  # 200,000 calls of 20,000 keys
    uv run --frozen python -m bench.scale --calls 10000000 --keys 1000000  # a quarter of an hour and 8 GB
    uv run --frozen python -m bench.scale --postgresql                     # instead of SQLite

The calls are spread over the 60 days until today, 1,000 tenants and 10 models. Each time is the median of
several runs. At last gateways are put in front of both stores: `bench.full_store`.
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

import asyncpg
from sqlalchemy import text

from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_pb2 import Cost, TokenUsage
from bench.filling import DAY, DAYS, TENANTS, Filling, fill, fill_keys, make_room
from bench.full_store import Stores, measure_full_store
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
_BATCHES: Final = 30
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


async def _measure_writing(stores: Stores[Store], filling: Filling) -> Rows:
    """What it takes to settle batches of calls of different keys, in turns."""
    gateway_id = new_id()
    for store in stores:
        await GatewayRepository(store).register(gateway_id)
    spent: Stores[list[tuple[float, float]]] = Stores([], [])
    for position in range(1, _BATCHES + 1):
        for store, taken in zip(stores, spent, strict=True):
            rows = [rows_of(call) for call in _calls(filling)]
            began, began_cpu = time.perf_counter(), time.process_time()
            await Settlements(store).settle(gateway_id, position, rows, thresholds={})
            taken.append((time.perf_counter() - began, time.process_time() - began_cpu))
    found: Rows = []
    for place, what in enumerate(("time", "CPU time")):
        empty, full = (median(each[place] for each in taken) / _BATCH * 1e6 for taken in spent)
        ratio = median(f[place] / e[place] for e, f in zip(*spent, strict=True))
        found.append(
            (
                f"settling a call, {_BATCH} keys in a batch: {what}",
                f"{full:.0f} us, {empty:.0f} us in an empty store: {ratio:.2f}",
            )
        )
    return found


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
    nothing = parse_filter('model = "nobody-calls-it"')
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
        (
            "ListUsageRecords: a page of all tenants by a filter that matches nothing",
            lambda: records.list_page(UsageQuery(None, conditions=nothing), page),
        ),
    ]
    return [(name, await _time(ask)) for name, ask in questions]


async def _run(urls: Stores[str], filling: Filling) -> str:
    for url in urls:
        await upgrade(url)
    stores = Stores(*map(open_store, urls))
    await make_room(stores.empty, filling)
    await fill_keys(stores.empty, 0)
    began = time.perf_counter()
    await fill(stores.full, filling)
    filled = time.perf_counter()
    rows = [
        ("filling it", f"{filled - began:.0f} s"),
        *await _measure_writing(stores, filling),
        *await _measure_questions(stores.full, filling),
    ]
    lines = [f"{stores.full.dialect}, {filling.calls:,} calls of {filling.keys:,} keys:", ""]
    lines += ["| What | Time |", "| --- | --- |", *(f"| {name} | {found} |" for name, found in rows)]
    for store in stores:
        await store.close()
    return "\n".join(lines)


async def _make_database(server: str, name: str) -> str:
    """A new database of a PostgreSQL, as a URL."""
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    return f"{server}/{name}"


def main() -> None:
    """Fills a database of its own and asks it."""
    parser = argparse.ArgumentParser(prog="bench.scale", description="What a store that holds much costs.")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--postgresql", action="store_true", help="a PostgreSQL of the benchmark's own")
    parser.add_argument("--rounds", type=int, default=11, help="how often calls are measured")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each interval of calls")
    arguments = parser.parse_args()
    end_day = int(time.time()) * 1_000_000 // DAY
    filling = Filling.of_at_least(arguments.calls, arguments.keys, end_day=end_day)
    with tempfile.TemporaryDirectory() as folder:
        try:
            urls = Stores(*(f"sqlite:///{Path(folder) / name}.db" for name in Stores.NAMES))
            if arguments.postgresql:
                server = f"postgresql://postgres@127.0.0.1:{SERVICES.postgresql().port}"
                urls = Stores(*(asyncio.run(_make_database(server, name)) for name in Stores.NAMES))
            print(asyncio.run(_run(urls, filling)), flush=True)
            print()
            print(measure_full_store(urls, rounds=arguments.rounds, seconds=arguments.seconds))
        finally:
            SERVICES.close()


if __name__ == "__main__":
    main()
