"""Providers."""

from collections.abc import AsyncIterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from aigateway._async.connection import AsyncConnection
from aigateway.v1.admin_service_pb2 import (
    CheckProviderRequest,
    CheckProviderResponse,
    CreateProviderRequest,
    DeleteProviderRequest,
    GetProviderRequest,
    ListProvidersRequest,
    UpdateProviderRequest,
)
from aigateway.v1.provider_pb2 import Provider


class AsyncProviders:
    """``client.admin.providers``."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, name: str, *, timeout: float | None = None) -> Provider:
        """Gets one provider, by its name: ``providers/{provider}``."""
        request = GetProviderRequest(name=name)
        return await self._connection.call(self._connection.stubs.admin.GetProvider, request, timeout=timeout)

    def list(self, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[Provider]:
        """All providers, newest first, fetched ``page_size`` at a time."""
        request = ListProvidersRequest(page_size=page_size)
        return self._connection.pages(
            self._connection.stubs.admin.ListProviders, request, lambda page: page.providers, timeout=timeout
        )

    async def create(
        self, provider: Provider, *, provider_id: str = "", timeout: float | None = None
    ) -> Provider:
        """Creates a provider; the gateway chooses the id when none is given."""
        request = CreateProviderRequest(provider=provider, provider_id=provider_id)
        return await self._connection.call(
            self._connection.stubs.admin.CreateProvider, request, timeout=timeout
        )

    async def update(
        self, provider: Provider, *, update_mask: Sequence[str] | None = None, timeout: float | None = None
    ) -> Provider:
        """Changes the fields that the mask names; without a mask, every field that is set."""
        mask = None if update_mask is None else FieldMask(paths=update_mask)
        request = UpdateProviderRequest(provider=provider, update_mask=mask)
        return await self._connection.call(
            self._connection.stubs.admin.UpdateProvider, request, timeout=timeout
        )

    async def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a provider that has no models left; with ``etag``, only if it is unchanged."""
        request = DeleteProviderRequest(name=name, etag=etag)
        await self._connection.call(self._connection.stubs.admin.DeleteProvider, request, timeout=timeout)

    async def check(self, name: str, *, timeout: float | None = None) -> CheckProviderResponse:
        """Makes a cheap call to a provider to see whether it can be used."""
        request = CheckProviderRequest(name=name)
        return await self._connection.call(
            self._connection.stubs.admin.CheckProvider, request, timeout=timeout
        )
