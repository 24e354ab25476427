"""Every change leaves one event that says who made it, in a chain that shows what was tampered with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import delete, update

from aigateway.v1 import admin_service_pb2 as admin
from aigateway.v1.admin_service_pb2 import ListAuditEventsRequest
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.audit_event_pb2 import AuditEvent
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route
from aigateway.v1.routing_pb2 import RoutingStrategy
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.storage.audit import AuditRepository
from gateway_server.storage.engine import Store
from gateway_server.storage.tables import audit_events
from gateway_server.storage.tenants import TenantRepository
from tests.rpc.admin.conftest import Gateway
from tests.support.stores import SetClock, fresh_store


async def events(gateway: Gateway, resource: str = "") -> list[AuditEvent]:
    page = await gateway.call(gateway.admin.ListAuditEvents, ListAuditEventsRequest(resource=resource))
    return list(page.audit_events)


KEY = "tenants/audited/apiKeys/k"
#: In this order; each makes what the next ones need.
CHANGES: list[tuple[str, Any, str]] = [
    ("CreateTenant", admin.CreateTenantRequest(tenant_id="audited", tenant=Tenant()), "tenants/audited"),
    (
        "UpdateTenant",
        admin.UpdateTenantRequest(tenant=Tenant(name="tenants/audited", email="a@b.de")),
        "tenants/audited",
    ),
    (
        "CreateApiKey",
        admin.CreateApiKeyRequest(parent="tenants/audited", api_key_id="k", api_key=ApiKey()),
        KEY,
    ),
    ("UpdateApiKey", admin.UpdateApiKeyRequest(api_key=ApiKey(name=KEY, display_name="x")), KEY),
    ("RotateApiKey", admin.RotateApiKeyRequest(name=KEY), KEY),
    ("RevokeApiKey", admin.RevokeApiKeyRequest(name=KEY), KEY),
    ("DeleteApiKey", admin.DeleteApiKeyRequest(name=KEY), KEY),
    (
        "CreateProvider",
        admin.CreateProviderRequest(
            provider_id="audited", provider=Provider(provider_type="openai", base_url="http://127.0.0.1:9")
        ),
        "providers/audited",
    ),
    (
        "UpdateProvider",
        admin.UpdateProviderRequest(
            provider=Provider(name="providers/audited", display_name="x", credential="hunter2-hunter2")
        ),
        "providers/audited",
    ),
    (
        "CreateModel",
        admin.CreateModelRequest(parent="providers/audited", model_id="m", model=Model(provider_model="m")),
        "providers/audited/models/m",
    ),
    (
        "UpdateModel",
        admin.UpdateModelRequest(model=Model(name="providers/audited/models/m", display_name="x")),
        "providers/audited/models/m",
    ),
    (
        "DeleteModel",
        admin.DeleteModelRequest(name="providers/audited/models/m"),
        "providers/audited/models/m",
    ),
    ("DeleteProvider", admin.DeleteProviderRequest(name="providers/audited"), "providers/audited"),
    ("DeleteTenant", admin.DeleteTenantRequest(name="tenants/audited"), "tenants/audited"),
    (
        "CreateRoute",
        admin.CreateRouteRequest(
            route_id="audited", route=Route(strategy=RoutingStrategy.ROUTING_STRATEGY_BALANCED)
        ),
        "routes/audited",
    ),
    (
        "UpdateRoute",
        admin.UpdateRouteRequest(route=Route(name="routes/audited", display_name="x")),
        "routes/audited",
    ),
    ("DeleteRoute", admin.DeleteRouteRequest(name="routes/audited"), "routes/audited"),
    (
        "CreateGuardrailProfile",
        admin.CreateGuardrailProfileRequest(
            guardrail_profile_id="audited", guardrail_profile=GuardrailProfile()
        ),
        "guardrailProfiles/audited",
    ),
    (
        "UpdateGuardrailProfile",
        admin.UpdateGuardrailProfileRequest(
            guardrail_profile=GuardrailProfile(name="guardrailProfiles/audited", display_name="x")
        ),
        "guardrailProfiles/audited",
    ),
    (
        "DeleteGuardrailProfile",
        admin.DeleteGuardrailProfileRequest(name="guardrailProfiles/audited"),
        "guardrailProfiles/audited",
    ),
]


def test_every_rpc_that_changes_something_is_among_them() -> None:
    service = admin.DESCRIPTOR.services_by_name["AdminService"]
    changing = {
        method.name
        for method in service.methods
        if method.name.startswith(("Create", "Update", "Delete", "Rotate", "Revoke"))
    }
    assert changing == {rpc for rpc, _, _ in CHANGES}


async def test_every_change_leaves_one_event(gateway: Gateway) -> None:
    for rpc, request, resource in CHANGES:
        before = await events(gateway)
        answer = await gateway.call(getattr(gateway.admin, rpc), request)
        after = await events(gateway)
        assert after[1:] == before[: len(after) - 1], rpc
        event = after[0]
        assert (event.method, event.resource) == (rpc, resource)
        assert event.api_key.startswith("tenants/operators/apiKeys/")
        assert len(event.request_id) == 26
        assert bool(event.before_json) == (not rpc.startswith("Create"))
        assert bool(event.after_json) == (not rpc.startswith("Delete"))
        secret = getattr(answer, "secret", "")
        for text in (event.before_json, event.after_json):
            assert "hunter2" not in text
            assert not secret or secret not in text
    assert [event.resource for event in await events(gateway, "tenants/audited")] == [
        "tenants/audited",
        *[KEY] * 5,
        "tenants/audited",
        "tenants/audited",
    ]


async def test_what_changes_nothing_leaves_no_event(gateway: Gateway) -> None:
    before = await events(gateway)
    update_tenant = admin.UpdateTenantRequest(tenant=Tenant(name="tenants/acme"))
    await gateway.call(gateway.admin.UpdateTenant, update_tenant)
    update_tenant.tenant.etag = "no such etag"
    update_tenant.tenant.email = "a@b.de"
    assert (await gateway.fails(gateway.admin.UpdateTenant, update_tenant)).reason == "ETAG_MISMATCH"
    assert await events(gateway) == before


async def test_an_event_says_what_was_and_what_is(gateway: Gateway) -> None:
    request = admin.UpdateTenantRequest(tenant=Tenant(name="tenants/acme", email="new@b.de"))
    await gateway.call(gateway.admin.UpdateTenant, request)
    event = (await events(gateway, "tenants/acme"))[0]
    assert "email" not in json.loads(event.before_json)
    assert json.loads(event.after_json)["email"] == "new@b.de"


async def test_a_resource_that_no_database_holds_is_refused(gateway: Gateway) -> None:
    failure = await gateway.fails(
        gateway.admin.ListAuditEvents, ListAuditEventsRequest(resource="tenants/a\0b")
    )
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {"resource"}


async def test_only_administrators_see_them(gateway: Gateway) -> None:
    failure = await gateway.fails(
        gateway.admin.ListAuditEvents, ListAuditEventsRequest(), gateway.user_secret
    )
    assert failure.reason == "SCOPE_MISSING"


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    async with fresh_store(request.param, tmp_path) as opened:
        yield opened


async def test_tampering_shows(store: Store) -> None:
    tenants = TenantRepository(store, SetClock())
    for number in range(5):
        await tenants.create(f"t{number}", Tenant())
    audit = AuditRepository(store)
    assert await audit.find_break() == (5, None)
    async with store.write() as connection:
        await connection.execute(
            update(audit_events).where(audit_events.c.revision == 3).values(resource="tenants/else")
        )
    assert await audit.find_break() == (2, 3)
    async with store.write() as connection:
        await connection.execute(delete(audit_events).where(audit_events.c.revision == 3))
    assert await audit.find_break() == (2, 4)


async def test_that_the_newest_or_all_were_taken_out_shows(store: Store) -> None:
    tenants = TenantRepository(store, SetClock())
    audit = AuditRepository(store)
    assert await audit.find_break() == (0, None)
    for number in range(3):
        await tenants.create(f"t{number}", Tenant())
    assert await audit.find_break() == (3, None)
    async with store.write() as connection:
        await connection.execute(delete(audit_events).where(audit_events.c.revision == 3))
    assert await audit.find_break() == (2, 3)
    async with store.write() as connection:
        await connection.execute(delete(audit_events))
    assert await audit.find_break() == (0, 1)
