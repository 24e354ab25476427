"""The ledger's rows: written once each, read back whole, listed newest first, filtered."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import Attempt, GuardrailAction, GuardrailResult
from aigateway.v1.usage_pb2 import Cost, Modality, ModalityTokens, TokenUsage, UsageState
from gateway_server.errors import GatewayError
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import usage_attempts, usage_records
from gateway_server.storage.times import duration_of_micros
from gateway_server.storage.usage_records import (
    CallRecord,
    CallRows,
    Condition,
    UsageQuery,
    UsageRepository,
    rows_of,
)
from gateway_server.usage.settling import settle_batch
from tests.support.ledgers import add_calls
from tests.support.stores import fresh_store

START = 1_760_000_000_000_000
DAY = 86_400_000_000

USAGE = TokenUsage(
    state=UsageState.USAGE_STATE_PROVIDER_REPORTED,
    input_tokens=100,
    output_tokens=20,
    total_tokens=120,
    cache_read_input_tokens=40,
    cache_write_input_tokens=30,
    cache_write_long_input_tokens=10,
    reasoning_output_tokens=5,
    input_by_modality=[ModalityTokens(modality=Modality.MODALITY_IMAGE, tokens=7)],
)
COST = Cost(
    currency_code="USD",
    total_nanos=21,
    input_nanos=1,
    cache_read_nanos=2,
    cache_write_nanos=3,
    output_nanos=4,
    extras_nanos=11,
    estimated=True,
)


def call(request_id: str, *, start_time: int = START, **fields: object) -> CallRecord:
    record = CallRecord(
        request_id=request_id,
        tenant_id="acme",
        api_key_id="ci",
        method="CreateChatCompletion",
        model="gpt-4o",
        start_time=start_time,
        latency=1_500_000,
        status_code=0,
    )
    return replace(record, **fields)  # type: ignore[arg-type]


def names(page: object) -> list[str]:
    return [record.name.rpartition("/")[2] for record in page.items]  # type: ignore[attr-defined]


async def test_a_call_is_read_back_as_it_was_settled(store: Store) -> None:
    usage = UsageRepository(store)
    attempts = [
        Attempt(
            provider="providers/openai",
            provider_model="gpt-4o",
            latency=duration_of_micros(200_000),
            status_code=14,
            error_reason="UPSTREAM_UNAVAILABLE",
            http_status=503,
        ),
        Attempt(
            provider="providers/azure",
            provider_model="gpt-4o-eu",
            wait=duration_of_micros(100_000),
            latency=duration_of_micros(1_200_000),
            time_to_first_token=duration_of_micros(300_001),
            http_status=200,
            usage=USAGE,
            cost=COST,
        ),
    ]
    guardrail = GuardrailResult(
        rule="pii", action=GuardrailAction.GUARDRAIL_ACTION_LOG, findings={"EMAIL": 2}
    )
    await add_calls(
        store,
        [
            call(
                "r1",
                provider_id="azure",
                provider_model="gpt-4o-2024-08-06",
                provider_response_id="chatcmpl-1",
                time_to_first_token=600_000,
                usage=USAGE,
                cost=COST,
                attempts=attempts,
                guardrail_results=[guardrail],
                labels={"team": "search"},
                end_user_id="u-1",
                environment="production",
            )
        ],
    )
    (record,) = (await usage.list_page(UsageQuery("acme"))).items
    assert record.name == "tenants/acme/usageRecords/r1"
    assert record.api_key == "tenants/acme/apiKeys/ci"
    assert record.method == "CreateChatCompletion"
    assert record.model == "gpt-4o"
    assert record.served_by.provider == "providers/azure"
    assert record.served_by.provider_model == "gpt-4o-2024-08-06"
    assert record.served_by.provider_response_id == "chatcmpl-1"
    assert record.start_time.ToMicroseconds() == START
    assert record.latency.ToMicroseconds() == 1_500_000
    assert record.time_to_first_token.ToMicroseconds() == 600_000
    assert (record.status_code, record.error_reason) == (0, "")
    assert record.usage == USAGE
    assert record.cost == COST
    assert list(record.attempts) == attempts_with_wait(attempts)
    assert list(record.guardrail_results) == [guardrail]
    assert dict(record.labels) == {"team": "search"}
    assert (record.end_user_id, record.environment) == ("u-1", "production")


def attempts_with_wait(attempts: list[Attempt]) -> list[Attempt]:
    """A wait is always told, also when it was none."""
    for attempt in attempts:
        attempt.wait.SetInParent()
    return attempts


async def test_what_is_not_known_stays_unset(store: Store) -> None:
    usage = UsageRepository(store)
    await add_calls(store, [call("r1", status_code=5, error_reason="MODEL_NOT_FOUND")])
    (record,) = (await usage.list_page(UsageQuery("acme"))).items
    for field in ("served_by", "time_to_first_token", "usage", "cost"):
        assert not record.HasField(field)
    assert (record.status_code, record.error_reason) == (5, "MODEL_NOT_FOUND")
    assert list(record.attempts) == []


async def test_a_usage_of_zero_is_not_unknown(store: Store) -> None:
    usage = UsageRepository(store)
    zero = TokenUsage(state=UsageState.USAGE_STATE_ESTIMATED)
    await add_calls(store, [call("r1", usage=zero, cost=Cost(currency_code="USD"))])
    (record,) = (await usage.list_page(UsageQuery("acme"))).items
    assert record.usage == zero
    assert record.HasField("cost")


async def test_a_replayed_record_is_ignored_whatever_it_says(store: Store) -> None:
    usage = UsageRepository(store)
    attempt = Attempt(provider="providers/p", provider_model="m")
    await add_calls(store, [call("r1", attempts=[attempt])])
    await add_calls(store, [call("r1", model="other", attempts=[attempt, attempt]), call("r2")])
    assert names(await usage.list_page(UsageQuery("acme"))) == ["r2", "r1"]
    async with store.read() as connection:
        models = (await connection.execute(select(usage_records.c.model))).scalars().all()
    assert set(models) == {"gpt-4o"}


async def test_no_row_of_a_failed_batch_stays(store: Store) -> None:
    broken = call("r2", usage=None, latency=2**70)
    with pytest.raises(Exception, match=r"int|range"):
        await add_calls(store, [call("r1", attempts=[Attempt(provider="providers/p")]), broken])
    async with store.read() as connection:
        for table in (usage_records, usage_attempts):
            count = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            assert count == 0


async def test_text_that_a_database_has_no_place_for_is_replaced(store: Store) -> None:
    usage = UsageRepository(store)
    odd, whole = "a\0b\ud800", "a\ufffdb\ufffd"
    record = call(
        "r1",
        model=odd,
        provider_id="p",
        provider_model=odd,
        provider_response_id=odd,
        end_user_id=odd,
        environment=odd,
        labels={odd: odd},
        attempts=[Attempt(provider="providers/p", provider_model="a\0b")],
    )
    await add_calls(store, [record])
    (read,) = (await usage.list_page(UsageQuery("acme"))).items
    served_by = read.served_by
    assert [read.model, served_by.provider_model, served_by.provider_response_id] == [whole] * 3
    assert [read.end_user_id, read.environment] == [whole] * 2
    assert dict(read.labels) == {whole: whole}
    assert read.attempts[0].provider_model == "a\ufffdb"


async def test_a_call_is_written_without_a_text_that_the_database_does_not_take(store: Store) -> None:
    """As one in a journal that another version wrote."""
    rows = rows_of(call("r1", usage=USAGE, cost=COST, attempts=[Attempt(provider="providers/p", cost=COST)]))
    odd = CallRows({**rows.record, "end_user_id": "a\0b", "labels": {"l": "a\0b"}}, rows.attempts, {})
    await GatewayRepository(store).register("g")
    outcome = await settle_batch(Settlements(store), "g", [(1, odd)], thresholds={})
    assert outcome.rejected == []
    (record,) = (await UsageRepository(store).list_page(UsageQuery("acme"))).items
    assert (record.usage, record.cost) == (USAGE, COST)
    assert record.attempts[0].cost == COST
    if store.dialect == "postgresql":
        assert [each.record["request_id"] for each, _ in outcome.shortened] == ["r1"]
        assert (record.end_user_id, dict(record.labels)) == ("", {})


async def test_a_tenant_sees_its_own_calls_only(store: Store) -> None:
    usage = UsageRepository(store)
    await add_calls(store, [call("r1"), call("r2", tenant_id="other")])
    assert names(await usage.list_page(UsageQuery("acme"))) == ["r1"]
    assert names(await usage.list_page(UsageQuery("other"))) == ["r2"]
    assert names(await usage.list_page(UsageQuery(None))) == ["r2", "r1"]
    assert names(await usage.list_page(UsageQuery("nobody"))) == []


async def test_the_interval_has_its_start_and_not_its_end(store: Store) -> None:
    usage = UsageRepository(store)
    await add_calls(store, [call(f"r{n}", start_time=START + n * DAY) for n in range(4)])
    query = UsageQuery("acme", start_time=START + DAY, end_time=START + 3 * DAY)
    assert names(await usage.list_page(query)) == ["r2", "r1"]


CALLS = [
    call("r1", model="balanced", method="CreateEmbeddings", api_key_id="a", labels={"team": "search"}),
    call(
        "r2", provider_id="openai", provider_model="gpt-4o", status_code=14, error_reason="X", end_user_id="u"
    ),
    call("r3", environment="staging", labels={"team": "", "we ird.'$": 'v"1'}),
    call("r4", tenant_id="other", api_key_id="a"),
]


@pytest.mark.parametrize(
    ("condition", "equal", "different"),
    [
        (Condition("model", "balanced"), ["r1"], ["r4", "r3", "r2"]),
        (Condition("method", "CreateEmbeddings"), ["r1"], ["r4", "r3", "r2"]),
        (Condition("api_key", "tenants/acme/apiKeys/a"), ["r1"], ["r4", "r3", "r2"]),
        (Condition("provider", "openai"), ["r2"], ["r4", "r3", "r1"]),
        (Condition("provider_model", "gpt-4o"), ["r2"], ["r4", "r3", "r1"]),
        (Condition("status_code", 14), ["r2"], ["r4", "r3", "r1"]),
        (Condition("error_reason", "X"), ["r2"], ["r4", "r3", "r1"]),
        (Condition("error_reason", ""), ["r4", "r3", "r1"], ["r2"]),
        (Condition("end_user_id", "u"), ["r2"], ["r4", "r3", "r1"]),
        (Condition("environment", "staging"), ["r3"], ["r4", "r2", "r1"]),
        (Condition("labels", "search", label="team"), ["r1"], ["r4", "r3", "r2"]),
        (Condition("labels", "", label="team"), ["r4", "r3", "r2"], ["r1"]),
        (Condition("labels", 'v"1', label="we ird.'$"), ["r3"], ["r4", "r2", "r1"]),
        (Condition("labels", "x", label="') OR 1=1 --"), [], ["r4", "r3", "r2", "r1"]),
    ],
)
async def test_conditions_split_the_calls_in_two(
    store: Store, condition: Condition, equal: list[str], different: list[str]
) -> None:
    usage = UsageRepository(store)
    await add_calls(store, CALLS)
    assert names(await usage.list_page(UsageQuery(None, conditions=(condition,)))) == equal
    unlike = replace(condition, equal=False)
    assert names(await usage.list_page(UsageQuery(None, conditions=(unlike,)))) == different
    assert names(await usage.list_page(UsageQuery(None, conditions=(condition, unlike)))) == []


async def test_a_token_is_refused_when_the_query_has_changed(store: Store) -> None:
    usage = UsageRepository(store)
    await add_calls(store, [call(f"r{n}") for n in range(3)])
    query = UsageQuery("acme", start_time=START)
    token = (await usage.list_page(query, PageRequest(1))).next_page_token
    assert names(await usage.list_page(query, PageRequest(2, token))) == ["r1", "r0"]
    for other in (
        UsageQuery("other", start_time=START),
        UsageQuery(None, start_time=START),
        UsageQuery("acme"),
        UsageQuery("acme", start_time=START, conditions=(Condition("model", "x"),)),
    ):
        with pytest.raises(GatewayError) as caught:
            await usage.list_page(other, PageRequest(1, token))
        assert caught.value.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST


@pytest.mark.parametrize("tenant_id", ["acme", None])
async def test_a_page_is_read_from_an_index_and_never_sorted(store: Store, tenant_id: str | None) -> None:
    if store.dialect != "sqlite":
        pytest.skip("the planner of another database chooses by its statistics")
    where = "tenant_id = 'acme' AND" if tenant_id else ""
    plan_of = (
        f"EXPLAIN QUERY PLAN SELECT * FROM usage_records WHERE {where} start_time >= 1 AND start_time < 2"
        " AND (start_time, request_id) < (2, 'x') ORDER BY start_time DESC, request_id DESC LIMIT 51"
    )
    async with store.read() as connection:
        plan = " ".join(row[3] for row in (await connection.execute(text(plan_of))).all())
    assert "USING INDEX ix_usage_records" in plan
    assert "TEMP B-TREE" not in plan


async def pages_of(usage: UsageRepository, query: UsageQuery, size: int) -> list[list[str]]:
    found, token = [], ""
    while True:
        page = await usage.list_page(query, PageRequest(size, token))
        found.append(names(page))
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("tenant_id", ["acme", None])
async def test_a_filter_that_matches_seldom_reads_few_calls_for_a_page(
    store: Store, tenant_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_server.storage.usage_records._MAX_READ", 4)
    usage = UsageRepository(store)
    models = dict.fromkeys((3, 4, 10), "seldom")
    await add_calls(
        store, [call(f"r{n:02}", start_time=START + n // 2, model=models.get(n, "m")) for n in range(11)]
    )
    await add_calls(store, [call("theirs", tenant_id="other", start_time=START - 1, model="m")])

    async def pages(model: str, size: int) -> list[list[str]]:
        return await pages_of(usage, UsageQuery(tenant_id, conditions=(Condition("model", model),)), size)

    assert [page for page in await pages("seldom", 50) if page] == [["r10"], ["r04", "r03"]]
    assert [page for page in await pages("seldom", 1) if page] == [["r10"], ["r04"], ["r03"]]
    nothing = await pages("nobody", 50)
    assert len(nothing) >= 3
    assert not any(nothing)
    others = [f"r{n:02}" for n in reversed(range(10)) if n not in models]
    assert [name for page in await pages("m", 3) for name in page] == [
        *others,
        *(["theirs"] if tenant_id is None else []),
    ]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    starts=st.lists(st.integers(0, 3), max_size=15),
    size=st.integers(1, 6),
    most_read=st.none() | st.integers(1, 4),
    inserts=st.booleans(),
)
def test_pages_together_are_the_whole_ledger(
    starts: list[int],
    size: int,
    most_read: int | None,
    inserts: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Many calls begin in the same microsecond, and new ones arrive between the pages."""

    some = () if most_read is None else (Condition("model", "nobody", equal=False),)

    async def check() -> None:
        async with fresh_store("sqlite", tmp_path_factory.mktemp("usage")) as store:
            usage = UsageRepository(store)
            if starts:
                await add_calls(store, [call(f"r{n:02}", start_time=START + s) for n, s in enumerate(starts)])
            expected = [f"r{n:02}" for _, n in sorted(((s, n) for n, s in enumerate(starts)), reverse=True)]
            seen: list[str] = []
            token = ""
            for step in range(2 * len(starts) + 1):
                page = await usage.list_page(UsageQuery("acme", conditions=some), PageRequest(size, token))
                seen.extend(names(page))
                token = page.next_page_token
                if not token:
                    break
                if inserts:
                    await add_calls(store, [call(f"new{step}", start_time=START + 1000 + step)])
            assert seen == expected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_server.storage.usage_records._MAX_READ", most_read or 1)
        asyncio.run(check())
