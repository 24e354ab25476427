"""Tenants."""

from collections.abc import AsyncIterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from aigateway._async.connection import AsyncConnection
from aigateway.v1.admin_service_pb2 import (
    CreateTenantRequest,
    DeleteTenantRequest,
    GetTenantRequest,
    ListTenantsRequest,
    UpdateTenantRequest,
)
from aigateway.v1.tenant_pb2 import Tenant


class AsyncTenants:
    """``client.admin.tenants``."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, name: str, *, timeout: float | None = None) -> Tenant:
        """Gets one tenant, by its name: ``tenants/{tenant}``."""
        request = GetTenantRequest(name=name)
        return await self._connection.call(self._connection.stubs.admin.GetTenant, request, timeout=timeout)

    def list(self, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[Tenant]:
        """All tenants, newest first, fetched ``page_size`` at a time."""
        request = ListTenantsRequest(page_size=page_size)
        return self._connection.pages(
            self._connection.stubs.admin.ListTenants, request, lambda page: page.tenants, timeout=timeout
        )

    async def create(self, tenant: Tenant, *, tenant_id: str = "", timeout: float | None = None) -> Tenant:
        """Creates a tenant; the gateway chooses the id when none is given."""
        request = CreateTenantRequest(tenant=tenant, tenant_id=tenant_id)
        return await self._connection.call(
            self._connection.stubs.admin.CreateTenant, request, timeout=timeout
        )

    async def update(
        self, tenant: Tenant, *, update_mask: Sequence[str] | None = None, timeout: float | None = None
    ) -> Tenant:
        """Changes the fields that the mask names; without a mask, every field that is set."""
        mask = None if update_mask is None else FieldMask(paths=update_mask)
        request = UpdateTenantRequest(tenant=tenant, update_mask=mask)
        return await self._connection.call(
            self._connection.stubs.admin.UpdateTenant, request, timeout=timeout
        )

    async def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a tenant and its API keys; with ``etag``, only if it is unchanged."""
        request = DeleteTenantRequest(name=name, etag=etag)
        await self._connection.call(self._connection.stubs.admin.DeleteTenant, request, timeout=timeout)
