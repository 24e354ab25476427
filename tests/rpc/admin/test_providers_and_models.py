from __future__ import annotations

import time

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway.v1.admin_service_pb2 import (
    CheckProviderRequest,
    CreateModelRequest,
    CreateProviderRequest,
    DeleteModelRequest,
    DeleteProviderRequest,
    GetModelRequest,
    GetProviderRequest,
    ListModelsRequest,
    ListProvidersRequest,
    UpdateModelRequest,
    UpdateProviderRequest,
)
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import RateLimits
from tests.rpc.admin.conftest import Gateway


async def create_provider(gateway: Gateway, provider_id: str = "openai", **fields: object) -> Provider:
    provider = Provider(provider_type="openai")
    for name, value in fields.items():
        setattr(provider, name, value)
    request = CreateProviderRequest(provider_id=provider_id, provider=provider)
    return await gateway.call(gateway.admin.CreateProvider, request)


async def create_model(
    gateway: Gateway, model_id: str, model: Model | None = None, parent: str = "openai"
) -> Model:
    request = CreateModelRequest(parent=f"providers/{parent}", model_id=model_id, model=model or Model())
    return await gateway.call(gateway.admin.CreateModel, request)


async def test_a_provider_from_creation_to_deletion(gateway: Gateway) -> None:
    admin = gateway.admin
    request = Provider(provider_type="openai", credential_ref="env:OPENAI_API_KEY", display_name="OpenAI")
    request.config.update({"organization": "o"})
    made = await gateway.call(
        admin.CreateProvider, CreateProviderRequest(provider_id="openai", provider=request)
    )
    assert made.name == "providers/openai"
    assert dict(made.config) == {"organization": "o"}
    assert await gateway.call(admin.GetProvider, GetProviderRequest(name=made.name)) == made
    made.disabled = True
    changed = await gateway.call(
        admin.UpdateProvider, UpdateProviderRequest(provider=made, update_mask=FieldMask(paths=["disabled"]))
    )
    assert changed.disabled
    listed = await gateway.call(admin.ListProviders, ListProvidersRequest())
    assert list(listed.providers) == [changed]
    await gateway.call(admin.DeleteProvider, DeleteProviderRequest(name=made.name, etag=changed.etag))
    assert (await gateway.fails(admin.GetProvider, GetProviderRequest(name=made.name))).reason == (
        "RESOURCE_NOT_FOUND"
    )


async def test_settings_that_cannot_work_are_refused_when_they_are_written(gateway: Gateway) -> None:
    admin = gateway.admin
    failure = await gateway.fails(
        admin.CreateProvider, CreateProviderRequest(provider=Provider(provider_type="unheard_of"))
    )
    assert set(failure.violations) == {"provider.provider_type"}
    made = await create_provider(gateway)
    made.base_url = "nonsense"
    failure = await gateway.fails(
        admin.UpdateProvider, UpdateProviderRequest(provider=made, update_mask=FieldMask(paths=["base_url"]))
    )
    assert set(failure.violations) == {"provider.base_url"}
    assert (await gateway.call(admin.GetProvider, GetProviderRequest(name=made.name))).base_url == ""


async def test_the_type_of_a_provider_stays(gateway: Gateway) -> None:
    made = await create_provider(gateway)
    made.provider_type = "demo"
    failure = await gateway.fails(gateway.admin.UpdateProvider, UpdateProviderRequest(provider=made))
    assert set(failure.violations) == {"provider.provider_type"}


async def test_an_update_need_not_repeat_the_type(gateway: Gateway) -> None:
    made = await create_provider(gateway)
    changed = await gateway.call(
        gateway.admin.UpdateProvider, UpdateProviderRequest(provider=Provider(name=made.name, disabled=True))
    )
    assert (changed.provider_type, changed.disabled) == ("openai", True)


