"""RPCs of tenants."""

from typing import Final

from google.protobuf.empty_pb2 import Empty

from aigateway.v1.admin_service_pb2 import (
    CreateTenantRequest,
    DeleteTenantRequest,
    GetTenantRequest,
    ListTenantsRequest,
    ListTenantsResponse,
    UpdateTenantRequest,
)
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.call import CallContext
from gateway_server.ids import new_id
from gateway_server.resource_names import parse_route, parse_tenant
from gateway_server.rpc.admin.base import AdminMethods, actor_of, require_there
from gateway_server.rpc.admin.budgets import check_budget
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.resources import resource_in_use, resource_not_found

_RULES: Final = field_rules(Tenant.DESCRIPTOR, "tenant")


class TenantMethods(AdminMethods):
    """Tenants. An administrator cannot shut out the tenant whose key is in use."""

    async def GetTenant(self, request: GetTenantRequest, call: CallContext) -> Tenant:
        """One tenant; for a key that is no admin's, its own."""
        tenant_id = parse_tenant(request.name)
        if tenant_id != call.principal.tenant_id and not call.principal.is_admin_reader:
            raise resource_not_found(request.name)
        return await self._tenants.get(tenant_id)

    async def ListTenants(self, request: ListTenantsRequest, _: CallContext) -> ListTenantsResponse:
        """One page of all tenants."""
        page = await self._tenants.list_page(PageRequest(request.page_size, request.page_token))
        return ListTenantsResponse(tenants=page.items, next_page_token=page.next_page_token)

    async def CreateTenant(self, request: CreateTenantRequest, call: CallContext) -> Tenant:
        """Makes a tenant."""
        check_create(request.tenant, _RULES)
        await check_budget(request.tenant.budget, "tenant.budget")
        await self._check_default_route(request.tenant)
        await self._require_guardrail_profile(request.tenant.guardrail_profile, "tenant.guardrail_profile")
        tenant = await self._tenants.by(actor_of(call)).create(request.tenant_id or new_id(), request.tenant)
        await self._announce(tenant.name)
        return tenant

    async def UpdateTenant(self, request: UpdateTenantRequest, call: CallContext) -> Tenant:
        """Changes the fields that the mask names."""
        tenant_id = parse_tenant(request.tenant.name, "tenant.name")
        await check_budget(request.tenant.budget, "tenant.budget")
        await self._check_default_route(request.tenant)
        await self._require_guardrail_profile(request.tenant.guardrail_profile, "tenant.guardrail_profile")

        def change(tenant: Tenant) -> None:
            apply_update(tenant, request.tenant, request.update_mask, _RULES)
            if tenant.state == Tenant.STATE_SUSPENDED:
                _keep_own(tenant_id, call, verb="suspended")

        tenant = await self._tenants.by(actor_of(call)).update(tenant_id, change, etag=request.tenant.etag)
        await self._announce(tenant.name)
        return tenant

    async def DeleteTenant(self, request: DeleteTenantRequest, call: CallContext) -> Empty:
        """Deletes a tenant and its keys; its usage records stay, and its id is not given out again."""
        tenant_id = parse_tenant(request.name)
        _keep_own(tenant_id, call, verb="deleted")
        await self._tenants.by(actor_of(call)).delete(tenant_id, etag=request.etag)
        await self._announce(request.name)
        return Empty()

    async def _check_default_route(self, tenant: Tenant) -> None:
        """Raises INVALID_REQUEST when there is no such route."""
        if name := tenant.default_route:
            field = "tenant.default_route"
            await require_there(self._routes.get(parse_route(name, field)), name, field)


def _keep_own(tenant_id: str, call: CallContext, *, verb: str) -> None:
    """Raises RESOURCE_IN_USE for the tenant of the calling key, which would end all administration by it."""
    if tenant_id == call.principal.tenant_id:
        raise resource_in_use(
            call.principal.tenant,
            call.principal.api_key,
            message=f"{call.principal.tenant} cannot be {verb} with a key of its own",
        )
