"""What runs for every batch, page or question finds its rows: it reads no growing table from end to end."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import event

from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_pb2 import Cost
from gateway_server.ids import new_id
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.retention import RetentionRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.usage_records import CallRecord, UsageQuery, UsageRepository, rows_of
from gateway_server.storage.usage_sums import SumQuery, UsageSumRepository
from gateway_server.usage.filter import parse_filter
from gateway_server.usage.retention import Retention
from tests.support.stores import SetClock, fresh_store

DAY = 86_400_000_000
TODAY = 20_000
PERIODS: Sequence[Literal["day", "month"]] = ("day", "month")
GROWING = re.compile(
    r"SCAN (usage_records|usage_attempts|usage_rollups|budget_windows|budget_leases|budget_alerts|api_keys)"
    r"( USING (COVERING )?INDEX)?"
)


@contextmanager
def watched(store: Store, file: Path) -> Iterator[list[str]]:
    """Afterwards: the statements that SQLite answers by reading a whole table, each behind its plan."""
    assert store._file is not None
    engines = [store._file._engine, store._engine.sync_engine]
    seen: dict[str, Any] = {}

    def remember(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if statement.split(" ", 1)[0] in {"SELECT", "UPDATE", "DELETE", "INSERT", "WITH"}:
            seen[statement] = parameters[0] if many else parameters

    for engine in engines:
        event.listen(engine, "before_cursor_execute", remember)
    found: list[str] = []
    yield found
    for engine in engines:
        event.remove(engine, "before_cursor_execute", remember)
    assert seen
    with closing(sqlite3.connect(file)) as connection:
        for statement, parameters in seen.items():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            for row in plan:
                scan = GROWING.search(row[3])
                # A page that is read along an index ends with the page.
                if scan is not None and not (scan[2] and " LIMIT " in statement):
                    found.append(f"{row[3]}: {statement}")


def calls(windows: Sequence[WindowKey], day: int = TODAY, count: int = 20) -> list[CallRecord]:
    draw = random.Random(day)
    return [
        CallRecord(
            request_id=new_id(),
            tenant_id=f"t{number % 3}",
            api_key_id=f"k{number}",
            method="CreateChatCompletion",
            model="m",
            start_time=day * DAY + number,
            latency=draw.randint(1, 10**6),
            status_code=0,
            cost=Cost(total_nanos=5),
            attempts=[Attempt(provider="providers/p", provider_model="m", cost=Cost(total_nanos=5))],
            charges=dict.fromkeys(windows, 5),
        )
        for number in range(count)
    ]


async def test_nothing_that_runs_often_reads_a_whole_table(tmp_path: Path) -> None:
    windows = [WindowKey("t1", key, period, TODAY * DAY) for key in ("", "k1") for period in PERIODS]
    clock = SetClock(TODAY * 86_400.0)
    async with fresh_store("sqlite", tmp_path) as store:
        gateway_id = new_id()
        with watched(store, tmp_path / "gateway.db") as scans:
            await GatewayRepository(store).register(gateway_id)
            wants = [LeaseWant(window, (TODAY + 1) * DAY, 10**9, 0) for window in windows]
            await BudgetRepository(store).extend(gateway_id, wants, [LeaseNeed(windows, 10**6)])
            thresholds = {window: [(1, 50)] for window in windows}
            for position, day in enumerate((TODAY - 100, TODAY), start=1):
                rows = [rows_of(call) for call in calls(windows, day)]
                await Settlements(store).settle(gateway_id, position, rows, thresholds=thresholds)
            await BudgetRepository(store).states(gateway_id, windows)
            await BudgetRepository(store).read_recalls(gateway_id)
            await BudgetRepository(store).keep(gateway_id, dict.fromkeys(windows, 0))
            await Retention(RetentionRepository(store), 10, clock=clock).tend()
        assert scans == []


@pytest.mark.parametrize("tenant_id", ["t1", None])
@pytest.mark.parametrize("filter_text", ["", "status_code != 0", "api_key = tenants/t1/apiKeys/k1"])
async def test_no_question_about_usage_reads_a_whole_table(
    tenant_id: str | None, filter_text: str, tmp_path: Path
) -> None:
    clock = SetClock(TODAY * 86_400.0)
    window = UsageQuery(tenant_id, (TODAY - 30) * DAY + 1, TODAY * DAY + 1, parse_filter(filter_text))
    async with fresh_store("sqlite", tmp_path) as store:
        with watched(store, tmp_path / "gateway.db") as scans:
            for group_by in ((), ("model",), ("tenant_id", "api_key_id")):
                for step in (None, "hour", "day", "month"):
                    query = SumQuery(window, step=step, group_by=group_by)
                    await UsageSumRepository(store, clock).query(query, PageRequest())
            await UsageRepository(store).list_page(window, PageRequest())
            await UsageRepository(store).list_page(UsageQuery(tenant_id), PageRequest())
        assert scans == []
