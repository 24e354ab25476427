"""Providers."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.provider_pb2 import Provider
from gateway_server.resource_names import model_name, provider_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import Change, Key, ResourceRepository, resource_in_use
from gateway_server.storage.tables import models, providers

FIRST_PAGE: Final = PageRequest()


class ProviderRepository(ResourceRepository[Provider]):
    """Rows of ``providers``."""

    table = providers
    key_columns = ("provider_id",)
    unkept_fields = ("credential",)  # has its own, encrypted place or none
    message = Provider

    def _name(self, key: Key) -> str:
        return provider_name(*key)

    async def get(self, provider_id: str) -> Provider:
        """The provider; raises RESOURCE_NOT_FOUND."""
        return await self._get((provider_id,))

    async def list_page(self, page: PageRequest = FIRST_PAGE) -> Page[Provider]:
        """One page of all providers, newest first."""
        return await self._list(page, parent={})

    async def create(self, provider_id: str, provider: Provider) -> Provider:
        """Makes a provider; raises RESOURCE_ALREADY_EXISTS."""
        return await self._create((provider_id,), provider)

    async def update(self, provider_id: str, change: Change[Provider], *, etag: str = "") -> Provider:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one."""
        return await self._update((provider_id,), change, etag=etag)

    async def delete(self, provider_id: str, *, etag: str = "") -> None:
        """Deletes a provider; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE if it has models."""
        await self._delete((provider_id,), etag)

    async def _before_delete(self, connection: AsyncConnection, key: Key) -> None:
        statement = select(models.c.model_id).where(models.c.provider_id == key[0]).limit(1)
        model_id = (await connection.execute(statement)).scalar_one_or_none()
        if model_id is not None:
            name, blocker = self._name(key), model_name(key[0], model_id)
            raise resource_in_use(
                name, blocker, message=f"{name} still has models, {blocker} for one; delete them first"
            )
