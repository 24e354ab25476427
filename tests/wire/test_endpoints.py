"""Endpoints: where calls go, what they carry, and which settings are refused."""

from typing import Any

import pytest

from gateway_server.errors import GatewayError
from gateway_server.providers.base import Endpoint, HttpCall, ModerationEndpoint
from gateway_server.providers.demo import DEMO_MODELS
from gateway_server.providers.registry import build_endpoint, provider_types
from tests.support.wire import BASE_URLS, make_target

SECRET = "sk-very-secret"


def build(
    provider_type: str = "openai", base_url: str = "", secret: str | None = SECRET, **config: Any
) -> Endpoint:
    return build_endpoint(provider_type, base_url, lambda: secret, config)


def headers_of(call: HttpCall) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in call.headers}


def test_the_types_of_providers() -> None:
    assert provider_types() == (
        "anthropic",
        "azure_openai",
        "bedrock",
        "demo",
        "google",
        "openai",
        "openai_compatible",
        "vllm",
    )


def test_calls_to_openai() -> None:
    endpoint = build(organization="org-1", project="proj_1")
    target = make_target()
    common = {
        "authorization": f"Bearer {SECRET}",
        "content-type": "application/json",
        "openai-organization": "org-1",
        "openai-project": "proj_1",
    }

    chat = endpoint.chat_call(target, b"{}", stream=False)
    stream = endpoint.chat_call(target, b"{}", stream=True)
    embeddings = endpoint.embeddings_call(target, b"{}")
    assert isinstance(endpoint, ModerationEndpoint)
    moderation = endpoint.moderation_call(target, b"{}")
    check = endpoint.check_call()

    assert str(moderation.url) == "https://api.openai.com/v1/moderations"
    assert headers_of(moderation) == {**common, "accept": "application/json"}
    assert (chat.method, str(chat.url), chat.body) == (
        "POST",
        "https://api.openai.com/v1/chat/completions",
        b"{}",
    )
    assert headers_of(chat) == {**common, "accept": "application/json"}
    assert headers_of(stream) == {**common, "accept": "text/event-stream"}
    assert str(embeddings.url) == "https://api.openai.com/v1/embeddings"
    assert (check.method, str(check.url), check.body) == ("GET", "https://api.openai.com/v1/models", b"")
    assert "content-type" not in headers_of(check)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://host/openai/v2/", "https://host/openai/v2/chat/completions"),
        ("https://host/a%2Fb", "https://host/a%2Fb/chat/completions"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/chat/completions"),
    ],
)
def test_where_a_base_url_leads(base_url: str, url: str) -> None:
    assert str(build("vllm", base_url).chat_call(make_target("vllm"), b"", stream=False).url) == url


def test_urls_are_made_once() -> None:
    endpoint = build()

    first, second = (endpoint.chat_call(make_target(), b"", stream=False) for _ in range(2))

    assert first.url is second.url


def test_a_credential_is_asked_for_at_each_call() -> None:
    secrets = iter(["one", " two\n"])
    endpoint = build_endpoint("openai", "", lambda: next(secrets), {})

    calls = [endpoint.chat_call(make_target(), b"", stream=False) for _ in range(2)]

    assert [headers_of(call)["authorization"] for call in calls] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("secret", [None, "", "  ", "a\r\nx-evil: 1", "ключ"])
def test_without_a_usable_credential_openai_is_not_called(secret: str | None) -> None:
    with pytest.raises(GatewayError) as caught:
        build(secret=secret).chat_call(make_target(), b"", stream=False)

    assert caught.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"
    assert caught.value.metadata == {"provider": "providers/my-openai"}


def test_vllm_needs_no_credential_but_takes_one() -> None:
    target = make_target("vllm")

    without = build("vllm", "http://127.0.0.1", secret=None).chat_call(target, b"", stream=False)
    with_one = build("vllm", "http://127.0.0.1").chat_call(target, b"", stream=False)

    assert "authorization" not in headers_of(without)
    assert headers_of(with_one)["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("provider_type", provider_types())
def test_no_repr_shows_a_secret_or_a_prompt(provider_type: str) -> None:
    endpoint = build(provider_type, BASE_URLS.get(provider_type, ""))
    call = endpoint.chat_call(make_target(provider_type), b"the prompt", stream=False)

    shown = repr(endpoint) + str(endpoint) + repr(call) + str(call)

    assert SECRET not in shown
    assert "the prompt" not in shown


@pytest.mark.parametrize(
    ("provider_type", "base_url", "config", "field"),
    [
        ("azure", "", {}, "provider.provider_type"),
        ("vllm", "", {}, "provider.base_url"),
        ("openai", "ftp://host", {}, "provider.base_url"),
        ("openai", "host:8000", {}, "provider.base_url"),
        ("openai", "/v1", {}, "provider.base_url"),
        ("openai", "https://", {}, "provider.base_url"),
        ("openai", "https://user:pw@host", {}, "provider.base_url"),
        ("openai", "https://user@host", {}, "provider.base_url"),
        ("openai", "https://host/v1?key=1", {}, "provider.base_url"),
        ("openai", "https://host/v1?", {}, "provider.base_url"),
        ("openai", "https://host/v1#x", {}, "provider.base_url"),
        ("openai", "https://host:port", {}, "provider.base_url"),
        ("openai", "https://ho st", {}, "provider.base_url"),
        ("openai", "https://host/\x00", {}, "provider.base_url"),
        ("demo", "https://host", {}, "provider.base_url"),
        ("openai", "", {"organisation": "x"}, "provider.config.organisation"),
        ("openai", "", {"organization": "a\nb"}, "provider.config.organization"),
        ("openai", "", {"project": 5}, "provider.config.project"),
        ("openai", "", {"output_limit_key": "limit"}, "provider.config.output_limit_key"),
        ("openai", "", {"reasoning_key": "reasoning"}, "provider.config.reasoning_key"),
        ("vllm", "http://host", {"reasoning_key": "thoughts"}, "provider.config.reasoning_key"),
        ("openai_compatible", "http://host", {"reasoning_key": True}, "provider.config.reasoning_key"),
        ("vllm", "http://host", {"stream_options": "yes"}, "provider.config.stream_options"),
        ("vllm", "http://host", {"developer_role": 1}, "provider.config.developer_role"),
        ("demo", "", {"anything": 1}, "provider.config.anything"),
    ],
)
def test_settings_that_cannot_be_used_name_their_field(
    provider_type: str, base_url: str, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        build(provider_type, base_url, **config)

    assert caught.value.reason_name == "INVALID_REQUEST"
    assert [violation.field for violation in caught.value.violations] == [field]


def test_reads_the_list_of_models() -> None:
    endpoint = build()

    assert endpoint.parse_check(b'{"data": [{"id": "a"}, {"id": ""}, {"id": "b"}]}') == ["a", "b"]
    assert endpoint.parse_check(b'{"data": null}') == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"data": 5}', b'{"data": [5]}', b'{"data": [{"id": 5}]}']
)
def test_a_list_of_models_that_is_none_is_told(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        build().parse_check(body)

    assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


def test_the_demo_provider_lives_in_this_process() -> None:
    call = build("demo").chat_call(make_target("demo", DEMO_MODELS[0]), b"", stream=False)

    assert call.url.scheme == "demo"
