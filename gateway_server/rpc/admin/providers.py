"""RPCs of providers."""

import asyncio
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
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.provider_pb2 import Provider
from gateway_server.call import CallContext
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.ids import new_id
from gateway_server.resource_names import parse_provider
from gateway_server.rpc.admin.base import AdminMethods, actor_of
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules, names_field
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.sealing import MasterKeyError

_RULES: Final = field_rules(Provider.DESCRIPTOR, "provider", kept_apart=("credential",))
_CREDENTIAL: Final = "provider.credential"
_MAX_CREDENTIAL_BYTES: Final = 64 * 1024


class ProviderMethods(AdminMethods):
    """Providers. Their settings are checked when they are written, not when the first call needs them."""

    async def GetProvider(self, request: GetProviderRequest, _: CallContext) -> Provider:
        """One provider."""
        return await self._providers.get(parse_provider(request.name))

    async def ListProviders(self, request: ListProvidersRequest, _: CallContext) -> ListProvidersResponse:
        """One page of all providers."""
        page = await self._providers.list_page(PageRequest(request.page_size, request.page_token))
        return ListProvidersResponse(providers=page.items, next_page_token=page.next_page_token)

    async def CreateProvider(self, request: CreateProviderRequest, call: CallContext) -> Provider:
        """Makes a provider; its credential, if it comes with one, is kept sealed."""
        check_create(request.provider, _RULES)
        self._validate_provider(request.provider)
        if request.provider.credential:
            _check_credential(request.provider)
            await self._prepare_sealing()
        provider = await self._providers.by(actor_of(call)).create(
            request.provider_id or new_id(), request.provider, seal=self._master_keys.seal
        )
        await self._announce(provider.name)
        return provider

    async def UpdateProvider(self, request: UpdateProviderRequest, call: CallContext) -> Provider:
        """Changes the fields that the mask names. A credential takes the place of a credential_ref."""
        patch, mask = request.provider, request.update_mask
        credential = patch.credential if names_field(mask, patch, "credential") else None

        def change(provider: Provider) -> None:
            apply_update(provider, patch, mask, _RULES)
            if credential and not names_field(mask, patch, "credential_ref"):
                provider.ClearField("credential_ref")
            self._validate_provider(provider)

        if credential:
            if not names_field(mask, patch, "credential_ref"):
                patch.ClearField("credential_ref")
            _check_credential(patch)
            await self._prepare_sealing()
        provider = await self._providers.by(actor_of(call)).update(
            parse_provider(patch.name, "provider.name"),
            change,
            etag=patch.etag,
            credential=credential,
            seal=self._master_keys.seal,
        )
        await self._announce(provider.name)
        return provider

    async def DeleteProvider(self, request: DeleteProviderRequest, call: CallContext) -> Empty:
        """Deletes a provider that has no models left."""
        await self._providers.by(actor_of(call)).delete(parse_provider(request.name), etag=request.etag)
        await self._announce(request.name)
        return Empty()

    async def CheckProvider(self, request: CheckProviderRequest, _: CallContext) -> CheckProviderResponse:
        """Makes a cheap call to a provider, a disabled one too."""
        return await self._check_provider(await self._providers.get(parse_provider(request.name)))

    async def _prepare_sealing(self) -> None:
        """Raises UPSTREAM_CREDENTIAL_REJECTED when there is no master key to seal a credential with."""
        try:
            # In a thread: the first one is made, in a file.
            await asyncio.to_thread(self._master_keys.prepare)
        except MasterKeyError as error:
            raise GatewayError(
                ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED,
                f"the credential cannot be kept: {error}",
            ) from None


def _check_credential(provider: Provider) -> None:
    """Raises INVALID_REQUEST, without a word of the credential."""
    if provider.credential_ref:
        raise invalid_request(_CREDENTIAL, "cannot be given together with credential_ref")
    if not provider.credential.strip():
        raise invalid_request(_CREDENTIAL, "is blank")
    if len(provider.credential.encode()) > _MAX_CREDENTIAL_BYTES:
        raise invalid_request(_CREDENTIAL, f"is longer than {_MAX_CREDENTIAL_BYTES} bytes")
