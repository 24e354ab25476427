# Made from _async by tools/make_sync.py: edit there, then run it.
"""What every client promises: each function is one rule, run against a server that behaves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aigateway import (
    AuthenticationError,
    CallCancelledError,
    Client,
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


def the_answer_comes_whole_and_the_call_carries_key_deadline_and_user_agent(
    gateway: FakeGateway,
) -> None:
    with Client(gateway.target, api_key=KEY, metadata={"x-team": "blue"}, timeout=50) as client:
        completion = client.chat.create(
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


def a_stream_gives_single_events_that_fold_into_the_whole_answer(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        whole = client.chat.create("echo", "Hello")
        with client.chat.stream("echo", "Hello") as stream:
            events = list(stream)

    assert events == events_of(whole)
    assert stream.completion == whole
    assert "authorization" not in gateway.calls[0].metadata


def a_stream_gives_its_text_and_the_answer_so_far(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client, client.chat.stream("echo", "Hello") as stream:
        pieces = []
        for piece in stream.text_stream:
            pieces.append(piece)
            assert completion_text(stream.completion) == "".join(pieces)

        assert pieces == list("Hello")
        assert (stream.final_completion()).usage.total_tokens == 8


def the_rest_of_a_stream_can_be_read_at_once(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client, client.chat.stream("echo", "Hello") as stream:
        for event in stream:
            assert event.HasField("start")
            break
        completion = stream.final_completion()

        assert completion_text(completion) == "Hello"
        assert list(stream) == []


def a_stream_that_fails_keeps_what_came_before(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        stream = client.chat.stream("cut UPSTREAM_PROTOCOL_ERROR", "Hello")
        with pytest.raises(UpstreamError) as caught:
            for _ in stream:
                pass
        with pytest.raises(UpstreamError) as again:
            stream.final_completion()

    assert caught.value.reason == "UPSTREAM_PROTOCOL_ERROR"
    assert again.value is caught.value
    assert completion_text(stream.completion) == "Hello"
    assert not stream.completion.HasField("usage")


def a_stream_without_an_end_is_an_error_not_an_answer(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        stream = client.chat.stream("broken", "Hello")
        with pytest.raises(StreamProtocolError, match="stopped without an end"):
            stream.final_completion()


def a_stream_that_makes_no_sense_is_cancelled(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        stream = client.chat.stream("repeated", "Hello")
        with pytest.raises(StreamProtocolError, match="start came twice"):
            stream.final_completion()


def leaving_a_stream_cancels_the_call(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        with client.chat.stream("endless", "Hello") as stream:
            for piece in stream.text_stream:
                assert piece == "H"
                break

        assert completion_text(stream.completion) == "H"
        with pytest.raises(CallCancelledError):
            stream.final_completion()


def closing_a_client_ends_it_for_good(gateway: FakeGateway) -> None:
    client = Client(gateway.target)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.chat.create("echo", "Hello")


def an_error_carries_all_that_the_gateway_told(gateway: FakeGateway) -> None:
    with Client(gateway.target, api_key=KEY) as client, pytest.raises(RateLimitError) as caught:
        client.chat.create("fail RATE_LIMIT_EXCEEDED", "Hello")

    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "RATE_LIMIT_EXCEEDED"
    assert error.message == "it is RATE_LIMIT_EXCEEDED"
    assert error.metadata == {"model": "m"}
    assert error.retry_after == 1.5
    assert error.request_id == REQUEST_ID
    assert error.violations == (FieldViolation("messages[0].parts", "is empty"),)
    assert str(error) == "RATE_LIMIT_EXCEEDED: it is RATE_LIMIT_EXCEEDED (request req-1)"


def every_reason_of_the_contract_has_a_class(gateway: FakeGateway) -> None:
    names = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]]
    with Client(gateway.target, max_attempts=1) as client:
        for name in names:
            with pytest.raises(GatewayError) as caught:
                client.chat.create(f"fail {name}", "Hello")
            assert type(caught.value) is _BY_REASON[name]
            assert type(caught.value) is not GatewayError
            assert caught.value.reason == name
            stream = client.chat.stream(f"fail {name}", "Hello")
            with pytest.raises(_BY_REASON[name]):
                stream.final_completion()


def a_reason_of_a_newer_gateway_is_classed_by_its_code(gateway: FakeGateway) -> None:
    gateway.answers["GetTenant"] = [fault("SOMETHING_NEW")]
    with Client(gateway.target) as client, pytest.raises(InvalidRequestError) as caught:
        client.admin.tenants.get("tenants/a")

    assert caught.value.reason == "SOMETHING_NEW"


def a_gateway_that_is_not_there_is_named(gateway: FakeGateway) -> None:
    nobody = "127.0.0.1:1"
    with Client(nobody, api_key=KEY, max_attempts=1) as client, pytest.raises(UnavailableError) as caught:
        client.chat.create("echo", "Hello")

    assert caught.value.message.startswith(f"no gateway answers at {nobody}: ")
    assert caught.value.reason == ""
    assert caught.value.retry_after is None
    assert KEY not in str(caught.value)
    assert gateway.calls == []


def a_call_has_a_deadline_of_its_own_or_the_clients(gateway: FakeGateway) -> None:
    with Client(gateway.target, timeout=0.05) as client:
        client.chat.create("echo", "Hello", timeout=30)  # so that connecting takes none of the 50 ms
        with pytest.raises(DeadlineExceededError):
            client.chat.create("slow", "Hello")
        stream = client.chat.stream("slow", "Hello", timeout=0.2)
        with pytest.raises(DeadlineExceededError):
            stream.final_completion()
        assert stream.completion.id == "c1"
    with Client(gateway.target, timeout=None) as client:
        client.chat.create("echo", "Hello")

    remaining = [call.time_remaining for call in gateway.calls]
    assert remaining[0] is not None
    assert 20 < remaining[0] < 31
    assert remaining[1] is not None
    assert remaining[1] < 1
    assert remaining[3] is None


def questions_and_reads_are_sent_again_when_the_gateway_is_unavailable(gateway: FakeGateway) -> None:
    unavailable = fault("UPSTREAM_UNAVAILABLE")
    gateway.answers["ListTenants"] = [unavailable, types.ListTenantsResponse()]
    gateway.answers["CreateEmbeddings"] = [unavailable, types.CreateEmbeddingsResponse()]
    gateway.answers["GetLimitUsage"] = [unavailable, types.GetLimitUsageResponse()]
    with Client(gateway.target) as client:
        assert completion_text(client.chat.create("flaky 2", "Hello")) == "Hello"
        with client.chat.stream("flaky 1", "Hello") as stream:
            assert completion_text(stream.final_completion()) == "Hello"
        assert list(client.admin.tenants.list()) == []
        client.embeddings.create("echo", "Hello")
        client.usage.get_limits("tenants/a")

    assert gateway.methods() == [
        *["CreateChatCompletion"] * 3,
        *["StreamChatCompletion"] * 2,
        *["ListTenants"] * 2,
        *["CreateEmbeddings"] * 2,
        *["GetLimitUsage"] * 2,
    ]


def writes_are_sent_once(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
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
                write()

    assert gateway.methods() == list(writes)


def retries_stop_at_the_clients_bound(gateway: FakeGateway) -> None:
    with Client(gateway.target, max_attempts=2) as client, pytest.raises(UpstreamError):
        client.chat.create("flaky 2", "Hello")
    with Client(gateway.target, max_attempts=1) as client, pytest.raises(UpstreamError):
        client.chat.create("flaky 1", "Hello")

    assert gateway.tries == {"flaky 2": 2, "flaky 1": 1}


def the_gateway_says_when_to_retry_and_whether(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        client.chat.create("flaky 1 700", "Hello")
        with pytest.raises(UpstreamError):
            client.chat.create("flaky 1 -1", "Hello")

    first, second, *_ = gateway.calls
    assert second.received_at - first.received_at >= 0.69
    assert gateway.tries["flaky 1 -1"] == 1


def a_stream_that_has_begun_is_not_started_again(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        stream = client.chat.stream("flaky-late 1", "Hello")
        with pytest.raises(UpstreamError):
            stream.final_completion()

    assert gateway.tries["flaky-late 1"] == 1
    assert stream.completion.id == "c1"


def an_answer_may_be_longer_than_grpc_allows_by_default(gateway: FakeGateway) -> None:
    with Client(gateway.target) as client:
        completion = client.chat.create(f"big {10 * 2**20}", "Hello")

    assert len(completion_text(completion)) == 10 * 2**20


def lists_are_fetched_page_by_page_as_they_are_read(gateway: FakeGateway) -> None:
    pages = [
        types.ListTenantsResponse(tenants=[types.Tenant(name="tenants/a")], next_page_token="p2"),
        types.ListTenantsResponse(next_page_token="p3"),
        types.ListTenantsResponse(tenants=[types.Tenant(name="tenants/b")]),
    ]
    gateway.answers["ListTenants"] = [*pages]
    with Client(gateway.target) as client:
        names = []
        for tenant in client.admin.tenants.list(page_size=1):
            names.append(tenant.name)
            assert len(gateway.calls) == (1 if tenant.name == "tenants/a" else 3)

    assert names == ["tenants/a", "tenants/b"]
    assert [call.request.page_token for call in gateway.calls] == ["", "p2", "p3"]
    assert [call.request.page_size for call in gateway.calls] == [1, 1, 1]


def embeddings_take_texts_parts_and_inputs(gateway: FakeGateway) -> None:
    inputs = types.EmbeddingInput(token_ids=types.TokenIds(values=[1, 2]))
    answer = types.CreateEmbeddingsResponse(
        embeddings=[types.Embedding(float_vector=types.FloatVector(values=[0.5, 1]))]
    )
    gateway.answers["CreateEmbeddings"] = [answer]
    with Client(gateway.target) as client:
        response = client.embeddings.create("m", "one", dimensions=2)
        client.embeddings.create("m", ["one", user("two").parts[0], inputs], labels={"a": "b"})

    assert response == answer
    first, second = (call.request for call in gateway.calls)
    one = types.EmbeddingInput(text="one")
    two = types.EmbeddingInput(content=types.EmbeddingContent(parts=user("two").parts))
    assert first == types.CreateEmbeddingsRequest(model="m", inputs=[one], dimensions=2)
    assert second == types.CreateEmbeddingsRequest(model="m", inputs=[one, two, inputs], labels={"a": "b"})


def every_method_sends_its_request(gateway: FakeGateway) -> None:
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
    with Client(gateway.target) as client:
        admin, usage = client.admin, client.usage
        client.chat.count_tokens("echo", "Hi")
        client.chat.explain_route("echo", "Hi")
        admin.tenants.get("t")
        admin.tenants.create(tenant, tenant_id="a")
        admin.tenants.update(tenant, update_mask=["email"])
        admin.tenants.update(tenant)
        admin.tenants.delete("t", etag="e")
        admin.api_keys.get("k")
        assert list(admin.api_keys.list()) == []
        assert list(admin.api_keys.list("tenants/a")) == []
        admin.api_keys.create("tenants/a", key, api_key_id="b")
        admin.api_keys.update(key, update_mask=["email"])
        admin.api_keys.delete("k")
        admin.api_keys.rotate("k", grace_period=timedelta(minutes=5))
        admin.api_keys.revoke("k")
        admin.guardrail_profiles.get("g")
        assert list(admin.guardrail_profiles.list()) == []
        admin.guardrail_profiles.create(profile, guardrail_profile_id="g")
        admin.guardrail_profiles.update(profile)
        admin.guardrail_profiles.delete("g")
        admin.guardrail_profiles.test("g", "text", stage=types.GuardrailStage.GUARDRAIL_STAGE_OUTPUT)
        admin.providers.get("p")
        assert list(admin.providers.list()) == []
        admin.providers.create(provider, provider_id="p")
        admin.providers.update(provider)
        admin.providers.delete("p")
        admin.providers.check("p")
        admin.models.get("m")
        assert list(admin.models.list()) == []
        admin.models.create("providers/p", model, model_id="m")
        admin.models.update(model)
        admin.models.delete("m")
        admin.routes.get("r")
        assert list(admin.routes.list()) == []
        admin.routes.create(route, route_id="r")
        admin.routes.update(route)
        admin.routes.delete("r")
        assert list(admin.audit_events.list(resource="tenants/a", start_time=noon)) == []
        assert list(usage.list_records("tenants/a", start_time=noon, filter="f")) == []
        days = usage.query(
            "tenants/a",
            start_time=noon,
            end_time=noon,
            step=types.TimeStep.TIME_STEP_DAY,
            group_by=[types.UsageDimension.USAGE_DIMENSION_MODEL],
        )
        assert list(days) == []
        usage.get_limits("tenants/a", api_key="k")

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


def failures_of_admin_and_usage_calls_have_classes_too(gateway: FakeGateway) -> None:
    expected: dict[str, type[GatewayError]] = {
        "API_KEY_INVALID": AuthenticationError,
        "RESOURCE_NOT_FOUND": NotFoundError,
        "ETAG_MISMATCH": ConflictError,
        "GUARDRAIL_BLOCKED": GuardrailBlockedError,
        "INTERNAL": InternalError,
    }
    with Client(gateway.target) as client:
        for reason, error_class in expected.items():
            gateway.answers["GetModel"] = [fault(reason)]
            gateway.answers["ListUsageRecords"] = [fault(reason)]
            with pytest.raises(error_class):
                client.admin.models.get("m")
            with pytest.raises(error_class):
                for _ in client.usage.list_records("tenants/-"):
                    pass


def the_generated_stubs_are_within_reach(gateway: FakeGateway) -> None:
    with Client(gateway.target, api_key=KEY) as client:
        request = types.GetTenantRequest(name="tenants/a")
        client.stubs.admin.GetTenant(request, metadata=client.metadata)

    assert gateway.calls[0].request == request
    assert gateway.calls[0].metadata["authorization"] == f"Bearer {KEY}"
