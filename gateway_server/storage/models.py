"""Models of providers."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.model_pb2 import Model
from gateway_server.resource_names import model_name, provider_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import Change, Key, ResourceRepository, resource_not_found
from gateway_server.storage.tables import models, providers

FIRST_PAGE: Final = PageRequest()


class ModelRepository(ResourceRepository[Model]):
    """Rows of ``models``."""

    table = models
    key_columns = ("provider_id", "model_id")
    message = Model

    def _name(self, key: Key) -> str:
        return model_name(*key)

    async def get(self, provider_id: str, model_id: str) -> Model:
        """The model; raises RESOURCE_NOT_FOUND."""
        return await self._get((provider_id, model_id))

    async def list_page(
        self,
        provider_id: str | None,
        page: PageRequest = FIRST_PAGE,
        *,
        accept: Callable[[Model], bool] | None = None,
    ) -> Page[Model]:
        """One page of a provider's models, of all providers' when None; newest first.

        Only what ``accept`` takes is listed; it must take the same for all pages.
        """
        parent = {} if provider_id is None else {"provider_id": provider_id}
        return await self._list(page, parent=parent, accept=accept)

    async def create(self, provider_id: str, model_id: str, model: Model) -> Model:
        """Makes a model; raises RESOURCE_ALREADY_EXISTS, or RESOURCE_NOT_FOUND for its provider."""
        return await self._create((provider_id, model_id), model)

    async def update(
        self, provider_id: str, model_id: str, change: Change[Model], *, etag: str = ""
    ) -> Model:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one."""
        return await self._update((provider_id, model_id), change, etag=etag)

    async def delete(self, provider_id: str, model_id: str, *, etag: str = "") -> None:
        """Deletes the model; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH."""
        await self._delete((provider_id, model_id), etag)

    async def _check_create(self, connection: AsyncConnection, key: Key) -> None:
        statement = select(providers.c.provider_id).where(providers.c.provider_id == key[0])
        if (await connection.execute(statement)).first() is None:
            raise resource_not_found(provider_name(key[0]))
