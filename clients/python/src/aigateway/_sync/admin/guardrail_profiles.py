# Made from _async by tools/make_sync.py: edit there, then run it.
"""Guardrail profiles."""

from collections.abc import Iterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from aigateway._sync.connection import Connection
from aigateway.v1.admin_service_pb2 import (
    CreateGuardrailProfileRequest,
    DeleteGuardrailProfileRequest,
    GetGuardrailProfileRequest,
    ListGuardrailProfilesRequest,
    TestGuardrailProfileRequest,
    TestGuardrailProfileResponse,
    UpdateGuardrailProfileRequest,
)
from aigateway.v1.content_pb2 import Role
from aigateway.v1.guardrail_profile_pb2 import GuardrailPart, GuardrailProfile
from aigateway.v1.routing_pb2 import GuardrailStage


class GuardrailProfiles:
    """``client.admin.guardrail_profiles``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str, *, timeout: float | None = None) -> GuardrailProfile:
        """Gets one guardrail profile, by its name: ``guardrailProfiles/{guardrail_profile}``."""
        request = GetGuardrailProfileRequest(name=name)
        return self._connection.call(
            self._connection.stubs.admin.GetGuardrailProfile, request, timeout=timeout
        )

    def list(self, *, page_size: int = 0, timeout: float | None = None) -> Iterator[GuardrailProfile]:
        """All guardrail profiles, newest first, fetched ``page_size`` at a time."""
        request = ListGuardrailProfilesRequest(page_size=page_size)
        return self._connection.pages(
            self._connection.stubs.admin.ListGuardrailProfiles,
            request,
            lambda page: page.guardrail_profiles,
            timeout=timeout,
        )

    def create(
        self,
        guardrail_profile: GuardrailProfile,
        *,
        guardrail_profile_id: str = "",
        timeout: float | None = None,
    ) -> GuardrailProfile:
        """Creates a guardrail profile; the gateway chooses the id when none is given."""
        request = CreateGuardrailProfileRequest(
            guardrail_profile=guardrail_profile, guardrail_profile_id=guardrail_profile_id
        )
        return self._connection.call(
            self._connection.stubs.admin.CreateGuardrailProfile, request, timeout=timeout
        )

    def update(
        self,
        guardrail_profile: GuardrailProfile,
        *,
        update_mask: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> GuardrailProfile:
        """Changes the fields that the mask names; without a mask, every field that is set."""
        mask = None if update_mask is None else FieldMask(paths=update_mask)
        request = UpdateGuardrailProfileRequest(guardrail_profile=guardrail_profile, update_mask=mask)
        return self._connection.call(
            self._connection.stubs.admin.UpdateGuardrailProfile, request, timeout=timeout
        )

    def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a guardrail profile; with ``etag``, only if it is unchanged."""
        request = DeleteGuardrailProfileRequest(name=name, etag=etag)
        self._connection.call(self._connection.stubs.admin.DeleteGuardrailProfile, request, timeout=timeout)

    def test(
        self,
        name: str,
        text: str,
        *,
        stage: "GuardrailStage.ValueType" = GuardrailStage.GUARDRAIL_STAGE_UNSPECIFIED,
        role: "Role.ValueType" = Role.ROLE_UNSPECIFIED,
        part: "GuardrailPart.ValueType" = GuardrailPart.GUARDRAIL_PART_UNSPECIFIED,
        timeout: float | None = None,
    ) -> TestGuardrailProfileResponse:
        """Runs a guardrail profile on a text without a model call."""
        request = TestGuardrailProfileRequest(name=name, text=text, stage=stage, role=role, part=part)
        return self._connection.call(
            self._connection.stubs.admin.TestGuardrailProfile, request, timeout=timeout
        )
