"""Guardrail profiles."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.resource_names import api_key_name, guardrail_profile_name, tenant_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import Change, Key, ResourceRepository, resource_in_use
from gateway_server.storage.tables import api_keys, guardrail_profiles, tenants

FIRST_PAGE: Final = PageRequest()
#: The profile of tenants that name none.
DEFAULT: Final = "default"


class GuardrailProfileRepository(ResourceRepository[GuardrailProfile]):
    """Rows of ``guardrail_profiles``."""

    table = guardrail_profiles
    key_columns = ("guardrail_profile_id",)
    message = GuardrailProfile

    def _name(self, key: Key) -> str:
        return guardrail_profile_name(*key)

    async def get(self, guardrail_profile_id: str) -> GuardrailProfile:
        """The profile; raises RESOURCE_NOT_FOUND."""
        return await self._get((guardrail_profile_id,))

    async def list_page(self, page: PageRequest = FIRST_PAGE) -> Page[GuardrailProfile]:
        """One page of all profiles, newest first."""
        return await self._list(page, parent={})

    async def list_all(self) -> list[GuardrailProfile]:
        """All profiles as they are at one moment."""
        async with self._store.read() as connection:
            return [self.message_of(row) for row in await connection.execute(select(self.table))]

    async def create(self, guardrail_profile_id: str, profile: GuardrailProfile) -> GuardrailProfile:
        """Makes a profile; raises RESOURCE_ALREADY_EXISTS."""
        return await self._create((guardrail_profile_id,), profile)

    async def update(
        self, guardrail_profile_id: str, change: Change[GuardrailProfile], *, etag: str = ""
    ) -> GuardrailProfile:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one."""
        return await self._update((guardrail_profile_id,), change, etag=etag)

    async def delete(self, guardrail_profile_id: str, *, etag: str = "") -> None:
        """Deletes a profile; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE when one is in use."""
        await self._delete((guardrail_profile_id,), etag)

    async def _before_delete(self, connection: AsyncConnection, key: Key) -> None:
        name = self._name(key)
        if key == (DEFAULT,):
            raise resource_in_use(
                name, "tenants/-", message=f"{name} is the profile of all tenants that name none"
            )
        for row in await connection.execute(select(tenants.c.tenant_id, tenants.c.spec)):
            if Tenant.FromString(row.spec).guardrail_profile == name:
                tenant = tenant_name(row.tenant_id)
                raise resource_in_use(name, tenant, message=f"{name} is the profile of {tenant}")
        columns = (api_keys.c.tenant_id, api_keys.c.api_key_id, api_keys.c.spec)
        for tenant_id, api_key_id, spec in await connection.execute(select(*columns)):
            if ApiKey.FromString(spec).guardrail_profile_override == name:
                api_key = api_key_name(tenant_id, api_key_id)
                raise resource_in_use(name, api_key, message=f"{name} is the profile of {api_key}")