async def test_limits_of_a_provider_and_a_model_are_kept_changed_and_taken_away(gateway: Gateway) -> None:
    admin, mask = gateway.admin, FieldMask(paths=["rate_limits.requests_per_minute"])
    provider = Provider(provider_type="demo", rate_limits=RateLimits(tokens_per_minute=1))
    made = await gateway.call(
        admin.CreateProvider, CreateProviderRequest(provider=provider, provider_id="slow")
    )
    assert made.rate_limits == RateLimits(tokens_per_minute=1)
    provider = Provider(name=made.name, rate_limits=RateLimits(requests_per_minute=2))
    changed = await gateway.call(
        admin.UpdateProvider, UpdateProviderRequest(provider=provider, update_mask=mask)
    )
    assert changed.rate_limits == RateLimits(tokens_per_minute=1, requests_per_minute=2)
    model = await create_model(
        gateway, "m", Model(rate_limits=RateLimits(max_concurrent_requests=3)), parent="slow"
    )
    assert model.rate_limits == RateLimits(max_concurrent_requests=3)
    model = Model(name=model.name)
    cleared = await gateway.call(
        admin.UpdateModel, UpdateModelRequest(model=model, update_mask=FieldMask(paths=["rate_limits"]))
    )
    assert not cleared.HasField("rate_limits")
    negative = Model(rate_limits=RateLimits(requests_per_minute=-1))
    failure = await gateway.fails(
        admin.CreateModel, CreateModelRequest(parent="providers/slow", model_id="n", model=negative)
    )
    assert set(failure.violations) == {"model.rate_limits.requests_per_minute"}


async def test_a_check_tells_what_is_wrong_as_an_answer(gateway: Gateway) -> None:
    await create_provider(gateway)
    check = CheckProviderRequest(name="providers/openai")
    assert (await gateway.call(gateway.admin.CheckProvider, check)).healthy
    await create_provider(gateway, "other", base_url="http://127.0.0.1:1")
    answer = await gateway.call(gateway.admin.CheckProvider, CheckProviderRequest(name="providers/other"))
    assert (answer.healthy, answer.error_reason) == (False, "UPSTREAM_UNAVAILABLE")
    failure = await gateway.fails(gateway.admin.CheckProvider, CheckProviderRequest(name="providers/no"))
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_a_provider_with_models_is_not_deleted(gateway: Gateway) -> None:
    await create_provider(gateway)
    await create_model(gateway, "m")
    delete = DeleteProviderRequest(name="providers/openai")
    failure = await gateway.fails(gateway.admin.DeleteProvider, delete)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_IN_USE")
    assert failure.metadata == {"name": "providers/openai", "blocker": "providers/openai/models/m"}
    await gateway.call(gateway.admin.DeleteModel, DeleteModelRequest(name="providers/openai/models/m"))
    await gateway.call(gateway.admin.DeleteProvider, delete)


async def test_a_known_model_gets_its_list_price_and_size(gateway: Gateway) -> None:
    await create_provider(gateway)
    made = await create_model(gateway, "gpt-4o")
    assert made.price.input_nanos_per_million == 2_500_000_000
    assert made.context_window_tokens == 128_000
    aliased = await create_model(gateway, "fast", Model(provider_model="gpt-4o"))
    assert aliased.price == made.price


async def test_a_given_price_stands_and_an_unknown_model_has_none(gateway: Gateway) -> None:
    await create_provider(gateway)
    own = await create_model(gateway, "gpt-4o", Model(price=Price(input_nanos_per_million=7)))
    assert own.price == Price(input_nanos_per_million=7)
    free = await create_model(gateway, "gpt-4o-mini", Model(price=Price()))
    assert free.HasField("price")
    assert free.price == Price()
    unknown = await create_model(gateway, "home-made")
    assert not unknown.HasField("price")


async def test_a_price_can_be_taken_away(gateway: Gateway) -> None:
    await create_provider(gateway)
    made = await create_model(gateway, "gpt-4o")
    changed = await gateway.call(
        gateway.admin.UpdateModel,
        UpdateModelRequest(model=Model(name=made.name), update_mask=FieldMask(paths=["price"])),
    )
    assert not changed.HasField("price")


async def test_one_rate_of_a_price_can_be_changed_alone(gateway: Gateway) -> None:
    await create_provider(gateway)
    made = await create_model(
        gateway, "m", Model(price=Price(input_nanos_per_million=1, output_nanos_per_million=2))
    )
    changed = await gateway.call(
        gateway.admin.UpdateModel,
        UpdateModelRequest(
            model=Model(name=made.name, price=Price(output_nanos_per_million=9)),
            update_mask=FieldMask(paths=["price.output_nanos_per_million"]),
        ),
    )
    assert changed.price == Price(input_nanos_per_million=1, output_nanos_per_million=9)


