from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway.v1.admin_service_pb2 import DeleteTenantRequest
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.usage_service_pb2 import ListUsageRecordsRequest, QueryUsageRequest
from gateway_server.storage.usage_records import CallRecord
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


async def test_sums_come_later(gateway: Gateway) -> None:
    now = Timestamp(seconds=int(time.time()))
    query = QueryUsageRequest(parent="tenants/acme", start_time=now, end_time=now)
    assert (await gateway.fails(gateway.usage.QueryUsage, query)).reason == "NOT_IMPLEMENTED"
