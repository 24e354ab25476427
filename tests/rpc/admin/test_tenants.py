from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aigateway.v1.admin_service_pb2 import (
    CreateTenantRequest,
    DeleteTenantRequest,
    GetApiKeyRequest,
    GetTenantRequest,
    ListTenantsRequest,
    UpdateTenantRequest,
)
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.tenant_pb2 import Tenant
from tests.rpc.admin.conftest import Gateway


async def test_a_tenant_from_creation_to_deletion(gateway: Gateway) -> None:
    admin = gateway.admin
    made = await gateway.call(
        admin.CreateTenant,
        CreateTenantRequest(
            tenant_id="globex",
            tenant=Tenant(
                display_name="Globex",
                email="ops@globex.example",
                labels={"tier": "gold"},
                allowed_models=["openai/*"],
            ),
        ),
    )
    assert made.name == "tenants/globex"
    assert made.HasField("create_time")
    assert await gateway.call(admin.GetTenant, GetTenantRequest(name="tenants/globex")) == made
    made.display_name = "Globex Corporation"
    changed = await gateway.call(
        admin.UpdateTenant, UpdateTenantRequest(tenant=made, update_mask=FieldMask(paths=["display_name"]))
    )
    assert changed.display_name == "Globex Corporation"
    assert changed.etag != made.etag
    await gateway.call(admin.DeleteTenant, DeleteTenantRequest(name="tenants/globex", etag=changed.etag))
    failure = await gateway.fails(admin.GetTenant, GetTenantRequest(name="tenants/globex"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_an_id_is_chosen_when_none_is_given(gateway: Gateway) -> None:
    made = await gateway.call(gateway.admin.CreateTenant, CreateTenantRequest(tenant=Tenant()))
    assert re.fullmatch(r"tenants/[0-9a-z]{26}", made.name)
    assert await gateway.call(gateway.admin.GetTenant, GetTenantRequest(name=made.name)) == made


async def test_a_taken_id_is_refused(gateway: Gateway) -> None:
    failure = await gateway.fails(
        gateway.admin.CreateTenant, CreateTenantRequest(tenant_id="acme", tenant=Tenant())
    )
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")
    assert failure.metadata == {"name": "tenants/acme"}


async def test_tenants_are_listed_by_pages(gateway: Gateway) -> None:
    names: list[str] = []
    token = ""
    for _ in range(2):
        page = await gateway.call(
            gateway.admin.ListTenants, ListTenantsRequest(page_size=1, page_token=token)
        )
        names.extend(tenant.name for tenant in page.tenants)
        token = page.next_page_token
    assert sorted(names) == ["tenants/acme", "tenants/operators"]
    assert token == ""


async def test_a_page_token_that_nobody_gave_out_is_refused(gateway: Gateway) -> None:
    failure = await gateway.fails(gateway.admin.ListTenants, ListTenantsRequest(page_token="AAAA"))
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {"page_token"}


async def test_an_old_etag_is_told_the_present_one(gateway: Gateway) -> None:
    old = await gateway.call(gateway.admin.GetTenant, GetTenantRequest(name="tenants/acme"))
    request = UpdateTenantRequest(tenant=Tenant(name=old.name, etag=old.etag, display_name="a"))
    new = await gateway.call(gateway.admin.UpdateTenant, request)
    failure = await gateway.fails(gateway.admin.UpdateTenant, request)
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert failure.metadata == {"name": "tenants/acme", "current_etag": new.etag}


async def test_of_two_writers_with_one_etag_one_is_told(gateway: Gateway) -> None:
    old = await gateway.call(gateway.admin.GetTenant, GetTenantRequest(name="tenants/acme"))
    results = await asyncio.gather(
        *(
            gateway.call(
                gateway.admin.UpdateTenant,
                UpdateTenantRequest(tenant=Tenant(name=old.name, etag=old.etag, display_name=name)),
            )
            for name in ("one", "two")
        ),
        return_exceptions=True,
    )
    kept = await gateway.call(gateway.admin.GetTenant, GetTenantRequest(name="tenants/acme"))
    assert [result for result in results if isinstance(result, Tenant)] == [kept]


async def test_a_plain_key_reads_its_own_tenant_and_no_other(gateway: Gateway) -> None:
    get = gateway.admin.GetTenant
    own = await gateway.call(get, GetTenantRequest(name="tenants/acme"), gateway.user_secret)
    assert own.name == "tenants/acme"
    foreign = await gateway.fails(get, GetTenantRequest(name="tenants/operators"), gateway.user_secret)
    missing = await gateway.fails(get, GetTenantRequest(name="tenants/nobody"), gateway.user_secret)
    assert foreign.code == missing.code == grpc.StatusCode.NOT_FOUND
    assert foreign.message.replace("operators", "nobody") == missing.message


async def test_a_plain_key_changes_nothing(gateway: Gateway) -> None:
    admin, secret = gateway.admin, gateway.user_secret
    calls: list[tuple[Any, object]] = [
        (admin.ListTenants, ListTenantsRequest()),
        (admin.CreateTenant, CreateTenantRequest(tenant=Tenant())),
        (admin.UpdateTenant, UpdateTenantRequest(tenant=Tenant(name="tenants/acme", allowed_models=["*"]))),
        (admin.DeleteTenant, DeleteTenantRequest(name="tenants/acme")),
        (admin.GetApiKey, GetApiKeyRequest(name="tenants/acme/apiKeys/ci")),
    ]
    for rpc, request in calls:
        failure = await gateway.fails(rpc, request, secret)
        assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


async def test_a_key_that_reads_everything_writes_nothing(gateway: Gateway) -> None:
    secret = await gateway.key("operators", Scope.SCOPE_ADMIN_READ)
    await gateway.call(gateway.admin.ListTenants, ListTenantsRequest(), secret)
    failure = await gateway.fails(gateway.admin.CreateTenant, CreateTenantRequest(tenant=Tenant()), secret)
    assert failure.reason == "SCOPE_MISSING"


async def test_a_suspended_tenant_is_shut_out_at_once(gateway: Gateway) -> None:
    get, own = gateway.admin.GetTenant, GetTenantRequest(name="tenants/acme")
    await gateway.call(get, own, gateway.user_secret)
    await gateway.call(
        gateway.admin.UpdateTenant,
        UpdateTenantRequest(tenant=Tenant(name="tenants/acme", state=Tenant.STATE_SUSPENDED)),
    )
    failure = await gateway.fails(get, own, gateway.user_secret)
    assert (failure.reason, failure.metadata) == ("TENANT_SUSPENDED", {"tenant": "tenants/acme"})


async def test_a_deleted_tenant_is_shut_out_at_once_and_its_id_stays_taken(gateway: Gateway) -> None:
    get, own = gateway.admin.GetTenant, GetTenantRequest(name="tenants/acme")
    await gateway.call(get, own, gateway.user_secret)
    await gateway.call(gateway.admin.DeleteTenant, DeleteTenantRequest(name="tenants/acme"))
    assert (await gateway.fails(get, own, gateway.user_secret)).reason == "API_KEY_INVALID"
    failure = await gateway.fails(
        gateway.admin.CreateTenant, CreateTenantRequest(tenant_id="acme", tenant=Tenant())
    )
    assert failure.reason == "RESOURCE_ALREADY_EXISTS"


async def test_an_administrator_does_not_shut_itself_out(gateway: Gateway) -> None:
    suspend = UpdateTenantRequest(tenant=Tenant(name="tenants/operators", state=Tenant.STATE_SUSPENDED))
    calls: list[tuple[Any, object]] = [
        (gateway.admin.DeleteTenant, DeleteTenantRequest(name="tenants/operators")),
        (gateway.admin.UpdateTenant, suspend),
    ]
    for rpc, request in calls:
        failure = await gateway.fails(rpc, request)
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_IN_USE")
        assert failure.metadata["name"] == "tenants/operators"
        assert failure.metadata["blocker"].startswith("tenants/operators/apiKeys/k")


async def test_guardrails_that_are_not_there_are_refused(gateway: Gateway) -> None:
    tenant = Tenant(guardrail_profile="guardrailProfiles/x")
    failure = await gateway.fails(gateway.admin.CreateTenant, CreateTenantRequest(tenant=tenant))
    assert (failure.reason, set(failure.violations)) == ("INVALID_REQUEST", {"tenant.guardrail_profile"})
    tenant.name = "tenants/acme"
    failure = await gateway.fails(gateway.admin.UpdateTenant, UpdateTenantRequest(tenant=tenant))
    assert (failure.reason, set(failure.violations)) == ("INVALID_REQUEST", {"tenant.guardrail_profile"})


@pytest.mark.parametrize(
    ("tenant", "field"),
    [
        (Tenant(email="no address"), "tenant.email"),
        (Tenant(display_name="x" * 257), "tenant.display_name"),
        (Tenant(labels={"": "x"}), "tenant.labels[]"),
        (Tenant(allowed_models=[""]), "tenant.allowed_models[0]"),
    ],
)
async def test_a_field_against_the_rules_is_named(gateway: Gateway, tenant: Tenant, field: str) -> None:
    failure = await gateway.fails(gateway.admin.CreateTenant, CreateTenantRequest(tenant=tenant))
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {field}


async def test_an_update_of_a_field_that_does_not_exist_is_refused(gateway: Gateway) -> None:
    failure = await gateway.fails(
        gateway.admin.UpdateTenant,
        UpdateTenantRequest(tenant=Tenant(name="tenants/acme"), update_mask=FieldMask(paths=["colour"])),
    )
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {"update_mask"}
