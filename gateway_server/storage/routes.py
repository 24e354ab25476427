"""Routes."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.route_pb2 import Route
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.resource_names import route_name, tenant_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import Change, Key, ResourceRepository, resource_in_use
from gateway_server.storage.tables import routes, tenants

FIRST_PAGE: Final = PageRequest()


class RouteRepository(ResourceRepository[Route]):
    """Rows of ``routes``."""

    table = routes
    key_columns = ("route_id",)
    message = Route

    def _name(self, key: Key) -> str:
        return route_name(*key)

    async def get(self, route_id: str) -> Route:
        """The route; raises RESOURCE_NOT_FOUND."""
        return await self._get((route_id,))

    async def list_page(
        self, page: PageRequest = FIRST_PAGE, *, accept: Callable[[Route], bool] | None = None
    ) -> Page[Route]:
        """One page of all routes, newest first; only what ``accept`` takes, the same for all pages."""
        return await self._list(page, parent={}, accept=accept)

    async def create(self, route_id: str, route: Route) -> Route:
        """Makes a route; raises RESOURCE_ALREADY_EXISTS."""
        return await self._create((route_id,), route)

    async def update(self, route_id: str, change: Change[Route], *, etag: str = "") -> Route:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one."""
        return await self._update((route_id,), change, etag=etag)

    async def delete(self, route_id: str, *, etag: str = "") -> None:
        """Deletes a route; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE for a default route."""
        await self._delete((route_id,), etag)

    async def _before_delete(self, connection: AsyncConnection, key: Key) -> None:
        name = self._name(key)
        for row in await connection.execute(select(tenants.c.tenant_id, tenants.c.spec)):
            if Tenant.FromString(row.spec).default_route == name:
                tenant = tenant_name(row.tenant_id)
                raise resource_in_use(name, tenant, message=f"{name} is the default route of {tenant}")
