"""RPCs of API keys."""

from typing import Final

from google.protobuf.empty_pb2 import Empty

from aigateway.v1.admin_service_pb2 import (
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    DeleteApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    ListApiKeysResponse,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    RotateApiKeyResponse,
    UpdateApiKeyRequest,
)
from aigateway.v1.api_key_pb2 import ApiKey
from gateway_server.auth.keys import new_secret
from gateway_server.call import CallContext
from gateway_server.errors import invalid_request
from gateway_server.ids import new_id
from gateway_server.resource_names import parse_api_key, parse_tenant, parse_tenant_or_any
from gateway_server.rpc.admin.base import AdminMethods, actor_of
from gateway_server.rpc.admin.budgets import check_budget
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules
from gateway_server.storage.paging import PageRequest

_RULES: Final = field_rules(ApiKey.DESCRIPTOR, "api_key")


class ApiKeyMethods(AdminMethods):
    """API keys. Their secrets leave the gateway in the answers of Create and Rotate alone."""

    async def GetApiKey(self, request: GetApiKeyRequest, _: CallContext) -> ApiKey:
        """One key."""
        return await self._api_keys.get(*parse_api_key(request.name))

    async def ListApiKeys(self, request: ListApiKeysRequest, _: CallContext) -> ListApiKeysResponse:
        """One page of the keys of a tenant, or of all."""
        tenant_id = parse_tenant_or_any(request.parent)
        if tenant_id is not None:
            await self._tenants.get(tenant_id)
        page = await self._api_keys.list_page(tenant_id, PageRequest(request.page_size, request.page_token))
        return ListApiKeysResponse(api_keys=page.items, next_page_token=page.next_page_token)

    async def CreateApiKey(self, request: CreateApiKeyRequest, call: CallContext) -> CreateApiKeyResponse:
        """Makes a key and shows its secret."""
        tenant_id = parse_tenant(request.parent, "parent")
        check_create(request.api_key, _RULES)
        await check_budget(request.api_key.budget, "api_key.budget")
        await self._require_guardrail_profile(
            request.api_key.guardrail_profile_override, "api_key.guardrail_profile_override"
        )
        if (
            request.api_key.HasField("expire_time")
            and request.api_key.expire_time.ToNanoseconds() <= self._clock.now() * 1e9
        ):
            raise invalid_request("api_key.expire_time", "is in the past")
        secret = new_secret()
        api_key = await self._api_keys.by(actor_of(call)).create(
            tenant_id, request.api_key_id or new_id(), request.api_key, secret=self._peppers.hashed(secret)
        )
        await self._announce(api_key.name)
        return CreateApiKeyResponse(api_key=api_key, secret=secret)

    async def UpdateApiKey(self, request: UpdateApiKeyRequest, call: CallContext) -> ApiKey:
        """Changes the fields that the mask names."""
        await check_budget(request.api_key.budget, "api_key.budget")
        await self._require_guardrail_profile(
            request.api_key.guardrail_profile_override, "api_key.guardrail_profile_override"
        )

        def change(api_key: ApiKey) -> None:
            apply_update(api_key, request.api_key, request.update_mask, _RULES)

        tenant_id, api_key_id = parse_api_key(request.api_key.name, "api_key.name")
        api_key = await self._api_keys.by(actor_of(call)).update(
            tenant_id, api_key_id, change, etag=request.api_key.etag
        )
        await self._announce(api_key.name)
        return api_key

    async def DeleteApiKey(self, request: DeleteApiKeyRequest, call: CallContext) -> Empty:
        """Deletes a key; its usage records stay."""
        tenant_id, api_key_id = parse_api_key(request.name)
        await self._api_keys.by(actor_of(call)).delete(tenant_id, api_key_id, etag=request.etag)
        await self._announce(request.name)
        return Empty()

    async def RotateApiKey(self, request: RotateApiKeyRequest, call: CallContext) -> RotateApiKeyResponse:
        """Gives a key another secret and shows it; the old one works until the grace period ends."""
        tenant_id, api_key_id = parse_api_key(request.name)
        secret = new_secret()
        api_key = await self._api_keys.by(actor_of(call)).rotate(
            tenant_id,
            api_key_id,
            self._peppers.hashed(secret),
            grace_seconds=request.grace_period.ToNanoseconds() / 1e9,
        )
        await self._announce(api_key.name)
        return RotateApiKeyResponse(api_key=api_key, secret=secret)

    async def RevokeApiKey(self, request: RevokeApiKeyRequest, call: CallContext) -> ApiKey:
        """Ends a key for good; one that is revoked already stays as it is."""
        api_key = await self._api_keys.by(actor_of(call)).revoke(*parse_api_key(request.name))
        await self._announce(api_key.name)
        return api_key
