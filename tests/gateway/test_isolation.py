"""A key sees and touches nothing of another tenant: what belongs to others looks like what does not exist.

Every RPC whose requests can name a tenant is called with a foreign tenant's names, and with names that nobody
has; the answers must not differ. Every other RPC is called too: it is refused, or shows nothing of the other
tenant. An RPC that is added to the contract without a request here fails the walk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway import AsyncClient
from aigateway.errors import PermissionDeniedError
from aigateway.v1 import (
    admin_service_pb2,
    chat_service_pb2,
    embeddings_service_pb2,
    usage_service_pb2,
)
from aigateway.v1 import admin_service_pb2 as admin
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import CountTokensRequest, ExplainRouteRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from aigateway.v1.model_pb2 import Model
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route, RouteTarget
from aigateway.v1.routing_pb2 import GatewayOptions, GuardrailStage, RoutingStrategy
from aigateway.v1.tenant_pb2 import Budget, RateLimits, Tenant
from aigateway.v1.usage_service_pb2 import (
    GetLimitUsageRequest,
    ListUsageRecordsRequest,
    QueryUsageRequest,
    UsageDimension,
)
from tests.support.gateway import chat_request, client_of, running_gateway
from tests.support.statuses import read_failure
from tests.support.upstream import MODEL, running_upstream

SERVICES = (admin_service_pb2, chat_service_pb2, embeddings_service_pb2, usage_service_pb2)
#: What only the foreign tenant has. None of it may be in any answer.
MARKS = ("victim", "secret-label", "secret-model", "victims-user", "vault")

Build = Callable[[str, str, str], Message]  # of a tenant, a key, and a page token


def sums(**fields: Any) -> QueryUsageRequest:
    """A question over all years that matter."""
    start, end = Timestamp(seconds=1_700_000_000), Timestamp(seconds=2_000_000_000)
    return QueryUsageRequest(start_time=start, end_time=end, **fields)


#: Requests that name a tenant or a key. RPCs of resources that no tenant owns are below.
REQUESTS: dict[str, list[Build]] = {
    "GetTenant": [lambda tenant, key, token: admin.GetTenantRequest(name=tenant)],
    "ListTenants": [lambda tenant, key, token: admin.ListTenantsRequest(page_token=token)],
    "UpdateTenant": [
        lambda tenant, key, token: admin.UpdateTenantRequest(tenant=Tenant(name=tenant, email="a@b.de"))
    ],
    "DeleteTenant": [lambda tenant, key, token: admin.DeleteTenantRequest(name=tenant)],
    "GetApiKey": [lambda tenant, key, token: admin.GetApiKeyRequest(name=key)],
    "ListApiKeys": [
        lambda tenant, key, token: admin.ListApiKeysRequest(parent=tenant),
        lambda tenant, key, token: admin.ListApiKeysRequest(parent="tenants/-"),
    ],
    "CreateApiKey": [lambda tenant, key, token: admin.CreateApiKeyRequest(parent=tenant)],
    "UpdateApiKey": [
        lambda tenant, key, token: admin.UpdateApiKeyRequest(api_key=ApiKey(name=key, display_name="x"))
    ],
    "DeleteApiKey": [lambda tenant, key, token: admin.DeleteApiKeyRequest(name=key)],
    "RotateApiKey": [lambda tenant, key, token: admin.RotateApiKeyRequest(name=key)],
    "RevokeApiKey": [lambda tenant, key, token: admin.RevokeApiKeyRequest(name=key)],
    "ListAuditEvents": [lambda tenant, key, token: admin.ListAuditEventsRequest()],
    "ListUsageRecords": [
        lambda tenant, key, token: ListUsageRecordsRequest(parent=tenant),
        lambda tenant, key, token: ListUsageRecordsRequest(parent="tenants/-"),
        lambda tenant, key, token: ListUsageRecordsRequest(parent="tenants/attacker", page_token=token),
        lambda tenant, key, token: ListUsageRecordsRequest(
            parent="tenants/attacker", filter=f'api_key = "{key}"'
        ),
        lambda tenant, key, token: ListUsageRecordsRequest(
            parent="tenants/attacker", filter=f'api_key != "{key}" AND labels.l != "x"'
        ),
    ],
    "QueryUsage": [
        lambda tenant, key, token: sums(parent=tenant),
        lambda tenant, key, token: sums(parent="tenants/-"),
        lambda tenant, key, token: sums(
            parent="tenants/attacker",
            group_by=[
                UsageDimension.USAGE_DIMENSION_TENANT,
                UsageDimension.USAGE_DIMENSION_API_KEY,
                UsageDimension.USAGE_DIMENSION_MODEL,
            ],
            group_by_labels=["l"],
            filter=f'api_key = "{key}"',
        ),
    ],
    "GetLimitUsage": [
        lambda tenant, key, token: GetLimitUsageRequest(parent=tenant),
        lambda tenant, key, token: GetLimitUsageRequest(parent="tenants/attacker", api_key=key),
        lambda tenant, key, token: GetLimitUsageRequest(parent=tenant, api_key=key),
    ],
}
CHAT = chat_request()
#: Of the gateway as a whole, or of whoever calls: no tenant's name fits into their requests.
NOBODYS: dict[str, Message] = {
    "CreateTenant": admin.CreateTenantRequest(tenant_id="another", tenant=Tenant()),
    "GetProvider": admin.GetProviderRequest(name="providers/vllm"),
    "ListProviders": admin.ListProvidersRequest(),
    "CheckProvider": admin.CheckProviderRequest(name="providers/vllm"),
    "CreateProvider": admin.CreateProviderRequest(provider=Provider(provider_type="demo")),
    "UpdateProvider": admin.UpdateProviderRequest(provider=Provider(name="providers/vllm", disabled=True)),
    "DeleteProvider": admin.DeleteProviderRequest(name="providers/vllm"),
    "GetModel": admin.GetModelRequest(name=f"providers/vllm/models/{MODEL}"),
    "ListModels": admin.ListModelsRequest(parent="providers/-"),
    "CreateModel": admin.CreateModelRequest(parent="providers/vllm", model=Model(provider_model="m")),
    "UpdateModel": admin.UpdateModelRequest(
        model=Model(name=f"providers/vllm/models/{MODEL}", disabled=True)
    ),
    "DeleteModel": admin.DeleteModelRequest(name=f"providers/vllm/models/{MODEL}"),
    "GetRoute": admin.GetRouteRequest(name="routes/balanced"),
    "ListRoutes": admin.ListRoutesRequest(),
    "CreateRoute": admin.CreateRouteRequest(route=Route(strategy=RoutingStrategy.ROUTING_STRATEGY_BALANCED)),
    "UpdateRoute": admin.UpdateRouteRequest(route=Route(name="routes/balanced", display_name="x")),
    "DeleteRoute": admin.DeleteRouteRequest(name="routes/balanced"),
    "GetGuardrailProfile": admin.GetGuardrailProfileRequest(name="guardrailProfiles/off"),
    "ListGuardrailProfiles": admin.ListGuardrailProfilesRequest(),
    "CreateGuardrailProfile": admin.CreateGuardrailProfileRequest(guardrail_profile=GuardrailProfile()),
    "UpdateGuardrailProfile": admin.UpdateGuardrailProfileRequest(
        guardrail_profile=GuardrailProfile(name="guardrailProfiles/off", display_name="x")
    ),
    "DeleteGuardrailProfile": admin.DeleteGuardrailProfileRequest(name="guardrailProfiles/off"),
    "TestGuardrailProfile": admin.TestGuardrailProfileRequest(
        name="guardrailProfiles/off",
        text="hello",
        stage=GuardrailStage.GUARDRAIL_STAGE_INPUT,
    ),
    "ListTargetStates": admin.ListTargetStatesRequest(),
    "CreateChatCompletion": CHAT,
    "StreamChatCompletion": CHAT,
    "CountTokens": CountTokensRequest(model=MODEL, messages=CHAT.messages),
    "ExplainRoute": ExplainRouteRequest(request=CHAT),
    "CreateEmbeddings": CreateEmbeddingsRequest(model=MODEL, inputs=[EmbeddingInput(text="hello")]),
}
#: Those of NOBODYS that a key with SCOPE_INFERENCE may call.
OF_CALLERS = {
    *("GetModel", "ListModels", "GetRoute", "ListRoutes"),
    *("CreateChatCompletion", "StreamChatCompletion", "CountTokens", "ExplainRoute", "CreateEmbeddings"),
}


def all_rpcs() -> list[str]:
    return [
        method.name
        for module in SERVICES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def test_every_rpc_is_walked() -> None:
    assert set(all_rpcs()) == REQUESTS.keys() | NOBODYS.keys()


async def answer_of(client: AsyncClient, rpc: str, request: Message) -> str:
    """All that comes back, but for what differs from call to call."""
    stubs = client.stubs
    services = (stubs.usage, stubs.admin, stubs.chat, stubs.embeddings)
    stub: Any = next(service for service in services if hasattr(service, rpc))
    call = getattr(stub, rpc)(request, metadata=client.metadata, timeout=10)
    try:
        answers = [event async for event in call] if rpc.startswith("Stream") else [await call]
        trailing = await call.trailing_metadata()
    except grpc.aio.AioRpcError as error:
        failure = read_failure(error)
        return repr((failure.code, failure.reason, failure.message, sorted(failure.metadata.items())))
    return "".join(map(json_format.MessageToJson, answers)) + repr(sorted(trailing))


@pytest.mark.parametrize(
    "scopes",
    [
        (),
        (Scope.SCOPE_INFERENCE,),
        (Scope.SCOPE_USAGE_READ,),
        (Scope.SCOPE_INFERENCE, Scope.SCOPE_USAGE_READ),
    ],
    ids=["default", "inference", "usage", "both"],
)
async def test_what_is_anothers_looks_like_what_does_not_exist(
    tmp_path: Path, scopes: tuple[Scope.ValueType, ...]
) -> None:
    async with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "state", vllm_base_url=upstream.base_url) as gateway,
    ):
        owner = gateway.client.admin
        tenant = Tenant(
            labels={"l": "secret-label"},
            rate_limits=RateLimits(requests_per_minute=7),
            budget=Budget(daily_nanos=10**12, allow_unpriced_models=True),
        )
        await owner.tenants.create(tenant, tenant_id="victim")
        victim = await owner.api_keys.create(
            "tenants/victim", ApiKey(display_name="vault"), api_key_id="vault"
        )
        await owner.tenants.create(Tenant(), tenant_id="attacker")
        attacker = await owner.api_keys.create("tenants/attacker", ApiKey(scopes=scopes))
        async with client_of(gateway.address, victim.secret) as client:
            for _ in range(3):
                await client.chat.create(
                    MODEL, "hi", labels={"l": "secret-label"}, end_user_id="victims-user"
                )
            page = await client.stubs.usage.ListUsageRecords(
                ListUsageRecordsRequest(parent="tenants/victim", page_size=1), metadata=client.metadata
            )
            assert page.next_page_token
            tenants = await gateway.client.stubs.admin.ListTenants(
                admin.ListTenantsRequest(page_size=1), metadata=gateway.metadata
            )
        tokens = {"ListTenants": tenants.next_page_token}
        async with client_of(gateway.address, attacker.secret) as client:
            for rpc, builds in REQUESTS.items():
                for build in builds:
                    token = tokens.get(rpc, page.next_page_token)
                    theirs = await answer_of(
                        client, rpc, build("tenants/victim", "tenants/victim/apiKeys/vault", token)
                    )
                    nobodys = await answer_of(
                        client, rpc, build("tenants/nobody", "tenants/nobody/apiKeys/nought", token)
                    )
                    theirs_renamed = theirs.replace("victim", "nobody").replace("vault", "nought")
                    assert theirs_renamed == nobodys, rpc
                    told = theirs.replace("tenants/victim/apiKeys/vault", "").replace("tenants/victim", "")
                    assert not [mark for mark in MARKS if mark in told], (rpc, told)
            told_by = {rpc: await answer_of(client, rpc, request) for rpc, request in NOBODYS.items()}
            for rpc, told in told_by.items():
                assert not [mark for mark in MARKS if mark in told], (rpc, told)
            allowed = {rpc for rpc, told in told_by.items() if "SCOPE_MISSING" not in told}
            assert allowed == (set() if scopes == (Scope.SCOPE_USAGE_READ,) else OF_CALLERS)
        assert (await owner.tenants.get("tenants/victim")).email == ""
        assert (await owner.api_keys.get("tenants/victim/apiKeys/vault")).display_name == "vault"


#: Every field in which a caller's request names something of the gateway as a whole, with requests that
#: do: a function of a provider, the id of a model of it, and the id of a route.
NAMING: dict[str, Callable[[str, str, str], list[Message]]] = {
    "GetModel.name": lambda provider, model, route: [
        admin.GetModelRequest(name=f"providers/{provider}/models/{model}")
    ],
    "ListModels.parent": lambda provider, model, route: [
        admin.ListModelsRequest(parent=f"providers/{provider}")
    ],
    "GetRoute.name": lambda provider, model, route: [admin.GetRouteRequest(name=f"routes/{route}")],
    **{
        f"{rpc}.{field}": lambda provider, model, route, ask=ask: [  # type: ignore[misc]
            ask(named) for named in (model, f"{provider}/{model}", route, f"routes/{route}")
        ]
        for rpc, field, ask in (
            ("CreateChatCompletion", "model", lambda name: chat_request(model=name)),
            ("StreamChatCompletion", "model", lambda name: chat_request(model=name)),
            ("CountTokens", "model", lambda name: CountTokensRequest(model=name, messages=CHAT.messages)),
            (
                "CreateEmbeddings",
                "model",
                lambda name: CreateEmbeddingsRequest(model=name, inputs=[EmbeddingInput(text="hello")]),
            ),
            (
                "ExplainRoute",
                "request.model",
                lambda name: ExplainRouteRequest(request=chat_request(model=name)),
            ),
        )
    },
    **{
        f"{rpc}.{path}gateway_options.{field}": lambda provider, model, route, ask=ask, options=options: [  # type: ignore[misc]
            ask(options([f"providers/{provider}"]))
        ]
        for field, options in (
            ("allowed_providers", lambda names: GatewayOptions(allowed_providers=names)),
            ("excluded_providers", lambda names: GatewayOptions(excluded_providers=names)),
        )
        for rpc, path, ask in (
            ("CreateChatCompletion", "", lambda options: chat_request(gateway_options=options)),
            ("StreamChatCompletion", "", lambda options: chat_request(gateway_options=options)),
            (
                "CreateEmbeddings",
                "",
                lambda options: CreateEmbeddingsRequest(
                    model=MODEL, inputs=[EmbeddingInput(text="hello")], gateway_options=options
                ),
            ),
            (
                "CountTokens",
                "",
                lambda options: CountTokensRequest(
                    model=MODEL, messages=CHAT.messages, gateway_options=options
                ),
            ),
            (
                "ExplainRoute",
                "request.",
                lambda options: ExplainRouteRequest(request=chat_request(gateway_options=options)),
            ),
        )
    },
}
#: What fields are called that name a resource, as the contract says it: by their last word.
_NAMES = {"name", "parent", "model", "provider", "providers", "route", "profile"}


def test_every_field_that_names_a_resource_is_walked() -> None:
    found = {
        f"{method.name}.{path}"
        for module in SERVICES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.name in OF_CALLERS
        for path in naming_fields(method.input_type)
    }
    assert found == NAMING.keys()


def naming_fields(message: Descriptor, path: str = "", depth: int = 0) -> Iterator[str]:
    for field in message.fields:
        if field.message_type is not None:
            if depth < 2 and field.name in {"request", "gateway_options"}:
                yield from naming_fields(field.message_type, f"{path}{field.name}.", depth + 1)
        elif field.type == field.TYPE_STRING and field.name.rpartition("_")[2] in _NAMES:
            yield f"{path}{field.name}"


async def test_a_model_or_route_that_a_key_may_not_use_looks_like_one_that_does_not_exist(
    tmp_path: Path,
) -> None:
    async with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "state", vllm_base_url=upstream.base_url) as gateway,
    ):
        owner = gateway.client.admin
        for provider, disabled in (("victim", False), ("vault", True)):
            await owner.providers.create(
                Provider(provider_type="vllm", base_url=upstream.base_url, disabled=disabled),
                provider_id=provider,
            )
            name = f"{provider}-model"
            made = await owner.models.create(
                f"providers/{provider}", Model(provider_model=name), model_id=name
            )
            target = RouteTarget(model=made.name)
            await owner.routes.create(Route(targets=[target]), route_id=f"{provider}-route")
        await owner.tenants.create(Tenant(allowed_models=[MODEL]), tenant_id="attacker")
        attacker = await owner.api_keys.create("tenants/attacker", ApiKey())
        async with client_of(gateway.address, attacker.secret) as client:
            for field, build in NAMING.items():
                nobodys = [
                    await answer_of(client, field.partition(".")[0], request)
                    for request in build("nobody", "nobody-model", "nobody-route")
                ]
                for theirs in ("victim", "vault"):
                    for request, nothing in zip(
                        build(theirs, f"{theirs}-model", f"{theirs}-route"), nobodys, strict=True
                    ):
                        answer = await answer_of(client, field.partition(".")[0], request)
                        assert without_ids(answer.replace(theirs, "nobody")) == without_ids(nothing), field
        scopes = [Scope.SCOPE_ADMIN_READ, Scope.SCOPE_INFERENCE]
        reader = await owner.api_keys.create("tenants/attacker", ApiKey(scopes=scopes))
        async with client_of(gateway.address, reader.secret) as client:
            with pytest.raises(PermissionDeniedError) as told:  # who may see all models is told
                await client.chat.create("victim-model", "hello")
            assert told.value.reason == "MODEL_NOT_ALLOWED"


def without_ids(answer: str) -> str:
    """An answer without what every call has of its own: ids, times, and how long things took."""
    of_call = r'"(id|createTime|latency|timeToFirstToken)": "[^"]*"|\b\d+(\.\d+)?m?s\b|\b[0-9a-z]{26}\b'
    return re.sub(of_call, "", answer)
