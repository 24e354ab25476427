"""Sums kept while calls come are those that the ledger gives, whatever the order, batches and writers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from protovalidate import collect_violations
from sqlalchemy import select

from aigateway.v1.usage_pb2 import Cost, TokenUsage
from aigateway.v1.usage_service_pb2 import QueryUsageRequest
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import usage_rollups
from gateway_server.storage.usage_records import CallRecord, Condition, UsageQuery, rows_of
from gateway_server.storage.usage_sums import SumQuery, UsageGroupSum, UsageSumRepository
from gateway_server.usage.filter import parse_filter
from tests.support.ledgers import add_calls
from tests.support.stores import SetClock

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
START = round(datetime(2026, 2, 27, 22, 30, tzinfo=UTC).timestamp()) * 1_000_000
END = START + 4 * DAY


def drawn_call(draw: random.Random) -> CallRecord:
    tokens = draw.randint(0, 1000)
    failed = draw.random() < 0.2
    return CallRecord(
        request_id=new_id(),
        tenant_id=draw.choice(["acme", "other"]),
        api_key_id=draw.choice(["one", "two"]),
        environment=draw.choice(["", "production"]),
        method="CreateChatCompletion",
        model=draw.choice(["m", "n"]),
        provider_id="" if failed else "p",
        provider_model="" if failed else "pm",
        start_time=draw.randrange(START, END),
        latency=draw.randint(1, 10**7),
        time_to_first_token=draw.choice([None, 1000]),
        status_code=14 if failed else 0,
        error_reason="UPSTREAM_UNAVAILABLE" if failed else "",
        usage=TokenUsage(input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1),
        cost=Cost(total_nanos=tokens * 7, input_nanos=tokens * 7),
        labels=draw.choice([{}, {"team": "a"}, {"team": "b", "x": "y"}]),
        end_user_id=draw.choice(["u", "v"]),
    )


def plain(calls: list[CallRecord], query: SumQuery) -> dict[Any, tuple[int, ...]]:
    """The sums as one would make them by hand."""
    sums: dict[Any, list[int]] = {}
    for call in calls:
        start, end = query.calls.start_time or 0, query.calls.end_time or 0
        if query.calls.tenant_id not in {None, call.tenant_id} or not start <= call.start_time < end:
            continue
        length = {"minute": MINUTE, "hour": HOUR, "day": DAY}.get(query.step or "")
        step = call.start_time // length * length if length else start
        if query.step == "month":
            step = (
                round(
                    datetime.fromtimestamp(call.start_time / 1e6, UTC)
                    .replace(day=1, hour=0, minute=0, second=0, microsecond=0)
                    .timestamp()
                )
                * 1_000_000
            )
        values = tuple(getattr(call, name) for name in query.group_by)
        values += tuple(call.labels.get(name, "") for name in query.labels)
        found = sums.setdefault((step, values), [0, 0, 0, 0])
        assert call.usage is not None
        assert call.cost is not None
        for place, amount in enumerate(
            (1, call.usage.total_tokens, call.cost.total_nanos, int(call.status_code != 0))
        ):
            found[place] += amount
    return {key: tuple(found) for key, found in sums.items()}


async def ask(store: Store, query: SumQuery, size: int = 1000) -> list[UsageGroupSum]:
    """The sums of all pages; each page tells the total of all."""
    repository = UsageSumRepository(store, SetClock(END / 1e6))
    found: list[UsageGroupSum] = []
    totals = []
    token = ""
    while True:
        page = await repository.query(query, PageRequest(size, token))
        found += page.sums
        totals.append(page.total)
        token = page.next_page_token
        if not token:
            break
    assert totals == [totals[0]] * len(totals)
    assert totals[0].counters["request_count"] == sum(each.counters["request_count"] for each in found)
    assert totals[0].latency == sum(each.latency for each in found)
    assert totals[0].errors == sum((each.errors for each in found), Counter[str]())
    return found


def told(sums: list[UsageGroupSum]) -> dict[Any, tuple[int, ...]]:
    return {
        (each.start_time, each.values): (
            each.counters["request_count"],
            each.counters["total_tokens"],
            each.counters["cost_nanos"],
            each.errors.total(),
        )
        for each in sums
    }


QUERIES = [
    SumQuery(UsageQuery("acme", START, END)),
    SumQuery(UsageQuery(None, START, END), step="day", group_by=("model",)),
    SumQuery(UsageQuery(None, START + HOUR // 3, END - HOUR // 7), step="day", group_by=("tenant_id",)),
    SumQuery(UsageQuery("acme", START, END), step="hour", group_by=("api_key_id", "environment")),
    SumQuery(UsageQuery("acme", START, END), step="month", group_by=("model", "provider_id")),
    SumQuery(UsageQuery("acme", START, END), labels=("team",)),
    SumQuery(UsageQuery("acme", START, END), group_by=("end_user_id",)),
    SumQuery(UsageQuery("acme", START, START + 3 * MINUTE), step="minute"),
    SumQuery(UsageQuery("acme", START + 1, START + HOUR // 4), group_by=("model",)),
]


async def test_sums_are_those_of_the_calls_and_of_a_rebuild(store: Store) -> None:
    draw = random.Random(7)
    calls = [drawn_call(draw) for _ in range(400)]
    rest = calls.copy()
    while rest:
        size = draw.randint(1, 90)
        await add_calls(store, rest[:size])
        rest = rest[size:]
    for query in QUERIES:
        sums = await ask(store, query)
        assert told(sums) == plain(calls, query)
        assert sums == sorted(sums, key=lambda each: (each.start_time, each.values))
        assert await ask(store, query, size=3) == sums
        largest = await ask(store, replace(query, largest="total_tokens"), size=4)
        assert told(largest) == told(sums)
        tokens = [each.counters["total_tokens"] for each in largest]
        assert tokens == sorted(tokens, reverse=True)

    async def rollups() -> list[Any]:
        async with store.read() as connection:
            rows = await connection.execute(select(usage_rollups).order_by(*usage_rollups.primary_key))
            return [tuple(row) for row in rows]

    kept = await rollups()
    assert await Settlements(store).rebuild_rollups() == 400
    assert await rollups() == kept


async def test_filters_choose_the_calls(store: Store) -> None:
    draw = random.Random(8)
    calls = [drawn_call(draw) for _ in range(100)]
    await add_calls(store, calls)
    conditions = (Condition("model", "m"), Condition("labels", "a", label="team", equal=False))
    query = SumQuery(UsageQuery("acme", START, END, conditions))
    [found] = await ask(store, query)
    expected = [
        call
        for call in calls
        if call.tenant_id == "acme" and call.model == "m" and call.labels.get("team", "") != "a"
    ]
    assert found.counters["request_count"] == len(expected)


async def test_a_call_that_is_settled_again_is_not_counted_again(store: Store) -> None:
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    calls = [rows_of(drawn_call(random.Random(1)))]
    for _ in range(3):
        await Settlements(store).settle(gateway_id, 1, calls, thresholds={})
    [found] = await ask(store, SumQuery(UsageQuery(None, START, END)))
    assert found.counters["request_count"] == 1


async def test_writers_at_once_lose_nothing(store: Store) -> None:
    draw = random.Random(9)

    async def write(count: int) -> None:
        gateway_id = new_id()
        await GatewayRepository(store).register(gateway_id)
        for position in range(1, count + 1):
            batch = [rows_of(drawn_call(draw)) for _ in range(10)]
            await Settlements(store).settle(gateway_id, position, batch, thresholds={})

    await asyncio.gather(*(write(8) for _ in range(4)))
    sums = await ask(store, SumQuery(UsageQuery(None, START, END)))
    assert [each.counters["request_count"] for each in sums] == [320]


async def test_a_question_that_takes_too_much_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_server.storage.usage_sums._MAX_SKETCHES", 10)
    draw = random.Random(3)
    await add_calls(store, [drawn_call(draw) for _ in range(40)])
    with pytest.raises(GatewayError, match="more than 10 rows"):
        await ask(store, SumQuery(UsageQuery("acme", START, END), step="minute"))


async def test_filters_by_numbers_are_answered_from_single_calls(store: Store) -> None:
    draw = random.Random(11)
    calls = [drawn_call(draw) for _ in range(120)]
    await add_calls(store, calls)
    text = "(model = m OR NOT status_code = 0) AND usage.total_tokens > 300 AND latency <= 5s"
    query = SumQuery(UsageQuery(None, START, END, parse_filter(text)))
    found = await ask(store, query)
    expected = [
        call
        for call in calls
        if (call.model == "m" or call.status_code != 0)
        and call.usage is not None
        and call.usage.total_tokens > 300
        and call.latency <= 5_000_000
    ]
    assert [each.counters["request_count"] for each in found] == [len(expected)]


@pytest.mark.parametrize("character", ["\U0001f4b8", "\x01"], ids=["four bytes", "six bytes as JSON"])
async def test_a_token_of_the_longest_group_is_taken_back(store: Store, character: str) -> None:
    labels = {f"label-{place}": 256 * character for place in range(16)}
    longest: dict[str, Any] = {
        "model": 256 * character,
        "provider_model": 512 * character,
        "end_user_id": 256 * character,
        "environment": 64 * character,
    }
    draw = random.Random(1)
    whole = replace(drawn_call(draw), start_time=START, tenant_id="acme", labels=labels, **longest)
    calls = [replace(whole, request_id=new_id(), method=method) for method in ("C", "D", "E")]
    await add_calls(store, calls)
    group_by = ("model", "provider_model", "end_user_id", "environment", "method")
    within = UsageQuery("acme", START, END)
    query = SumQuery(within, group_by=group_by, labels=tuple(labels), largest="cost_nanos")
    repository, request, found = UsageSumRepository(store, SetClock()), QueryUsageRequest(), 0
    for _ in calls:
        page = await repository.query(query, PageRequest(1, request.page_token))
        found += len(page.sums)
        request.page_token = page.next_page_token
        assert "page_token" not in str([each.proto.field for each in collect_violations(request)])
    assert (found, request.page_token) == (3, "")
