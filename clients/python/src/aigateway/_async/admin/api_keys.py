"""API keys."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask

from aigateway._async.connection import AsyncConnection
from aigateway.v1.admin_service_pb2 import (
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    DeleteApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    RotateApiKeyResponse,
    UpdateApiKeyRequest,
)
from aigateway.v1.api_key_pb2 import ApiKey


class AsyncApiKeys:
    """``client.admin.api_keys``."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, name: str, *, timeout: float | None = None) -> ApiKey:
        """Gets one API key, by its name: ``tenants/{tenant}/apiKeys/{api_key}``."""
        request = GetApiKeyRequest(name=name)
        return await self._connection.call(self._connection.stubs.admin.GetApiKey, request, timeout=timeout)

    def list(
        self, parent: str = "tenants/-", *, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[ApiKey]:
        """All API keys of a tenant or, without one, of all tenants, newest first."""
        request = ListApiKeysRequest(parent=parent, page_size=page_size)
        return self._connection.pages(
            self._connection.stubs.admin.ListApiKeys, request, lambda page: page.api_keys, timeout=timeout
        )

    async def create(
        self, parent: str, api_key: ApiKey, *, api_key_id: str = "", timeout: float | None = None
    ) -> CreateApiKeyResponse:
        """Creates an API key. The answer is the only place where its secret is shown."""
        request = CreateApiKeyRequest(parent=parent, api_key=api_key, api_key_id=api_key_id)
        return await self._connection.call(
            self._connection.stubs.admin.CreateApiKey, request, timeout=timeout
        )

    async def update(
        self, api_key: ApiKey, *, update_mask: Sequence[str] | None = None, timeout: float | None = None
    ) -> ApiKey:
        """Changes the fields that the mask names; without a mask, every field that is set."""
        mask = None if update_mask is None else FieldMask(paths=update_mask)
        request = UpdateApiKeyRequest(api_key=api_key, update_mask=mask)
        return await self._connection.call(
            self._connection.stubs.admin.UpdateApiKey, request, timeout=timeout
        )

    async def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes an API key, which stops working at once; with ``etag``, only if it is unchanged."""
        request = DeleteApiKeyRequest(name=name, etag=etag)
        await self._connection.call(self._connection.stubs.admin.DeleteApiKey, request, timeout=timeout)

    async def rotate(
        self, name: str, *, grace_period: timedelta | None = None, timeout: float | None = None
    ) -> RotateApiKeyResponse:
        """Makes a new secret, shown only here. The old one works until the grace period, if any, ends."""
        request = RotateApiKeyRequest(name=name)
        if grace_period is not None:
            request.grace_period.FromTimedelta(grace_period)
        return await self._connection.call(
            self._connection.stubs.admin.RotateApiKey, request, timeout=timeout
        )

    async def revoke(self, name: str, *, timeout: float | None = None) -> ApiKey:
        """Stops a key at once and for good. It stays listed."""
        request = RevokeApiKeyRequest(name=name)
        return await self._connection.call(
            self._connection.stubs.admin.RevokeApiKey, request, timeout=timeout
        )
