"""For every type of provider: whatever a model is called, its calls go to the provider's address and path."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, ImagePart, MediaSource, Message, Role
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint, Endpoint, HttpCall
from gateway_server.providers.registry import build_endpoint, provider_types
from tests.support.wire import BASE_URLS, make_target

#: Settings of types that need some.
CONFIGS: dict[str, list[dict[str, object]]] = {
    "azure_openai": [{"surface": surface} for surface in ("v1", "deployments", "models")],
    "bedrock": [{"region": "eu-central-1"}],
}
CASES = [(name, config) for name in provider_types() for config in CONFIGS.get(name, [{}])]

NAMES = [
    "..",
    ".",
    "../../admin",
    "%2e%2e/%2e%2e/admin",
    "..%2fadmin",
    "a/../../b",
    "a\\..\\b",
    "a?x=1",
    "a#b",
    "a@127.0.0.1",
    "a:b/c;d",
    "http://127.0.0.1/x",
    "//127.0.0.1/x",
    "a b",
    "a\r\nHost: victim",
    "\u2025/\uff0e\uff0e/x",
    "models/..",
    "tunedModels/../x",
    "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.x",
]


def build(provider_type: str, config: dict[str, object]) -> Endpoint:
    return build_endpoint(provider_type, BASE_URLS.get(provider_type, ""), lambda: "sk-test", config)


def calls_of(endpoint: Endpoint, name: str, provider_type: str) -> list[HttpCall]:
    target = make_target(provider_type, name)
    calls = []
    if endpoint.chat_format is not None:
        calls += [endpoint.chat_call(target, b"{}", stream=stream) for stream in (False, True)]
    if endpoint.embeddings_format is not None:
        calls.append(endpoint.embeddings_call(target, b"{}"))
    if isinstance(endpoint, CountTokensEndpoint):
        calls.append(endpoint.count_call(target, b"{}"))
    return calls


def shape_of(url: httpx.URL) -> tuple[str, bytes, int, list[str]]:
    """Scheme, authority, how many segments the path has, and the names in the query."""
    path = url.raw_path.partition(b"?")[0]
    names = sorted(pair.partition("=")[0] for pair in url.query.decode().split("&") if pair)
    return url.scheme, url.netloc, path.count(b"/"), names


@pytest.mark.parametrize(("provider_type", "config"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_a_name(provider_type: str, config: dict[str, object], name: str) -> None:
    endpoint = build(provider_type, config)
    is_segment = provider_type == "bedrock" or config.get("surface") == "deployments"
    if is_segment and name in {".", ".."}:
        with pytest.raises(GatewayError, match="is no name that can stand in the address"):
            calls_of(endpoint, name, provider_type)
        return
    calls = calls_of(endpoint, name, provider_type)
    plain = calls_of(endpoint, "plain", provider_type)
    assert [shape_of(call.url) for call in calls] == [shape_of(call.url) for call in plain]
    for call in calls:
        raw = call.url.raw_path
        assert raw.isascii()
        assert not any(byte <= 32 for byte in raw)
        segments = raw.partition(b"?")[0].split(b"/")
        assert not {".", ".."} & {unquote(segment.decode()) for segment in segments}, raw


@pytest.mark.parametrize(("provider_type", "config"), CASES)
def test_a_file_of_the_servers_own_is_in_no_request(provider_type: str, config: dict[str, object]) -> None:
    """An address is the provider's to fetch; one that names a file is nobody's."""
    wire_format = build(provider_type, config).chat_format
    assert wire_format is not None
    source = MediaSource(uri="file:///etc/passwd", mime_type="image/png")
    part = ContentPart(image=ImagePart(source=source))
    request = CreateChatCompletionRequest(model="m", messages=[Message(role=Role.ROLE_USER, parts=[part])])
    with pytest.raises(GatewayError) as caught:
        wire_format.render_chat(request, make_target(provider_type, "m"), stream=False)
    assert caught.value.reason_name == "FEATURE_NOT_SUPPORTED"
