"""Masks of updates, on the resources of the contract."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import LongContextPrice, Model, ModelCapability, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Budget, Tenant
from gateway_server.errors import GatewayError
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules

TENANT = field_rules(Tenant.DESCRIPTOR, "tenant", not_built=("budget",))
MODEL = field_rules(Model.DESCRIPTOR, "model")
PROVIDER = field_rules(Provider.DESCRIPTOR, "provider", not_built=("credential",))
API_KEY = field_rules(ApiKey.DESCRIPTOR, "api_key")


def mask(*paths: str) -> FieldMask:
    return FieldMask(paths=paths)


def fault(reason: ErrorReason.ValueType, *args: object) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        apply_update(*args)  # type: ignore[arg-type, type-var]
    assert caught.value.reason == reason
    return caught.value


def test_the_rules_come_from_the_contract() -> None:
    assert TENANT.ignored == {"name", "create_time", "update_time", "etag"}
    assert TENANT.immutable == set()
    assert PROVIDER.immutable == {"provider_type"}
    assert API_KEY.ignored >= {"secret_prefix", "secret_last4", "revoke_time", "last_use_time"}


def test_only_what_the_mask_names_is_changed() -> None:
    tenant = Tenant(display_name="old", email="old@example.com")
    apply_update(tenant, Tenant(display_name="new", email="new@example.com"), mask("display_name"), TENANT)
    assert tenant == Tenant(display_name="new", email="old@example.com")


def test_a_named_field_that_is_not_set_is_cleared() -> None:
    tenant = Tenant(display_name="old", labels={"a": "b"}, allowed_models=["x"])
    apply_update(tenant, Tenant(), mask("display_name", "labels", "allowed_models"), TENANT)
    assert tenant == Tenant()


def test_without_a_mask_the_fields_that_are_set_are_changed() -> None:
    tenant = Tenant(display_name="old", email="old@example.com", labels={"a": "1"})
    apply_update(tenant, Tenant(display_name="new", labels={"b": "2"}), FieldMask(), TENANT)
    assert tenant == Tenant(display_name="new", email="old@example.com", labels={"b": "2"})


def test_a_star_replaces_all() -> None:
    tenant = Tenant(name="tenants/a", etag="e", display_name="old", email="old@example.com")
    apply_update(tenant, Tenant(name="x", etag="y", display_name="new"), mask("*"), TENANT)
    assert tenant == Tenant(name="tenants/a", etag="e", display_name="new")


@pytest.mark.parametrize("paths", [("create_time",), ("*",), (), ("etag", "name", "update_time")])
def test_fields_of_the_gateway_are_left_alone(paths: tuple[str, ...]) -> None:
    tenant = Tenant(name="tenants/a", create_time=Timestamp(seconds=1), etag="e")
    patch = Tenant(name="tenants/b", create_time=Timestamp(seconds=2), etag="f")
    apply_update(tenant, patch, mask(*paths), TENANT)
    assert tenant == Tenant(name="tenants/a", create_time=Timestamp(seconds=1), etag="e")


def test_maps_and_lists_are_replaced_whole() -> None:
    tenant = Tenant(labels={"a": "1"}, allowed_models=["x", "y"])
    apply_update(
        tenant, Tenant(labels={"b": "2"}, allowed_models=["z"]), mask("labels", "allowed_models"), TENANT
    )
    assert tenant == Tenant(labels={"b": "2"}, allowed_models=["z"])


def test_a_path_leads_into_messages() -> None:
    model = Model(price=Price(input_nanos_per_million=1, output_nanos_per_million=2))
    patch = Model(price=Price(input_nanos_per_million=10, output_nanos_per_million=20))
    apply_update(model, patch, mask("price.output_nanos_per_million"), MODEL)
    assert model == Model(price=Price(input_nanos_per_million=1, output_nanos_per_million=20))


def test_a_path_makes_the_messages_on_its_way_only_for_a_value() -> None:
    model = Model()
    apply_update(model, Model(price=Price()), mask("price.cache_read_nanos_per_million"), MODEL)
    apply_update(model, Model(), mask("price.cache_read_nanos_per_million"), MODEL)
    assert not model.HasField("price")
    patch = Model(price=Price(cache_read_nanos_per_million=0))
    apply_update(model, patch, mask("price.cache_read_nanos_per_million"), MODEL)
    assert model.price.HasField("cache_read_nanos_per_million")


def test_an_optional_zero_is_a_value_and_clears_when_left_out() -> None:
    model = Model(quality_score=5)
    apply_update(model, Model(quality_score=0), FieldMask(), MODEL)
    assert model.HasField("quality_score")
    apply_update(model, Model(), mask("quality_score"), MODEL)
    assert not model.HasField("quality_score")


def test_enums_lists_of_messages_and_structs_are_copied() -> None:
    model = Model()
    patch = Model(
        capabilities=[ModelCapability.MODEL_CAPABILITY_CHAT],
        price=Price(long_context_prices=[LongContextPrice(above_input_tokens=5)]),
    )
    apply_update(model, patch, mask("capabilities", "price.long_context_prices"), MODEL)
    assert model == patch
    config = Struct()
    config.update({"api_version": "1"})
    provider = Provider(provider_type="demo")
    apply_update(provider, Provider(config=config), mask("config"), PROVIDER)
    assert provider == Provider(provider_type="demo", config=config)
    patch.capabilities.clear()
    assert model.capabilities == [ModelCapability.MODEL_CAPABILITY_CHAT], "nothing is shared"


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "nope",
        "displayName",
        "display_name.x",
        "labels.a",
        "allowed_models.0",
        "budget.nope",
        "a..b",
        "**",
    ],
)
def test_a_path_that_is_no_field_is_refused(path: str) -> None:
    error = fault(ErrorReason.ERROR_REASON_INVALID_REQUEST, Tenant(), Tenant(), mask(path), TENANT)
    assert error.violations[0].field == "update_mask"


def test_a_star_beside_other_paths_is_refused() -> None:
    fault(ErrorReason.ERROR_REASON_INVALID_REQUEST, Tenant(), Tenant(), mask("*", "email"), TENANT)


@pytest.mark.parametrize("paths", [("provider_type",), ("*",), ()])
def test_an_immutable_field_keeps_its_value(paths: tuple[str, ...]) -> None:
    provider = Provider(provider_type="demo")
    patch = Provider(provider_type="openai", display_name="new")
    error = fault(ErrorReason.ERROR_REASON_INVALID_REQUEST, provider, patch, mask(*paths), PROVIDER)
    assert error.violations[0].field == "provider.provider_type"


@pytest.mark.parametrize("provider_type", ["", "demo"])
def test_an_immutable_field_may_be_left_out_or_repeated(provider_type: str) -> None:
    provider = Provider(provider_type="demo", base_url="http://x")
    patch = Provider(provider_type=provider_type, display_name="new")
    apply_update(provider, patch, mask("*"), PROVIDER)
    assert provider == Provider(provider_type="demo", display_name="new")


@pytest.mark.parametrize("paths", [("budget",), ("budget.daily_nanos",), ("*",), ()])
def test_a_field_that_is_not_built_is_refused_by_name(paths: tuple[str, ...]) -> None:
    patch = Tenant(budget=Budget(daily_nanos=5))
    error = fault(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, Tenant(), patch, mask(*paths), TENANT)
    assert error.metadata["feature"].startswith("tenant.budget")


def test_clearing_a_field_that_is_not_built_is_no_change() -> None:
    tenant = Tenant(display_name="x")
    apply_update(tenant, Tenant(display_name="x"), mask("*"), TENANT)
    apply_update(tenant, Tenant(), mask("budget"), TENANT)
    assert tenant == Tenant(display_name="x")


def test_creation_refuses_what_is_not_built() -> None:
    check_create(Tenant(display_name="x"), TENANT)
    with pytest.raises(GatewayError) as caught:
        check_create(Tenant(budget=Budget()), TENANT)
    assert caught.value.metadata == {"feature": "tenant.budget"}


def test_a_misspelt_rule_is_noticed_at_the_start() -> None:
    with pytest.raises(ValueError, match="buget"):
        field_rules(Tenant.DESCRIPTOR, "tenant", not_built=("buget",))
