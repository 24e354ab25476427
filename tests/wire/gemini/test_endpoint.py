"""Google's endpoint: an address for each model and method, a key, and which models there are."""

import pytest

from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint, HttpCall
from gateway_server.providers.registry import build_endpoint
from tests.support.wire import make_target

HOST = "https://generativelanguage.googleapis.com/v1beta"


def build(base_url: str = "", secret: str | None = "sk-test") -> CountTokensEndpoint:
    built = build_endpoint("google", base_url, lambda: secret, {})
    assert isinstance(built, CountTokensEndpoint)
    return built


def headers_of(call: HttpCall) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in call.headers}


def test_calls() -> None:
    endpoint, target = build(), make_target("google", "gemini-2.5-flash")

    whole = endpoint.chat_call(target, b"{}", stream=False)
    stream = endpoint.chat_call(target, b"{}", stream=True)
    count = endpoint.count_call(target, b"{}")
    embeddings = endpoint.embeddings_call(target, b"{}")
    check = endpoint.check_call()

    model = f"{HOST}/models/gemini-2.5-flash"
    assert [str(call.url) for call in (whole, stream, count, embeddings, check)] == [
        f"{model}:generateContent",
        f"{model}:streamGenerateContent?alt=sse",
        f"{model}:countTokens",
        f"{model}:batchEmbedContents",
        f"{HOST}/models?pageSize=1000",
    ]
    assert {call.method for call in (whole, stream, count, embeddings)} == {"POST"}
    assert headers_of(whole) == {
        "content-type": "application/json",
        "accept": "application/json",
        "x-goog-api-key": "sk-test",
    }
    assert headers_of(stream)["accept"] == "text/event-stream"
    assert (check.method, check.body) == ("GET", b"")
    assert headers_of(check) == {"accept": "application/json", "x-goog-api-key": "sk-test"}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/mine", "/v1beta/tunedModels/mine:generateContent"),
        ("a/b", "/v1beta/models/a%2Fb:generateContent"),
        ("models/../files", "/v1beta/models/..%2Ffiles:generateContent"),
        ("..", "/v1beta/models/..:generateContent"),
        ("x:countTokens?key=1#", "/v1beta/models/x%3AcountTokens%3Fkey%3D1%23:generateContent"),
        ("ü %\r\n", "/v1beta/models/%C3%BC%20%25%0D%0A:generateContent"),
    ],
)
def test_a_models_name_stays_one_segment_of_the_path(model: str, path: str) -> None:
    call = build().chat_call(make_target("google", model), b"{}", stream=False)

    assert call.url.raw_path == path.encode()


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1beta/models/m:countTokens"),
        ("https://host/gemini/v1/", "https://host/gemini/v1/models/m:countTokens"),
    ],
)
def test_where_a_base_url_leads(base_url: str, url: str) -> None:
    assert str(build(base_url).count_call(make_target("google", "m"), b"").url) == url


def test_urls_are_made_once_for_each_model_and_method() -> None:
    endpoint, one, two = build(), make_target("google", "one"), make_target("google", "two")

    def url(name: str, *, stream: bool) -> object:
        target = one if name == "one" else two
        return endpoint.chat_call(target, b"", stream=stream).url

    assert url("one", stream=True) is url("one", stream=True)
    assert url("one", stream=True) is not url("one", stream=False)
    assert url("one", stream=True) is not url("two", stream=True)


def test_urls_of_models_that_are_gone_are_not_kept_for_ever() -> None:
    endpoint = build()

    urls = [endpoint.count_call(make_target("google", f"model-{number}"), b"").url for number in range(3000)]

    assert str(urls[-1]).endswith("/model-2999:countTokens")
    assert len(getattr(endpoint, "_urls")) <= 1024  # noqa: B009 -- bounded memory is the point


@pytest.mark.parametrize("secret", [None, "", " ", "a\nb"])
def test_without_a_usable_key_nothing_is_asked(secret: str | None) -> None:
    with pytest.raises(GatewayError) as caught:
        build(secret=secret).chat_call(make_target("google"), b"", stream=False)

    assert caught.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"


def test_reads_the_list_of_models() -> None:
    body = b'{"models": [{"name": "models/gemini-2.5-flash"}, {"name": ""}, {"name": "tunedModels/mine"}]}'

    assert build().parse_check(body) == ["gemini-2.5-flash", "tunedModels/mine"]
    assert build().parse_check(b"{}") == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"models": 5}', b'{"models": [5]}', b'{"models": [{"name": 5}]}']
)
def test_a_list_of_models_that_is_none_is_told(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        build().parse_check(body)

    assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


def test_there_are_no_settings() -> None:
    with pytest.raises(GatewayError) as caught:
        build_endpoint("google", "", lambda: "sk-test", {"project": "p"})

    assert [violation.field for violation in caught.value.violations] == ["provider.config.project"]