async def test_a_price_from_tomorrow_on_is_scheduled(gateway: Gateway) -> None:
    await create_provider(gateway)
    tomorrow = Timestamp(seconds=int(time.time()) + 86_400)
    request = CreateModelRequest(
        parent="providers/openai", model_id="m", model=Model(price=Price(effective_time=tomorrow))
    )
    failure = await gateway.fails(gateway.admin.CreateModel, request)
    assert set(failure.violations) == {"model.price.effective_time"}
    scheduled = Price(input_nanos_per_million=2, effective_time=tomorrow)
    for prices in ([Price()], [scheduled, scheduled]):
        model = Model(price=Price(), scheduled_prices=prices)
        failure = await gateway.fails(
            gateway.admin.CreateModel,
            CreateModelRequest(parent="providers/openai", model_id="m", model=model),
        )
        assert set(failure.violations) == {f"model.scheduled_prices[{len(prices) - 1}].effective_time"}
    request.model.price.effective_time.seconds = 1
    request.model.scheduled_prices.append(scheduled)
    made = await gateway.call(gateway.admin.CreateModel, request)
    assert made.price.effective_time.seconds == 1
    assert list(made.scheduled_prices) == [scheduled]


async def test_a_model_id_is_made_of_the_providers_name(gateway: Gateway) -> None:
    await create_provider(gateway)
    made = await create_model(gateway, "", Model(provider_model="Qwen/Qwen3-0.6B"))
    assert made.name == "providers/openai/models/Qwen-Qwen3-0.6B"
    request = CreateModelRequest(parent="providers/openai", model=Model())
    failure = await gateway.fails(gateway.admin.CreateModel, request)
    assert set(failure.violations) == {"model_id"}


async def test_a_model_needs_its_provider(gateway: Gateway) -> None:
    request = CreateModelRequest(parent="providers/nobody", model_id="m", model=Model())
    failure = await gateway.fails(gateway.admin.CreateModel, request)
    assert (failure.reason, failure.metadata) == ("RESOURCE_NOT_FOUND", {"name": "providers/nobody"})


async def names(gateway: Gateway, parent: str, secret: str = "") -> list[str]:
    page = await gateway.call(gateway.admin.ListModels, ListModelsRequest(parent=parent), secret)
    return sorted(model.name.partition("/")[2] for model in page.models)


async def test_a_plain_key_sees_the_models_it_may_use(gateway: Gateway) -> None:
    for provider_id in ("openai", "other"):
        await create_provider(gateway, provider_id)
        await create_model(gateway, "m", parent=provider_id)
    await create_model(gateway, "off", Model(disabled=True))
    assert await names(gateway, "providers/-") == [
        "openai/models/m",
        "openai/models/off",
        "other/models/m",
    ]
    user = gateway.user_secret  # its tenant may use openai/*
    assert await names(gateway, "providers/-", user) == ["openai/models/m"]
    assert await names(gateway, "providers/other", user) == []
    get = gateway.admin.GetModel
    await gateway.call(get, GetModelRequest(name="providers/openai/models/m"), user)
    for hidden in ("providers/openai/models/off", "providers/other/models/m", "providers/other/models/none"):
        failure = await gateway.fails(get, GetModelRequest(name=hidden), user)
        assert (failure.reason, failure.message) == ("RESOURCE_NOT_FOUND", f"{hidden} does not exist")


async def test_a_plain_key_does_not_see_the_models_of_a_disabled_provider(gateway: Gateway) -> None:
    await create_provider(gateway, disabled=True)
    await create_model(gateway, "m")
    assert await names(gateway, "providers/openai", gateway.user_secret) == []
    failure = await gateway.fails(
        gateway.admin.GetModel, GetModelRequest(name="providers/openai/models/m"), gateway.user_secret
    )
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_a_key_without_inference_sees_no_models(gateway: Gateway) -> None:
    secret = await gateway.key("acme", Scope.SCOPE_USAGE_READ)
    failure = await gateway.fails(gateway.admin.ListModels, ListModelsRequest(parent="providers/-"), secret)
    assert failure.reason == "SCOPE_MISSING"
