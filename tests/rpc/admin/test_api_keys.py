from __future__ import annotations

import re
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway.v1.admin_service_pb2 import (
    CreateApiKeyRequest,
    DeleteApiKeyRequest,
    GetApiKeyRequest,
    GetTenantRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.permission_pb2 import Scope
from tests.rpc.admin.conftest import Gateway

CI = "tenants/acme/apiKeys/ci"
OWN = GetTenantRequest(name="tenants/acme")


async def create(gateway: Gateway, api_key: ApiKey | None = None) -> tuple[ApiKey, str]:
    answer = await gateway.call(
        gateway.admin.CreateApiKey,
        CreateApiKeyRequest(parent="tenants/acme", api_key_id="ci", api_key=api_key or ApiKey()),
    )
    return answer.api_key, answer.secret


async def works(gateway: Gateway, secret: str) -> bool:
    try:
        await gateway.call(gateway.admin.GetTenant, OWN, secret)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED  # noqa: PT017 -- both outcomes are wanted
        return False
    return True


async def test_a_new_key_works_and_its_secret_is_shown_once(gateway: Gateway) -> None:
    api_key, secret = await create(
        gateway,
        ApiKey(
            display_name="CI", environment="staging", labels={"team": "x"}, allowed_models_override=["gpt-*"]
        ),
    )
    assert re.fullmatch(r"sk-gw-[A-Za-z0-9_-]{43}", secret)
    assert await works(gateway, secret)
    shown = await gateway.call(gateway.admin.GetApiKey, GetApiKeyRequest(name=CI))
    assert shown == api_key
    assert shown.name == CI
    assert (shown.secret_prefix, shown.secret_last4) == (secret[:10], secret[-4:])
    assert shown.environment == "staging"
    listed = await gateway.call(gateway.admin.ListApiKeys, ListApiKeysRequest(parent="tenants/acme"))
    for text in (str(shown), str(listed)):
        assert secret[10:-4] not in text


async def test_a_plain_key_cannot_make_keys(gateway: Gateway) -> None:
    request = CreateApiKeyRequest(parent="tenants/acme", api_key=ApiKey(scopes=[Scope.SCOPE_ADMIN_WRITE]))
    failure = await gateway.fails(gateway.admin.CreateApiKey, request, gateway.user_secret)
    assert failure.reason == "SCOPE_MISSING"


async def test_a_key_needs_its_tenant(gateway: Gateway) -> None:
    request = CreateApiKeyRequest(parent="tenants/nobody", api_key=ApiKey())
    failure = await gateway.fails(gateway.admin.CreateApiKey, request)
    assert (failure.reason, failure.metadata) == ("RESOURCE_NOT_FOUND", {"name": "tenants/nobody"})


async def test_keys_are_listed_by_tenant_and_over_all(gateway: Gateway) -> None:
    await create(gateway)
    own = await gateway.call(gateway.admin.ListApiKeys, ListApiKeysRequest(parent="tenants/acme"))
    every = await gateway.call(gateway.admin.ListApiKeys, ListApiKeysRequest(parent="tenants/-"))
    assert own.api_keys[0].name == CI
    assert len(own.api_keys) == 2
    assert len(every.api_keys) == 3
    failure = await gateway.fails(gateway.admin.ListApiKeys, ListApiKeysRequest(parent="tenants/nobody"))
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_a_revoked_key_stops_at_once_and_for_good(gateway: Gateway) -> None:
    api_key, secret = await create(gateway)
    assert await works(gateway, secret)
    revoked = await gateway.call(gateway.admin.RevokeApiKey, RevokeApiKeyRequest(name=CI))
    assert revoked.HasField("revoke_time")
    assert revoked.etag != api_key.etag
    assert not await works(gateway, secret)
    again = await gateway.call(gateway.admin.RevokeApiKey, RevokeApiKeyRequest(name=CI))
    assert again == revoked
    failure = await gateway.fails(gateway.admin.RotateApiKey, RotateApiKeyRequest(name=CI))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_IN_USE")
    assert failure.metadata == {"name": CI, "blocker": CI}


async def test_a_deleted_key_stops_at_once(gateway: Gateway) -> None:
    api_key, secret = await create(gateway)
    assert await works(gateway, secret)
    await gateway.call(gateway.admin.DeleteApiKey, DeleteApiKeyRequest(name=CI, etag=api_key.etag))
    assert not await works(gateway, secret)
    failure = await gateway.fails(gateway.admin.GetApiKey, GetApiKeyRequest(name=CI))
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_a_rotated_key_works_with_both_secrets_during_its_grace(gateway: Gateway) -> None:
    _, old = await create(gateway)
    assert await works(gateway, old)
    answer = await gateway.call(
        gateway.admin.RotateApiKey, RotateApiKeyRequest(name=CI, grace_period=Duration(seconds=60))
    )
    assert answer.api_key.previous_secret_expire_time.seconds == pytest.approx(time.time() + 60, abs=5)
    assert answer.api_key.secret_last4 == answer.secret[-4:]
    assert await works(gateway, old)
    assert await works(gateway, answer.secret)


async def test_a_key_rotated_without_grace_works_with_the_new_secret_only(gateway: Gateway) -> None:
    _, old = await create(gateway)
    assert await works(gateway, old)
    answer = await gateway.call(gateway.admin.RotateApiKey, RotateApiKeyRequest(name=CI))
    assert not answer.api_key.HasField("previous_secret_expire_time")
    assert not await works(gateway, old)
    assert await works(gateway, answer.secret)


async def test_new_scopes_are_in_effect_at_once(gateway: Gateway) -> None:
    api_key, secret = await create(gateway, ApiKey(scopes=[Scope.SCOPE_ADMIN_READ]))
    await gateway.call(gateway.admin.GetApiKey, GetApiKeyRequest(name=CI), secret)
    api_key.scopes[:] = [Scope.SCOPE_INFERENCE]
    await gateway.call(gateway.admin.UpdateApiKey, UpdateApiKeyRequest(api_key=api_key))
    failure = await gateway.fails(gateway.admin.GetApiKey, GetApiKeyRequest(name=CI), secret)
    assert failure.reason == "SCOPE_MISSING"


async def test_a_key_can_be_made_to_end_now(gateway: Gateway) -> None:
    _, secret = await create(gateway)
    assert await works(gateway, secret)
    await gateway.call(
        gateway.admin.UpdateApiKey,
        UpdateApiKeyRequest(
            api_key=ApiKey(name=CI, expire_time=Timestamp(seconds=int(time.time()) - 1)),
            update_mask=FieldMask(paths=["expire_time"]),
        ),
    )
    assert not await works(gateway, secret)
    await gateway.call(
        gateway.admin.UpdateApiKey,
        UpdateApiKeyRequest(api_key=ApiKey(name=CI), update_mask=FieldMask(paths=["expire_time"])),
    )
    assert await works(gateway, secret)


async def test_a_key_cannot_be_born_expired(gateway: Gateway) -> None:
    request = CreateApiKeyRequest(
        parent="tenants/acme", api_key=ApiKey(expire_time=Timestamp(seconds=int(time.time()) - 1))
    )
    failure = await gateway.fails(gateway.admin.CreateApiKey, request)
    assert set(failure.violations) == {"api_key.expire_time"}


async def test_what_the_gateway_fills_in_cannot_be_written(gateway: Gateway) -> None:
    api_key, _ = await create(
        gateway, ApiKey(secret_prefix="sk-gw-evil", revoke_time=Timestamp(seconds=1), secret_last4="evil")
    )
    assert not api_key.HasField("revoke_time")
    assert api_key.secret_last4 != "evil"
    changed = await gateway.call(
        gateway.admin.UpdateApiKey,
        UpdateApiKeyRequest(
            api_key=ApiKey(name=CI, revoke_time=Timestamp(seconds=1), last_use_time=Timestamp(seconds=1)),
            update_mask=FieldMask(paths=["revoke_time", "last_use_time"]),
        ),
    )
    assert changed == api_key


async def test_guardrails_that_are_not_there_are_refused(gateway: Gateway) -> None:
    api_key = ApiKey(guardrail_profile_override="guardrailProfiles/x")
    failure = await gateway.fails(
        gateway.admin.CreateApiKey, CreateApiKeyRequest(parent="tenants/acme", api_key=api_key)
    )
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {"api_key.guardrail_profile_override"}
