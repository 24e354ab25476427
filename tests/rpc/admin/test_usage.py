from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway.v1.admin_service_pb2 import DeleteTenantRequest
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.usage_service_pb2 import (
    ListUsageRecordsRequest,
    QueryUsageRequest,
    TimeStep,
    UsageDimension,
    UsageRecord,
)
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.usage_records import CallRecord, UsageQuery, UsageRepository
from gateway_server.storage.usage_sums import SumPage, SumQuery, UsageSumRepository
from tests.rpc.admin.conftest import Gateway

START = 1_760_000_000


def record(
    gateway: Gateway, request_id: str, *, tenant_id: str = "acme", second: int = 0, model: str = "m"
) -> None:
    gateway.ledger.record(
        CallRecord(
            request_id=request_id,
            tenant_id=tenant_id,
            api_key_id="ci",
            method="CreateChatCompletion",
            model=model,
            start_time=(START + second) * 1_000_000,
            latency=1,
            status_code=0,
        )
    )


async def ids(gateway: Gateway, request: ListUsageRecordsRequest, secret: str = "") -> list[str]:
    page = await gateway.call(gateway.usage.ListUsageRecords, request, secret)
    return [each.name.rpartition("/")[2] for each in page.usage_records]


async def test_a_call_is_listed_as_soon_as_it_is_settled(gateway: Gateway) -> None:
    for number in range(3):
        record(gateway, f"r{number}", second=number)
        request = ListUsageRecordsRequest(parent="tenants/acme", page_size=1)
        assert await ids(gateway, request, gateway.user_secret) == [f"r{number}"]


async def test_a_key_sees_the_calls_of_its_tenant_and_of_no_other(gateway: Gateway) -> None:
    record(gateway, "mine")
    record(gateway, "theirs", tenant_id="operators")
    rpc, secret = gateway.usage.ListUsageRecords, gateway.user_secret
    assert await ids(gateway, ListUsageRecordsRequest(parent="tenants/acme"), secret) == ["mine"]
    foreign = await gateway.fails(rpc, ListUsageRecordsRequest(parent="tenants/operators"), secret)
    missing = await gateway.fails(rpc, ListUsageRecordsRequest(parent="tenants/nobody"), secret)
    assert foreign.code == missing.code == grpc.StatusCode.NOT_FOUND
    assert foreign.message.replace("operators", "nobody") == missing.message
    every = await gateway.fails(rpc, ListUsageRecordsRequest(parent="tenants/-"), secret)
    assert (every.code, every.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


async def test_a_filter_does_not_lead_into_another_tenant(gateway: Gateway) -> None:
    record(gateway, "theirs", tenant_id="operators")
    request = ListUsageRecordsRequest(parent="tenants/acme", filter="api_key = tenants/operators/apiKeys/ci")
    assert await ids(gateway, request, gateway.user_secret) == []


async def test_an_administrator_sees_one_tenant_or_all(gateway: Gateway) -> None:
    record(gateway, "a", second=1)
    record(gateway, "b", second=2, tenant_id="operators")
    assert await ids(gateway, ListUsageRecordsRequest(parent="tenants/acme")) == ["a"]
    assert await ids(gateway, ListUsageRecordsRequest(parent="tenants/-")) == ["b", "a"]
    failure = await gateway.fails(
        gateway.usage.ListUsageRecords, ListUsageRecordsRequest(parent="tenants/nobody")
    )
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_the_calls_of_a_deleted_tenant_stay(gateway: Gateway) -> None:
    record(gateway, "a")
    await gateway.call(gateway.admin.DeleteTenant, DeleteTenantRequest(name="tenants/acme"))
    assert await ids(gateway, ListUsageRecordsRequest(parent="tenants/acme")) == ["a"]


async def test_time_filter_and_pages_narrow_the_list(gateway: Gateway) -> None:
    for number in range(5):
        record(gateway, f"r{number}", second=number, model="even" if number % 2 == 0 else "odd")
    request = ListUsageRecordsRequest(
        parent="tenants/acme",
        start_time=Timestamp(seconds=START),
        end_time=Timestamp(seconds=START + 4),
        filter='model = "even" AND status_code = 0',
        page_size=1,
    )
    page = await gateway.call(gateway.usage.ListUsageRecords, request)
    assert [each.name for each in page.usage_records] == ["tenants/acme/usageRecords/r2"]
    request.page_token = page.next_page_token
    assert await ids(gateway, request) == ["r0"]
    request.filter = ""
    failure = await gateway.fails(gateway.usage.ListUsageRecords, request)
    assert set(failure.violations) == {"page_token"}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ListUsageRecordsRequest(parent="tenants/acme", filter="colour = red"), "filter"),
        (ListUsageRecordsRequest(parent="tenants/acme", filter='end_user_id = "a\0b"'), "filter"),
        (ListUsageRecordsRequest(parent="tenants/acme", filter='labels."a\0b" = x'), "filter"),
        (ListUsageRecordsRequest(parent="tenants/acme", page_size=-1), "page_size"),
        (ListUsageRecordsRequest(parent="acme"), "parent"),
        (
            ListUsageRecordsRequest(
                parent="tenants/acme", start_time=Timestamp(seconds=5), end_time=Timestamp(seconds=5)
            ),
            "end_time",
        ),
        (
            ListUsageRecordsRequest(parent="tenants/acme", start_time=Timestamp(seconds=2**62)),
            "start_time",
        ),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    gateway: Gateway, request_: ListUsageRecordsRequest, field: str
) -> None:
    failure = await gateway.fails(gateway.usage.ListUsageRecords, request_)
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {field}


