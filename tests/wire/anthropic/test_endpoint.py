"""Where a request for Anthropic goes and under which headers."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint, Endpoint, HttpCall
from gateway_server.providers.registry import build_endpoint
from tests.support.wire import make_endpoint, make_target

TARGET = make_target("anthropic")


def options(**values: Any) -> dict[str, Struct]:
    return {"anthropic": ParseDict(values, Struct())}


def chat_headers(endpoint: Endpoint, given: dict[str, Struct] | None = None) -> dict[str, str]:
    return headers_of(endpoint.chat_call(TARGET, b"{}", stream=False, options=given or {}))


def headers_of(call: HttpCall) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in call.headers}


def test_a_call() -> None:
    call = make_endpoint("anthropic").chat_call(TARGET, b"{}", stream=True)

    assert (call.method, str(call.url), call.body) == ("POST", "https://api.anthropic.com/v1/messages", b"{}")
    assert headers_of(call) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "x-api-key": "sk-test",
        "anthropic-version": "2023-06-01",
    }


def test_the_other_calls() -> None:
    endpoint = make_endpoint("anthropic")
    assert isinstance(endpoint, CountTokensEndpoint)

    count, check = endpoint.count_call(TARGET, b"{}", options=options(betas=["b"])), endpoint.check_call()

    assert (count.method, str(count.url)) == ("POST", "https://api.anthropic.com/v1/messages/count_tokens")
    assert headers_of(count)["anthropic-beta"] == "b"
    assert (check.method, str(check.url)) == ("GET", "https://api.anthropic.com/v1/models?limit=1000")
    assert headers_of(check)["x-api-key"] == "sk-test"
    assert endpoint.embeddings_format is None


def test_another_address() -> None:
    endpoint = build_endpoint("anthropic", "https://example.com/proxy/", lambda: "k", {})

    assert str(endpoint.chat_call(TARGET, b"", stream=False).url) == "https://example.com/proxy/messages"


def test_the_version_is_a_setting() -> None:
    headers = chat_headers(make_endpoint("anthropic", version="2026-10-21"))

    assert headers["anthropic-version"] == "2026-10-21"


@pytest.mark.parametrize(
    ("configured", "asked", "sent"),
    [
        ([], None, None),
        (["a", "b"], None, "a,b"),
        ([], ["c"], "c"),
        (["a", "b"], ["b", "c"], "a,b,c"),
        (["a"], "c", "a,c"),
        ([], [], None),
    ],
)
def test_betas_of_the_provider_and_of_the_caller(configured: list[str], asked: Any, sent: str | None) -> None:
    endpoint = make_endpoint("anthropic", betas=configured)
    given = {} if asked is None else options(betas=asked, service_tier="auto")

    assert chat_headers(endpoint, given).get("anthropic-beta") == sent


def test_options_without_betas() -> None:
    assert "anthropic-beta" not in chat_headers(make_endpoint("anthropic"), options(service_tier="auto"))


@pytest.mark.parametrize(
    "betas", [5, True, None, {"a": 1}, ["a", 5], ["a\r\nx-api-key: k"], [""], "a,b", [["a"]]]
)
def test_betas_that_are_no_names_are_refused(betas: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        chat_headers(make_endpoint("anthropic"), options(betas=betas))

    assert caught.value.violations[0].field == 'provider_options["anthropic"].betas'


@pytest.mark.parametrize(
    "config", [{"betas": "a"}, {"betas": ["a,b"]}, {"betas": [1]}, {"version": ""}, {"x": 1}]
)
def test_settings_that_cannot_be_used_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(GatewayError) as caught:
        make_endpoint("anthropic", **config)

    assert caught.value.violations[0].field == f"provider.config.{next(iter(config))}"


def test_without_a_credential_nothing_is_sent() -> None:
    endpoint = build_endpoint("anthropic", "", lambda: None, {})

    with pytest.raises(GatewayError) as caught:
        endpoint.chat_call(TARGET, b"{}", stream=False)
    assert caught.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"


def test_no_repr_shows_the_key() -> None:
    endpoint = make_endpoint("anthropic")

    assert "sk-test" not in repr(endpoint)
    assert "sk-test" not in repr(endpoint.chat_call(TARGET, b"{}", stream=False))
