"""RPCs of providers."""

from typing import Final

from google.protobuf.empty_pb2 import Empty

from aigateway.v1.admin_service_pb2 import (
    CheckProviderRequest,
    CheckProviderResponse,
    CreateProviderRequest,
    DeleteProviderRequest,
    GetProviderRequest,
    ListProvidersRequest,
    ListProvidersResponse,
    UpdateProviderRequest,
)
from aigateway.v1.provider_pb2 import Provider
from gateway_server.call import CallContext
from gateway_server.ids import new_id
from gateway_server.resource_names import parse_provider
from gateway_server.rpc.admin.base import AdminMethods
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules
from gateway_server.storage.paging import PageRequest

_RULES: Final = field_rules(Provider.DESCRIPTOR, "provider", not_built=("credential", "rate_limits"))


class ProviderMethods(AdminMethods):
    """Providers. Their settings are checked when they are written, not when the first call needs them."""

    async def GetProvider(self, request: GetProviderRequest, _: CallContext) -> Provider:
        """One provider."""
        return await self._providers.get(parse_provider(request.name))

    async def ListProviders(self, request: ListProvidersRequest, _: CallContext) -> ListProvidersResponse:
        """One page of all providers."""
        page = await self._providers.list_page(PageRequest(request.page_size, request.page_token))
        return ListProvidersResponse(providers=page.items, next_page_token=page.next_page_token)

    async def CreateProvider(self, request: CreateProviderRequest, _: CallContext) -> Provider:
        """Makes a provider."""
        check_create(request.provider, _RULES)
        self._validate_provider(request.provider)
        provider = await self._providers.create(request.provider_id or new_id(), request.provider)
        await self._announce(provider.name)
        return provider

    async def UpdateProvider(self, request: UpdateProviderRequest, _: CallContext) -> Provider:
        """Changes the fields that the mask names."""

        def change(provider: Provider) -> None:
            apply_update(provider, request.provider, request.update_mask, _RULES)
            self._validate_provider(provider)

        provider_id = parse_provider(request.provider.name, "provider.name")
        provider = await self._providers.update(provider_id, change, etag=request.provider.etag)
        await self._announce(provider.name)
        return provider

    async def DeleteProvider(self, request: DeleteProviderRequest, _: CallContext) -> Empty:
        """Deletes a provider that has no models left."""
        await self._providers.delete(parse_provider(request.name), etag=request.etag)
        await self._announce(request.name)
        return Empty()

    async def CheckProvider(self, request: CheckProviderRequest, _: CallContext) -> CheckProviderResponse:
        """Makes a cheap call to a provider, a disabled one too."""
        return await self._check_provider(await self._providers.get(parse_provider(request.name)))
