"""RPCs of guardrail profiles."""

from typing import Final

from google.protobuf.empty_pb2 import Empty

from aigateway.v1.admin_service_pb2 import (
    CreateGuardrailProfileRequest,
    DeleteGuardrailProfileRequest,
    GetGuardrailProfileRequest,
    ListGuardrailProfilesRequest,
    ListGuardrailProfilesResponse,
    TestGuardrailProfileRequest,
    TestGuardrailProfileResponse,
    UpdateGuardrailProfileRequest,
)
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from gateway_server.call import CallContext
from gateway_server.ids import new_id
from gateway_server.resource_names import parse_guardrail_profile
from gateway_server.rpc.admin.base import AdminMethods, actor_of
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules
from gateway_server.storage.paging import PageRequest

_RULES: Final = field_rules(GuardrailProfile.DESCRIPTOR, "guardrail_profile")


class GuardrailProfileMethods(AdminMethods):
    """Guardrail profiles. Calls that have begun keep the rules that they began with."""

    async def GetGuardrailProfile(
        self, request: GetGuardrailProfileRequest, _: CallContext
    ) -> GuardrailProfile:
        """One profile."""
        return await self._guardrail_profiles.get(parse_guardrail_profile(request.name))

    async def ListGuardrailProfiles(
        self, request: ListGuardrailProfilesRequest, _: CallContext
    ) -> ListGuardrailProfilesResponse:
        """One page of the profiles."""
        page = await self._guardrail_profiles.list_page(PageRequest(request.page_size, request.page_token))
        return ListGuardrailProfilesResponse(
            guardrail_profiles=page.items, next_page_token=page.next_page_token
        )

    async def CreateGuardrailProfile(
        self, request: CreateGuardrailProfileRequest, call: CallContext
    ) -> GuardrailProfile:
        """Makes a profile."""
        check_create(request.guardrail_profile, _RULES)
        await self._validate_guardrail_profile(request.guardrail_profile)
        profile = await self._guardrail_profiles.by(actor_of(call)).create(
            request.guardrail_profile_id or new_id(), request.guardrail_profile
        )
        await self._announce(profile.name)
        return profile

    async def UpdateGuardrailProfile(
        self, request: UpdateGuardrailProfileRequest, call: CallContext
    ) -> GuardrailProfile:
        """Changes the fields that the mask names."""
        patch = request.guardrail_profile
        profile_id = parse_guardrail_profile(patch.name, "guardrail_profile.name")
        # What a mask leaves out is valid already; no field depends on another, so none may share a bound.
        await self._validate_guardrail_profile(patch)

        def change(profile: GuardrailProfile) -> None:
            apply_update(profile, patch, request.update_mask, _RULES)

        repository = self._guardrail_profiles.by(actor_of(call))
        profile = await repository.update(profile_id, change, etag=patch.etag)
        await self._announce(profile.name)
        return profile

    async def DeleteGuardrailProfile(
        self, request: DeleteGuardrailProfileRequest, call: CallContext
    ) -> Empty:
        """Deletes a profile that no tenant and no key uses."""
        profile_id = parse_guardrail_profile(request.name)
        await self._guardrail_profiles.by(actor_of(call)).delete(profile_id, etag=request.etag)
        await self._announce(request.name)
        return Empty()

    async def TestGuardrailProfile(
        self, request: TestGuardrailProfileRequest, _: CallContext
    ) -> TestGuardrailProfileResponse:
        """What a profile does to a text; nobody else gets to see it."""
        await self._guardrail_profiles.get(parse_guardrail_profile(request.name))
        return await self._try_guardrails(request)
