"""What every client promises: each function is one rule, run against a server that behaves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aigateway import (
    AsyncClient,
    AuthenticationError,
    CallCancelledError,
    ConflictError,
    DeadlineExceededError,
    FieldViolation,
    GatewayError,
    GuardrailBlockedError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    StreamProtocolError,
    UnavailableError,
    UpstreamError,
    completion_text,
    types,
    user,
)
from aigateway.errors import _BY_REASON
from aigateway.v1.error_reason_pb2 import ErrorReason
from tests.sdk.fake_gateway import REQUEST_ID, FakeGateway, answer_to, events_of, fault

KEY = "sk-gw-secret"


async def the_answer_comes_whole_and_the_call_carries_key_deadline_and_user_agent(
    gateway: FakeGateway,
) -> None:
    async with AsyncClient(gateway.target, api_key=KEY, metadata={"x-team": "blue"}, timeout=50) as client:
        completion = await client.chat.create(
            "echo", "Hello", temperature=0.5, labels={"a": "b"}, metadata={"traceparent": "00-1"}
        )

    assert completion_text(completion) == "Hello"
    assert completion == answer_to(types.CreateChatCompletionRequest(model="echo", messages=[user("Hello")]))
    call = gateway.calls[0]
    assert call.method == "CreateChatCompletion"
    assert call.metadata["authorization"] == f"Bearer {KEY}"
    assert (call.metadata["x-team"], call.metadata["traceparent"]) == ("blue", "00-1")
    assert str(call.metadata["user-agent"]).startswith("ai-gateway-sdk-python/")
    assert call.time_remaining is not None
    assert 40 < call.time_remaining < 51
    assert call.request == types.CreateChatCompletionRequest(
        model="echo",
        messages=[user("Hello")],
        generation_config=types.GenerationConfig(temperature=0.5),
        labels={"a": "b"},
    )


async def a_stream_gives_single_events_that_fold_into_the_whole_answer(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        whole = await client.chat.create("echo", "Hello")
        async with client.chat.stream("echo", "Hello") as stream:
            events = [event async for event in stream]

    assert events == events_of(whole)
    assert stream.completion == whole
    assert "authorization" not in gateway.calls[0].metadata


async def a_stream_gives_its_text_and_the_answer_so_far(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client, client.chat.stream("echo", "Hello") as stream:
        pieces = []
        async for piece in stream.text_stream:
            pieces.append(piece)
            assert completion_text(stream.completion) == "".join(pieces)

        assert pieces == list("Hello")
        assert (await stream.final_completion()).usage.total_tokens == 8


async def the_rest_of_a_stream_can_be_read_at_once(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client, client.chat.stream("echo", "Hello") as stream:
        async for event in stream:
            assert event.HasField("start")
            break
        completion = await stream.final_completion()

        assert completion_text(completion) == "Hello"
        assert [event async for event in stream] == []


async def a_stream_that_fails_keeps_what_came_before(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        stream = client.chat.stream("cut UPSTREAM_PROTOCOL_ERROR", "Hello")
        with pytest.raises(UpstreamError) as caught:
            async for _ in stream:
                pass
        with pytest.raises(UpstreamError) as again:
            await stream.final_completion()

    assert caught.value.reason == "UPSTREAM_PROTOCOL_ERROR"
    assert again.value is caught.value
    assert completion_text(stream.completion) == "Hello"
    assert not stream.completion.HasField("usage")


async def a_stream_without_an_end_is_an_error_not_an_answer(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        stream = client.chat.stream("broken", "Hello")
        with pytest.raises(StreamProtocolError, match="stopped without an end"):
            await stream.final_completion()


async def a_stream_that_makes_no_sense_is_cancelled(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        stream = client.chat.stream("repeated", "Hello")
        with pytest.raises(StreamProtocolError, match="start came twice"):
            await stream.final_completion()


async def leaving_a_stream_cancels_the_call(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        async with client.chat.stream("endless", "Hello") as stream:
            async for piece in stream.text_stream:
                assert piece == "H"
                break

        assert completion_text(stream.completion) == "H"
        with pytest.raises(CallCancelledError):
            await stream.final_completion()


async def closing_a_client_ends_it_for_good(gateway: FakeGateway) -> None:
    client = AsyncClient(gateway.target)
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.chat.create("echo", "Hello")


async def an_error_carries_all_that_the_gateway_told(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target, api_key=KEY) as client:
        with pytest.raises(RateLimitError) as caught:
            await client.chat.create("fail RATE_LIMIT_EXCEEDED", "Hello")

    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "RATE_LIMIT_EXCEEDED"
    assert error.message == "it is RATE_LIMIT_EXCEEDED"
    assert error.metadata == {"model": "m"}
    assert error.retry_after == 1.5
    assert error.request_id == REQUEST_ID
    assert error.violations == (FieldViolation("messages[0].parts", "is empty"),)
    assert str(error) == "RATE_LIMIT_EXCEEDED: it is RATE_LIMIT_EXCEEDED (request req-1)"


async def every_reason_of_the_contract_has_a_class(gateway: FakeGateway) -> None:
    names = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]]
    async with AsyncClient(gateway.target, max_attempts=1) as client:
        for name in names:
            with pytest.raises(GatewayError) as caught:
                await client.chat.create(f"fail {name}", "Hello")
            assert type(caught.value) is _BY_REASON[name]
            assert type(caught.value) is not GatewayError
            assert caught.value.reason == name
            stream = client.chat.stream(f"fail {name}", "Hello")
            with pytest.raises(_BY_REASON[name]):
                await stream.final_completion()


async def a_reason_of_a_newer_gateway_is_classed_by_its_code(gateway: FakeGateway) -> None:
    gateway.answers["GetTenant"] = [fault("SOMETHING_NEW")]
    async with AsyncClient(gateway.target) as client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.admin.tenants.get("tenants/a")

    assert caught.value.reason == "SOMETHING_NEW"


async def a_gateway_that_is_not_there_is_named(gateway: FakeGateway) -> None:
    nobody = "127.0.0.1:1"
    async with AsyncClient(nobody, api_key=KEY, max_attempts=1) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.chat.create("echo", "Hello")

    assert caught.value.message.startswith(f"no gateway answers at {nobody}: ")
    assert caught.value.reason == ""
    assert caught.value.retry_after is None
    assert KEY not in str(caught.value)
    assert gateway.calls == []


async def a_call_has_a_deadline_of_its_own_or_the_clients(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target, timeout=0.05) as client:
        await client.chat.create("echo", "Hello", timeout=30)  # so that connecting takes none of the 50 ms
        with pytest.raises(DeadlineExceededError):
            await client.chat.create("slow", "Hello")
        stream = client.chat.stream("slow", "Hello", timeout=0.2)
        with pytest.raises(DeadlineExceededError):
            await stream.final_completion()
        assert stream.completion.id == "c1"
    async with AsyncClient(gateway.target, timeout=None) as client:
        await client.chat.create("echo", "Hello")

    remaining = [call.time_remaining for call in gateway.calls]
    assert remaining[0] is not None
    assert 20 < remaining[0] < 31
    assert remaining[1] is not None
    assert remaining[1] < 1
    assert remaining[3] is None


async def questions_and_reads_are_sent_again_when_the_gateway_is_unavailable(gateway: FakeGateway) -> None:
    unavailable = fault("UPSTREAM_UNAVAILABLE")
    gateway.answers["ListTenants"] = [unavailable, types.ListTenantsResponse()]
    gateway.answers["CreateEmbeddings"] = [unavailable, types.CreateEmbeddingsResponse()]
    gateway.answers["GetLimitUsage"] = [unavailable, types.GetLimitUsageResponse()]
    async with AsyncClient(gateway.target) as client:
        assert completion_text(await client.chat.create("flaky 2", "Hello")) == "Hello"
        async with client.chat.stream("flaky 1", "Hello") as stream:
            assert completion_text(await stream.final_completion()) == "Hello"
        assert [tenant async for tenant in client.admin.tenants.list()] == []
        await client.embeddings.create("echo", "Hello")
        await client.usage.get_limits("tenants/a")

    assert gateway.methods() == [
        *["CreateChatCompletion"] * 3,
        *["StreamChatCompletion"] * 2,
        *["ListTenants"] * 2,
        *["CreateEmbeddings"] * 2,
        *["GetLimitUsage"] * 2,
    ]


async def writes_are_sent_once(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        admin = client.admin
        writes: dict[str, Any] = {
            "CreateTenant": lambda: admin.tenants.create(types.Tenant()),
            "UpdateTenant": lambda: admin.tenants.update(types.Tenant()),
            "DeleteTenant": lambda: admin.tenants.delete("tenants/a"),
            "CreateApiKey": lambda: admin.api_keys.create("tenants/a", types.ApiKey()),
            "RotateApiKey": lambda: admin.api_keys.rotate("tenants/a/apiKeys/b"),
            "RevokeApiKey": lambda: admin.api_keys.revoke("tenants/a/apiKeys/b"),
        }
        for method, write in writes.items():
            gateway.answers[method] = [fault("UPSTREAM_UNAVAILABLE")]
            with pytest.raises(UpstreamError):
                await write()

    assert gateway.methods() == list(writes)


async def retries_stop_at_the_clients_bound(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target, max_attempts=2) as client:
        with pytest.raises(UpstreamError):
            await client.chat.create("flaky 2", "Hello")
    async with AsyncClient(gateway.target, max_attempts=1) as client:
        with pytest.raises(UpstreamError):
            await client.chat.create("flaky 1", "Hello")

    assert gateway.tries == {"flaky 2": 2, "flaky 1": 1}


async def the_gateway_says_when_to_retry_and_whether(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        await client.chat.create("flaky 1 700", "Hello")
        with pytest.raises(UpstreamError):
            await client.chat.create("flaky 1 -1", "Hello")

    first, second, *_ = gateway.calls
    assert second.received_at - first.received_at >= 0.69
    assert gateway.tries["flaky 1 -1"] == 1


async def a_stream_that_has_begun_is_not_started_again(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        stream = client.chat.stream("flaky-late 1", "Hello")
        with pytest.raises(UpstreamError):
            await stream.final_completion()

    assert gateway.tries["flaky-late 1"] == 1
    assert stream.completion.id == "c1"


async def an_answer_may_be_longer_than_grpc_allows_by_default(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target) as client:
        completion = await client.chat.create(f"big {10 * 2**20}", "Hello")

    assert len(completion_text(completion)) == 10 * 2**20


async def lists_are_fetched_page_by_page_as_they_are_read(gateway: FakeGateway) -> None:
    pages = [
        types.ListTenantsResponse(tenants=[types.Tenant(name="tenants/a")], next_page_token="p2"),
        types.ListTenantsResponse(next_page_token="p3"),
        types.ListTenantsResponse(tenants=[types.Tenant(name="tenants/b")]),
    ]
    gateway.answers["ListTenants"] = [*pages]
    async with AsyncClient(gateway.target) as client:
        names = []
        async for tenant in client.admin.tenants.list(page_size=1):
            names.append(tenant.name)
            assert len(gateway.calls) == (1 if tenant.name == "tenants/a" else 3)

    assert names == ["tenants/a", "tenants/b"]
    assert [call.request.page_token for call in gateway.calls] == ["", "p2", "p3"]
    assert [call.request.page_size for call in gateway.calls] == [1, 1, 1]


async def embeddings_take_texts_parts_and_inputs(gateway: FakeGateway) -> None:
    inputs = types.EmbeddingInput(token_ids=types.TokenIds(values=[1, 2]))
    answer = types.CreateEmbeddingsResponse(
        embeddings=[types.Embedding(float_vector=types.FloatVector(values=[0.5, 1]))]
    )
    gateway.answers["CreateEmbeddings"] = [answer]
    async with AsyncClient(gateway.target) as client:
        response = await client.embeddings.create("m", "one", dimensions=2)
        await client.embeddings.create("m", ["one", user("two").parts[0], inputs], labels={"a": "b"})

    assert response == answer
    first, second = (call.request for call in gateway.calls)
    one = types.EmbeddingInput(text="one")
    two = types.EmbeddingInput(content=types.EmbeddingContent(parts=user("two").parts))
    assert first == types.CreateEmbeddingsRequest(model="m", inputs=[one], dimensions=2)
    assert second == types.CreateEmbeddingsRequest(model="m", inputs=[one, two, inputs], labels={"a": "b"})


async def every_method_sends_its_request(gateway: FakeGateway) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    stamp = types.ListUsageRecordsRequest()
    stamp.start_time.FromDatetime(noon)
    noon_stamp = stamp.start_time
    mask = FieldMask(paths=["email"])
    tenant, key = types.Tenant(email="a@b.c"), types.ApiKey(environment="test")
    profile, provider = types.GuardrailProfile(display_name="p"), types.Provider(provider_type="demo")
    model, route = types.Model(provider_model="m"), types.Route(display_name="r")
    rotate = types.RotateApiKeyRequest(name="k")
    rotate.grace_period.FromTimedelta(timedelta(minutes=5))
    echo = types.CreateChatCompletionRequest(model="echo", messages=[user("Hi")])
    async with AsyncClient(gateway.target) as client:
        admin, usage = client.admin, client.usage
        await client.chat.count_tokens("echo", "Hi")
        await client.chat.explain_route("echo", "Hi")
        await admin.tenants.get("t")
        await admin.tenants.create(tenant, tenant_id="a")
        await admin.tenants.update(tenant, update_mask=["email"])
        await admin.tenants.update(tenant)
        await admin.tenants.delete("t", etag="e")
        await admin.api_keys.get("k")
        assert [item async for item in admin.api_keys.list()] == []
        assert [item async for item in admin.api_keys.list("tenants/a")] == []
        await admin.api_keys.create("tenants/a", key, api_key_id="b")
        await admin.api_keys.update(key, update_mask=["email"])
        await admin.api_keys.delete("k")
        await admin.api_keys.rotate("k", grace_period=timedelta(minutes=5))
        await admin.api_keys.revoke("k")
        await admin.guardrail_profiles.get("g")
        assert [item async for item in admin.guardrail_profiles.list()] == []
        await admin.guardrail_profiles.create(profile, guardrail_profile_id="g")
        await admin.guardrail_profiles.update(profile)
        await admin.guardrail_profiles.delete("g")
        await admin.guardrail_profiles.test("g", "text", stage=types.GuardrailStage.GUARDRAIL_STAGE_OUTPUT)
        await admin.providers.get("p")
        assert [item async for item in admin.providers.list()] == []
        await admin.providers.create(provider, provider_id="p")
        await admin.providers.update(provider)
        await admin.providers.delete("p")
        await admin.providers.check("p")
        await admin.models.get("m")
        assert [item async for item in admin.models.list()] == []
        await admin.models.create("providers/p", model, model_id="m")
        await admin.models.update(model)
        await admin.models.delete("m")
        await admin.routes.get("r")
        assert [item async for item in admin.routes.list()] == []
        await admin.routes.create(route, route_id="r")
        await admin.routes.update(route)
        await admin.routes.delete("r")
        assert [item async for item in admin.audit_events.list(resource="tenants/a", start_time=noon)] == []
        assert [item async for item in usage.list_records("tenants/a", start_time=noon, filter="f")] == []
        days = usage.query(
            "tenants/a",
            start_time=noon,
            end_time=noon,
            step=types.TimeStep.TIME_STEP_DAY,
            group_by=[types.UsageDimension.USAGE_DIMENSION_MODEL],
        )
        assert [item async for item in days] == []
        await usage.get_limits("tenants/a", api_key="k")

    assert [call.request for call in gateway.calls] == [
        types.CountTokensRequest(model="echo", messages=[user("Hi")]),
        types.ExplainRouteRequest(request=echo),
        types.GetTenantRequest(name="t"),
        types.CreateTenantRequest(tenant=tenant, tenant_id="a"),
        types.UpdateTenantRequest(tenant=tenant, update_mask=mask),
        types.UpdateTenantRequest(tenant=tenant),
        types.DeleteTenantRequest(name="t", etag="e"),
        types.GetApiKeyRequest(name="k"),
        types.ListApiKeysRequest(parent="tenants/-"),
        types.ListApiKeysRequest(parent="tenants/a"),
        types.CreateApiKeyRequest(parent="tenants/a", api_key=key, api_key_id="b"),
        types.UpdateApiKeyRequest(api_key=key, update_mask=mask),
        types.DeleteApiKeyRequest(name="k"),
        rotate,
        types.RevokeApiKeyRequest(name="k"),
        types.GetGuardrailProfileRequest(name="g"),
        types.ListGuardrailProfilesRequest(),
        types.CreateGuardrailProfileRequest(guardrail_profile=profile, guardrail_profile_id="g"),
        types.UpdateGuardrailProfileRequest(guardrail_profile=profile),
        types.DeleteGuardrailProfileRequest(name="g"),
        types.TestGuardrailProfileRequest(
            name="g", text="text", stage=types.GuardrailStage.GUARDRAIL_STAGE_OUTPUT
        ),
        types.GetProviderRequest(name="p"),
        types.ListProvidersRequest(),
        types.CreateProviderRequest(provider=provider, provider_id="p"),
        types.UpdateProviderRequest(provider=provider),
        types.DeleteProviderRequest(name="p"),
        types.CheckProviderRequest(name="p"),
        types.GetModelRequest(name="m"),
        types.ListModelsRequest(parent="providers/-"),
        types.CreateModelRequest(parent="providers/p", model=model, model_id="m"),
        types.UpdateModelRequest(model=model),
        types.DeleteModelRequest(name="m"),
        types.GetRouteRequest(name="r"),
        types.ListRoutesRequest(),
        types.CreateRouteRequest(route=route, route_id="r"),
        types.UpdateRouteRequest(route=route),
        types.DeleteRouteRequest(name="r"),
        types.ListAuditEventsRequest(resource="tenants/a", start_time=noon_stamp),
        types.ListUsageRecordsRequest(parent="tenants/a", start_time=noon_stamp, filter="f"),
        types.QueryUsageRequest(
            parent="tenants/a",
            start_time=noon_stamp,
            end_time=noon_stamp,
            step=types.TimeStep.TIME_STEP_DAY,
            group_by=[types.UsageDimension.USAGE_DIMENSION_MODEL],
        ),
        types.GetLimitUsageRequest(parent="tenants/a", api_key="k"),
    ]


async def failures_of_admin_and_usage_calls_have_classes_too(gateway: FakeGateway) -> None:
    expected: dict[str, type[GatewayError]] = {
        "API_KEY_INVALID": AuthenticationError,
        "RESOURCE_NOT_FOUND": NotFoundError,
        "ETAG_MISMATCH": ConflictError,
        "GUARDRAIL_BLOCKED": GuardrailBlockedError,
        "INTERNAL": InternalError,
    }
    async with AsyncClient(gateway.target) as client:
        for reason, error_class in expected.items():
            gateway.answers["GetModel"] = [fault(reason)]
            gateway.answers["ListUsageRecords"] = [fault(reason)]
            with pytest.raises(error_class):
                await client.admin.models.get("m")
            with pytest.raises(error_class):
                async for _ in client.usage.list_records("tenants/-"):
                    pass


async def the_generated_stubs_are_within_reach(gateway: FakeGateway) -> None:
    async with AsyncClient(gateway.target, api_key=KEY) as client:
        request = types.GetTenantRequest(name="tenants/a")
        await client.stubs.admin.GetTenant(request, metadata=client.metadata)

    assert gateway.calls[0].request == request
    assert gateway.calls[0].metadata["authorization"] == f"Bearer {KEY}"
