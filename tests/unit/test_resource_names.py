from __future__ import annotations

import pytest

from gateway_server import resource_names as names
from gateway_server.allowed_models import is_allowed, model_names
from gateway_server.errors import GatewayError


def test_names_are_read_as_they_are_made() -> None:
    assert names.parse_tenant(names.tenant_name("acme")) == "acme"
    assert names.parse_api_key(names.api_key_name("acme", "ci")) == ("acme", "ci")
    assert names.parse_provider(names.provider_name("openai")) == "openai"
    assert names.parse_model(names.model_name("openai", "gpt-4o:2")) == ("openai", "gpt-4o:2")
    assert names.parse_tenant_or_any("tenants/-") is None
    assert names.parse_provider_or_any("providers/-") is None
    assert names.usage_record_name("acme", "r") == "tenants/acme/usageRecords/r"


@pytest.mark.parametrize(
    "name",
    ["", "acme", "tenants/", "tenants/-", "tenants/A", "tenants/a/b", "tenants/a\n", "tenants/" + "a" * 64],
)
def test_what_is_no_name_is_refused_with_its_field(name: str) -> None:
    with pytest.raises(GatewayError) as caught:
        names.parse_tenant(name, "tenant.name")
    assert caught.value.violations[0].field == "tenant.name"


@pytest.mark.parametrize(
    ("provider_model", "model_id"),
    [
        ("gpt-4o", "gpt-4o"),
        ("Qwen/Qwen3-0.6B", "Qwen-Qwen3-0.6B"),
        ("anthropic.claude-3:0", "anthropic.claude-3:0"),
        ("-_odd", "odd"),
        ("ünï", "n-"),
        ("", ""),
        ("///", ""),
        ("m" * 200, "m" * 128),
    ],
)
def test_a_model_id_is_made_of_the_providers_name(provider_model: str, model_id: str) -> None:
    assert names.model_id_of(provider_model) == model_id
    if model_id:
        names.parse_model(names.model_name("p", model_id))


@pytest.mark.parametrize(
    ("allowed_models", "allowed"),
    [
        ((), True),
        (((), ()), True),
        ((("gpt-4o",), ()), True),
        ((("gpt-*",), ()), True),
        ((("openai/*",), ()), True),
        ((("openai/gpt-4o",), ("gpt-4?",)), True),
        ((("gpt",), ()), False),
        ((("GPT-4O",), ()), False),
        ((("azure/*",), ()), False),
        ((("*",), ("claude-*",)), False),
        ((("claude-*", "gpt-4o"), ()), True),
    ],
)
def test_a_model_must_fit_every_list(allowed_models: tuple[tuple[str, ...], ...], allowed: bool) -> None:
    assert is_allowed(allowed_models, model_names("openai", "gpt-4o")) is allowed
