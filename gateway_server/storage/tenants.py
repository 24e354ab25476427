"""Tenants."""

from typing import Final

from sqlalchemy import exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.resource_names import tenant_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import Change, Key, ResourceRepository, resource_already_exists
from gateway_server.storage.tables import deleted_tenants, tenants

FIRST_PAGE: Final = PageRequest()


class TenantRepository(ResourceRepository[Tenant]):
    """Rows of ``tenants``."""

    table = tenants
    key_columns = ("tenant_id",)
    message = Tenant

    def _name(self, key: Key) -> str:
        return tenant_name(*key)

    async def get(self, tenant_id: str) -> Tenant:
        """The tenant; raises RESOURCE_NOT_FOUND."""
        return await self._get((tenant_id,))

    async def list_page(self, page: PageRequest = FIRST_PAGE) -> Page[Tenant]:
        """One page of all tenants, newest first."""
        return await self._list(page, parent={})

    async def create(self, tenant_id: str, tenant: Tenant) -> Tenant:
        """Makes a tenant; raises RESOURCE_ALREADY_EXISTS, also for the id of a deleted one."""
        return await self._create((tenant_id,), tenant)

    async def update(self, tenant_id: str, change: Change[Tenant], *, etag: str = "") -> Tenant:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one."""
        return await self._update((tenant_id,), change, etag=etag)

    async def delete(self, tenant_id: str, *, etag: str = "") -> None:
        """Deletes the tenant and its keys; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH."""
        await self._delete((tenant_id,), etag)

    async def has_existed(self, tenant_id: str) -> bool:
        """Whether there is or was such a tenant, so that it may have usage records."""
        async with self._store.read() as connection:
            result = await connection.execute(
                select(
                    exists().where(tenants.c.tenant_id == tenant_id)
                    | exists().where(deleted_tenants.c.tenant_id == tenant_id)
                )
            )
            return bool(result.scalar_one())

    async def _check_create(self, connection: AsyncConnection, key: Key) -> None:
        statement = select(deleted_tenants.c.tenant_id).where(deleted_tenants.c.tenant_id == key[0])
        if (await connection.execute(statement)).first() is not None:
            raise resource_already_exists(self._name(key))

    async def _before_delete(self, connection: AsyncConnection, key: Key) -> None:
        await connection.execute(insert(deleted_tenants).values(tenant_id=key[0], delete_time=self._now()))