async def test_a_key_without_the_scope_sees_nothing(gateway: Gateway) -> None:
    secret = await gateway.key("acme", Scope.SCOPE_INFERENCE)
    failure = await gateway.fails(
        gateway.usage.ListUsageRecords, ListUsageRecordsRequest(parent="tenants/acme"), secret
    )
    assert failure.reason == "SCOPE_MISSING"


async def test_sums_are_by_what_is_asked_for(gateway: Gateway) -> None:
    for number in range(6):
        record(gateway, f"r{number}", model="m" if number % 2 else "n")
    record(gateway, "theirs", tenant_id="operators")
    query = QueryUsageRequest(
        parent="tenants/acme",
        start_time=Timestamp(seconds=START - 86_400),
        end_time=Timestamp(seconds=START + 86_400),
        step=TimeStep.TIME_STEP_DAY,
        group_by=[UsageDimension.USAGE_DIMENSION_MODEL, UsageDimension.USAGE_DIMENSION_API_KEY],
        page_size=1,
    )
    rpc, secret = gateway.usage.QueryUsage, gateway.user_secret
    first = await gateway.call(rpc, query, secret)
    query.page_token = first.next_page_token
    second = await gateway.call(rpc, query, secret)
    assert second.next_page_token == ""
    groups = [dict(each.group) for answer in (first, second) for each in answer.usage_sums]
    key = "tenants/acme/apiKeys/ci"
    assert groups == [{"model": "m", "api_key": key}, {"model": "n", "api_key": key}]
    assert first.usage_sums[0].request_count == 3
    assert first.total == second.total
    assert first.total.request_count == 6
    foreign = await gateway.fails(
        rpc,
        QueryUsageRequest(parent="tenants/operators", start_time=query.start_time, end_time=query.end_time),
        secret,
    )
    assert foreign.reason == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"group_by_labels": ["team", "a\0b"]}, "group_by_labels[1]"),
        ({"group_by_labels": ["team", 'a"b']}, "group_by_labels[1]"),
        ({"group_by_labels": [""]}, "group_by_labels[0]"),
        ({"group_by_labels": ["x" * 65]}, "group_by_labels[0]"),
        ({"group_by_labels": ["team", "team"]}, "group_by_labels"),
        ({"group_by_labels": [f"l{number}" for number in range(17)]}, "group_by_labels"),
        ({"group_by": [UsageDimension.USAGE_DIMENSION_MODEL] * 2}, "group_by"),
        ({"group_by": [UsageDimension.USAGE_DIMENSION_UNSPECIFIED]}, "group_by[0]"),
        ({"group_by": [99]}, "group_by[0]"),
        ({"filter": 'model = "a\0b"'}, "filter"),
        ({"filter": f'model = "{"x" * 2048}"'}, "filter"),
    ],
)
async def test_sums_by_what_no_call_has_are_refused(
    gateway: Gateway, fields: dict[str, Any], field: str
) -> None:
    query = QueryUsageRequest(
        parent="tenants/acme",
        start_time=Timestamp(seconds=START),
        end_time=Timestamp(seconds=START + 86_400),
        **fields,
    )
    failure = await gateway.fails(gateway.usage.QueryUsage, query)
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {field}


async def test_what_single_calls_would_have_to_answer_has_bounds(gateway: Gateway) -> None:
    query = QueryUsageRequest(
        parent="tenants/acme",
        start_time=Timestamp(seconds=START),
        end_time=Timestamp(seconds=START + 40 * 86_400),
        group_by=[UsageDimension.USAGE_DIMENSION_END_USER],
    )
    assert "31 days" in (await gateway.fails(gateway.usage.QueryUsage, query)).message
    del query.group_by[:]
    query.step = TimeStep.TIME_STEP_MINUTE
    assert "1 day" in (await gateway.fails(gateway.usage.QueryUsage, query)).message


async def test_the_reports_of_one_tenant_leave_room_for_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = list[str | None](), asyncio.Event()
    list_page, query_sums = UsageRepository.list_page, UsageSumRepository.query

    async def held_list(self: UsageRepository, query: UsageQuery, page: PageRequest) -> Page[UsageRecord]:
        begun.append(query.tenant_id)
        if query.tenant_id == "acme":
            await go_on.wait()
        return await list_page(self, query, page)

    async def held_query(self: UsageSumRepository, query: SumQuery, page: PageRequest) -> SumPage:
        begun.append(query.calls.tenant_id)
        await go_on.wait()
        return await query_sums(self, query, page)

    monkeypatch.setattr(UsageRepository, "list_page", held_list)
    monkeypatch.setattr(UsageSumRepository, "query", held_query)
    start, end = Timestamp(seconds=START), Timestamp(seconds=START + 86_400)
    rpcs = gateway.usage
    async with asyncio.TaskGroup() as calls:
        for _ in range(15):
            calls.create_task(
                ids(gateway, ListUsageRecordsRequest(parent="tenants/acme"), gateway.user_secret)
            )
            query = QueryUsageRequest(parent="tenants/acme", start_time=start, end_time=end)
            calls.create_task(gateway.call(rpcs.QueryUsage, query, gateway.user_secret))
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        assert await ids(gateway, ListUsageRecordsRequest(parent="tenants/operators")) == []
        assert begun == ["acme", "acme", "operators"]
        go_on.set()
    assert begun.count("acme") == 30
