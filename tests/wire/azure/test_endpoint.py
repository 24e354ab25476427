"""Where calls to Azure go on each surface, what they carry, and which settings are refused."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError
from gateway_server.providers.base import HttpCall, PreparedEndpoint
from gateway_server.providers.credential_files import CredentialFiles
from gateway_server.providers.credentials import CredentialRules, Credentials
from gateway_server.providers.endpoints import azure_openai
from gateway_server.providers.endpoints.azure_openai import AzureOpenAIEndpoint
from gateway_server.storage.sealing import MasterKeys
from tests.support.wire import make_target

RESOURCE = "https://name.openai.azure.com"
SECRET = "azure-very-secret"
TARGET = make_target("azure_openai", "my-gpt")


def build(base_url: str = RESOURCE, secret: str | None = SECRET, **config: Any) -> AzureOpenAIEndpoint:
    return azure_openai.build(base_url, lambda: secret, config)


def url_of(endpoint: AzureOpenAIEndpoint, model: str = "my-gpt") -> str:
    return str(endpoint.chat_call(make_target("azure_openai", model), b"", stream=False).url)


def headers_of(call: HttpCall) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in call.headers}


@pytest.mark.parametrize(
    ("config", "chat", "embeddings", "models"),
    [
        ({}, "/openai/v1/chat/completions", "/openai/v1/embeddings", "/openai/v1/models"),
        (
            {"surface": "v1", "api_version": "preview"},
            "/openai/v1/chat/completions?api-version=preview",
            "/openai/v1/embeddings?api-version=preview",
            "/openai/v1/models",
        ),
        (
            {"surface": "deployments"},
            "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
            "/openai/deployments/my-gpt/embeddings?api-version=2024-10-21",
            "/openai/models?api-version=2024-10-21",
        ),
        (
            {"surface": "deployments", "api_version": "2025-04-01-preview"},
            "/openai/deployments/my-gpt/chat/completions?api-version=2025-04-01-preview",
            "/openai/deployments/my-gpt/embeddings?api-version=2025-04-01-preview",
            "/openai/models?api-version=2025-04-01-preview",
        ),
        (
            {"surface": "models"},
            "/models/chat/completions?api-version=2024-05-01-preview",
            "/models/embeddings?api-version=2024-05-01-preview",
            "/openai/v1/models",
        ),
    ],
)
def test_the_paths_of_each_surface(config: dict[str, Any], chat: str, embeddings: str, models: str) -> None:
    endpoint = build(**config)

    assert url_of(endpoint) == RESOURCE + chat
    assert str(endpoint.embeddings_call(TARGET, b"").url) == RESOURCE + embeddings
    check = endpoint.check_call()
    assert (check.method, str(check.url), check.body) == ("GET", RESOURCE + models, b"")


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (RESOURCE + "/", RESOURCE + "/openai/v1/chat/completions"),
        (RESOURCE + "/openai", RESOURCE + "/openai/v1/chat/completions"),
        (RESOURCE + "/openai/v1/", RESOURCE + "/openai/v1/chat/completions"),
        (RESOURCE + "/models", RESOURCE + "/openai/v1/chat/completions"),
        ("https://proxy/azure", "https://proxy/azure/openai/v1/chat/completions"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/openai/v1/chat/completions"),
    ],
)
def test_addresses_as_people_copy_them(base_url: str, url: str) -> None:
    assert url_of(build(base_url)) == url


def test_names_of_deployments_are_escaped() -> None:
    endpoint = build(surface="deployments")

    assert "/deployments/a%2Fb%3Fc%23%20d%25/chat" in url_of(endpoint, "a/b?c# d%")


def test_urls_are_made_once_for_each_deployment() -> None:
    endpoint = build(surface="deployments")
    calls = [
        endpoint.chat_call(make_target("azure_openai", model), b"", stream=stream)
        for model, stream in (("a", False), ("a", True), ("b", False))
    ]

    assert calls[0].url is calls[1].url
    assert calls[0].url is not calls[2].url


def test_a_key_and_a_token_go_into_headers_of_their_own() -> None:
    with_key = build().chat_call(TARGET, b"{}", stream=True)
    with_token = build(auth="entra").chat_call(TARGET, b"{}", stream=False)

    assert headers_of(with_key) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "api-key": SECRET,
    }
    assert headers_of(with_token) == {
        "content-type": "application/json",
        "accept": "application/json",
        "authorization": f"Bearer {SECRET}",
    }


@pytest.mark.parametrize("auth", ["api_key", "entra"])
@pytest.mark.parametrize("secret", [None, " ", "a\nb"])
def test_without_a_usable_credential_it_is_not_called(secret: str | None, auth: str) -> None:
    with pytest.raises(GatewayError) as caught:
        build(secret=secret, auth=auth).chat_call(TARGET, b"", stream=False)

    assert caught.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"
    assert caught.value.metadata == {"provider": "providers/my-azure_openai"}


def test_a_token_comes_from_a_command_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    token = '{"accessToken": "entra-token", "expires_on": 32503680000}'
    monkeypatch.setenv("TEAM_TOKEN_COMMAND", shlex.join([sys.executable, "-c", f"print({token!r})"]))
    endpoint = build(secret=None, auth="entra", token_command="TEAM_TOKEN_COMMAND")
    assert isinstance(endpoint, PreparedEndpoint)

    # Nothing is run before it is meant to be used.
    with pytest.raises(GatewayError, match="was not fetched yet"):
        endpoint.chat_call(TARGET, b"", stream=False)
    endpoint.prepare()

    assert headers_of(endpoint.check_call())["authorization"] == "Bearer entra-token"
    assert "entra-token" not in repr(endpoint)
    # One that is built anew goes on with it, although the command is gone by now.
    monkeypatch.delenv("TEAM_TOKEN_COMMAND")
    renewed = build(secret=None, auth="entra", token_command="TEAM_TOKEN_COMMAND")
    renewed.prepare()
    assert headers_of(renewed.check_call())["authorization"] == "Bearer entra-token"


def test_a_command_that_fails_is_told_by_the_calls() -> None:
    assert "MISSING_TOKEN_COMMAND" not in os.environ
    endpoint = build(secret=None, auth="entra", token_command="MISSING_TOKEN_COMMAND")
    endpoint.prepare()

    with pytest.raises(GatewayError) as caught:
        endpoint.embeddings_call(TARGET, b"")

    assert caught.value.message == (
        "the gateway's credential for providers/my-azure_openai cannot be had: "
        "the variable MISSING_TOKEN_COMMAND holds no command"
    )
    assert caught.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"


@pytest.mark.parametrize(
    ("base_url", "config", "field"),
    [
        ("", {}, "provider.base_url"),
        (RESOURCE + "?api-version=1", {}, "provider.base_url"),
        (RESOURCE, {"surface": "responses"}, "provider.config.surface"),
        (RESOURCE, {"api_version": "2024&x=1"}, "provider.config.api_version"),
        (RESOURCE, {"api_version": 2024}, "provider.config.api_version"),
        (RESOURCE, {"auth": "key"}, "provider.config.auth"),
        (RESOURCE, {"token_command": "AZURE_TOKEN_COMMAND"}, "provider.config.token_command"),
        (RESOURCE, {"auth": "entra", "token_command": "SHELL"}, "provider.config.token_command"),
        (RESOURCE, {"auth": "entra", "token_command": "az TOKEN_COMMAND"}, "provider.config.token_command"),
        (RESOURCE, {"stream_options": 1}, "provider.config.stream_options"),
        (RESOURCE, {"reasoning_key": "thoughts"}, "provider.config.reasoning_key"),
        (RESOURCE, {"deployment": "x"}, "provider.config.deployment"),
    ],
)
def test_settings_that_cannot_be_used_name_their_field(
    base_url: str, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        build(base_url, **config)

    assert [violation.field for violation in caught.value.violations] == [field]


def render(request: dict[str, Any], **config: Any) -> dict[str, Any]:
    message = ParseDict(request, CreateChatCompletionRequest())
    rendered = orjson.loads(build(**config).chat_format.render_chat(message, TARGET, stream=True))
    assert isinstance(rendered, dict)
    return rendered


HELLO: dict[str, Any] = {"role": "ROLE_USER", "parts": [{"text": {"text": "Hello"}}]}
REQUEST: dict[str, Any] = {
    "messages": [{**HELLO, "role": "ROLE_DEVELOPER"}, HELLO],
    "generationConfig": {"maxOutputTokens": 5},
    "endUserId": "u" * 70,
    "providerOptions": {"azure_openai": {"data_sources": [{"type": "azure_search"}]}, "openai": {"x": 1}},
}


def test_the_surfaces_differ_in_names_and_options() -> None:
    new, old = render(REQUEST), render(REQUEST, surface="models")

    assert [message["role"] for message in new["messages"]] == ["developer", "user"]
    assert [message["role"] for message in old["messages"]] == ["system", "user"]
    assert (new["max_completion_tokens"], old["max_tokens"]) == (5, 5)
    for body in (new, old):
        assert body["model"] == "my-gpt"
        assert body["user"] == "u" * 70
        assert body["data_sources"] == [{"type": "azure_search"}]
        assert body["stream_options"] == {"include_usage": True}
        assert "x" not in body
    without = render(REQUEST, stream_options=False, output_limit_key="max_tokens", developer_role="system")
    assert "stream_options" not in without
    assert (without["max_tokens"], without["messages"][0]["role"]) == (5, "system")


def test_reasoning_goes_back_where_the_settings_say() -> None:
    thought = {"role": "ROLE_ASSISTANT", "parts": [{"reasoning": {"text": "Hm"}}, {"text": {"text": "Hi"}}]}
    request = {"messages": [HELLO, thought, HELLO]}

    body = render(request, surface="models", reasoning_key="reasoning_content")

    assert body["messages"][1] == {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}
    with pytest.raises(GatewayError) as caught:
        render(request, surface="models")
    assert caught.value.reason_name == "FEATURE_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("surface", "request_fields"),
    [
        ("v1", {"tools": [{"provider": {"toolType": "web_search"}}]}),
        ("models", {"tools": [{"freeForm": {"toolName": "f"}}]}),
        (
            "models",
            {"messages": [{"role": "ROLE_USER", "parts": [{"document": {"source": {"inlineText": "x"}}}]}]},
        ),
        ("models", {"generationConfig": {"responseModalities": ["MODALITY_AUDIO"]}}),
    ],
)
def test_what_a_surface_does_not_have_is_refused(surface: str, request_fields: dict[str, Any]) -> None:
    with pytest.raises(GatewayError) as caught:
        render({"messages": [HELLO], **request_fields}, surface=surface)

    assert caught.value.reason_name == "FEATURE_NOT_SUPPORTED"
    assert caught.value.metadata["model"] == "my-azure_openai/my-gpt"


def test_reads_the_list_of_models() -> None:
    assert build().parse_check(b'{"data": [{"id": "gpt-4o"}], "object": "list"}') == ["gpt-4o"]


def test_a_provider_is_opened_with_its_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The way that the gateway itself takes: whoever opens a provider waits for its first token."""
    monkeypatch.setenv("OPEN_TOKEN_COMMAND", shlex.join([sys.executable, "-c", "print('first-token')"]))
    provider = Provider(name="providers/azure", provider_type="azure_openai", base_url=RESOURCE)
    provider.config.update({"auth": "entra", "token_command": "OPEN_TOKEN_COMMAND"})
    credentials = Credentials(
        CredentialRules(), CredentialFiles((), interval=60), MasterKeys(file=tmp_path / "key", make_file=True)
    )

    endpoint = credentials.endpoint_of(provider)

    assert headers_of(endpoint.check_call())["authorization"] == "Bearer first-token"
    credentials.validate(provider)
