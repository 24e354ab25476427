"""Where calls to Bedrock go, how they are signed, where keys come from, and which settings are refused."""

import datetime as dt
import json
import os
import shlex
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest

from gateway_server.errors import GatewayError
from gateway_server.providers.aws_credentials import AwsKeys, read_keys
from gateway_server.providers.base import HttpCall, PreparedEndpoint
from gateway_server.providers.endpoints import aws_bedrock
from gateway_server.providers.endpoints.aws_bedrock import BedrockEndpoint
from gateway_server.providers.kept_fresh import SecretUnavailableError
from tests.support.wire import make_target

ACCESS, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "FwoGZXIv//w=="
KEYS = f"{ACCESS}:{SECRET}"
NOW = 1_760_000_000
PROFILE_ARN = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-v1:0"
MODELS = ["anthropic.claude-3-haiku-20240307-v1:0", "us.amazon.nova-2-lite-v1:0", PROFILE_ARN, "a b/c~d%é"]
TARGET = make_target("bedrock", MODELS[0])


class Frozen:
    """A clock that stands."""

    def now(self) -> float:
        return NOW + 0.9

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def no_ambient_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without keys, and without a machine that could have some."""
    # A gateway of another test may hold the keys that endpoints share.
    monkeypatch.setattr("gateway_server.providers.kept_fresh._shared", weakref.WeakValueDictionary())
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def build(secret: str | None = KEYS, base_url: str = "", **config: Any) -> BedrockEndpoint:
    built = aws_bedrock.build(base_url, lambda: secret, {"region": "us-east-1", **config})
    return replace(built, clock=Frozen())


def prepared(secret: str | None = None, **config: Any) -> BedrockEndpoint:
    endpoint = build(secret, **config)
    assert isinstance(endpoint, PreparedEndpoint)
    endpoint.prepare()
    return endpoint


def headers_of(call: HttpCall) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in call.headers}


def access_key_of(endpoint: BedrockEndpoint) -> str:
    headers = headers_of(endpoint.chat_call(TARGET, b"{}", stream=False))
    return headers["authorization"].partition("Credential=")[2].partition("/")[0]


def boto3_request(
    operation: str, model: str, secret_token: str = "", service: str = "bedrock-runtime", **arguments: Any
) -> Any:
    """The request that boto3 sends at the frozen time."""
    sent: list[Any] = []

    def capture(request: Any, **_: Any) -> mock.Mock:
        sent.append(request)
        return mock.Mock(status_code=400, headers={}, content=b"{}")

    session = boto3.Session(ACCESS, SECRET, secret_token or None, region_name="us-east-1")
    client = session.client(service)
    client.meta.events.register("before-send.*", capture)
    frozen = dt.datetime.fromtimestamp(NOW, dt.UTC).replace(tzinfo=None)
    named = {"modelId": model} if model else {}
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=frozen),
        pytest.raises(client.exceptions.ClientError),
    ):
        getattr(client, operation)(**named, **arguments)
    return sent[0]


def text_of(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def assert_same_request(ours: HttpCall, theirs: Any) -> None:
    """The same address, and the same signature to the letter, which covers address, body, time and keys."""
    assert (ours.method, str(ours.url)) == (theirs.method, theirs.url)
    told = {name.lower(): text_of(value) for name, value in theirs.headers.items()}
    headers = headers_of(ours)
    assert headers["authorization"] == told["authorization"]
    assert headers == {name: told[name] for name in headers}


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("model", MODELS)
def test_calls_are_signed_as_boto3_signs_them(model: str, token: str) -> None:
    endpoint = build(f"{KEYS}:{token}" if token else KEYS)
    target = make_target("bedrock", model)
    messages = [{"role": "user", "content": [{"text": "Grüße, 世界"}]}]

    theirs = boto3_request("converse", model, token, messages=messages)
    assert_same_request(endpoint.chat_call(target, theirs.body, stream=False), theirs)

    theirs = boto3_request("converse_stream", model, token, messages=messages)
    assert_same_request(endpoint.chat_call(target, theirs.body, stream=True), theirs)


def test_counts_embeddings_and_lists_are_signed_as_boto3_signs_them() -> None:
    endpoint, model = build(), "amazon.titan-embed-text-v2:0"
    target = make_target("bedrock", model)

    asked = {"converse": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}}
    theirs = boto3_request("count_tokens", model, input=asked)
    assert_same_request(endpoint.count_call(target, theirs.body), theirs)

    theirs = boto3_request("invoke_model", model, body=b'{"inputText":"Hi"}', contentType="application/json")
    ours = endpoint.embeddings_call(target, theirs.body)
    assert_same_request(ours, theirs)

    assert_same_request(endpoint.check_call(), boto3_request("list_foundation_models", "", service="bedrock"))


def test_the_signature_depends_on_time_body_and_region() -> None:
    def signature(endpoint: BedrockEndpoint, body: bytes = b"{}") -> str:
        return headers_of(endpoint.chat_call(TARGET, body, stream=False))["authorization"]

    later = replace(build(), clock=mock.Mock(now=lambda: NOW + 1.0))
    others = {signature(build(), b"{ }"), signature(later), signature(build(region="us-west-2"))}

    assert signature(build()) == signature(build())
    assert len(others | {signature(build())}) == 4


@pytest.mark.parametrize(
    ("base_url", "config", "url"),
    [
        ("", {}, "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"),
        (
            "",
            {"region": "cn-north-1"},
            "https://bedrock-runtime.cn-north-1.amazonaws.com.cn/model/m/converse",
        ),
        (
            "",
            {"region": "us-gov-west-1"},
            "https://bedrock-runtime.us-gov-west-1.amazonaws.com/model/m/converse",
        ),
        ("http://127.0.0.1:8080", {}, "http://127.0.0.1:8080/model/m/converse"),
        ("https://proxy/aws/", {}, "https://proxy/aws/model/m/converse"),
    ],
)
def test_where_calls_go(base_url: str, config: dict[str, Any], url: str) -> None:
    target = make_target("bedrock", "m")

    assert str(build(base_url=base_url, **config).chat_call(target, b"", stream=False).url) == url


@pytest.mark.parametrize(
    ("base_url", "region"),
    [
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://bedrock-runtime-fips.us-west-2.amazonaws.com", "us-west-2"),
        ("https://vpce-0a1b-2c3d.bedrock-runtime.ap-south-1.vpce.amazonaws.com", "ap-south-1"),
    ],
)
def test_the_address_tells_the_region(base_url: str, region: str) -> None:
    assert build(base_url=base_url, region=None).region == region


def test_the_region_may_be_that_of_awss_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert build(region=None).region == "eu-north-1"
    monkeypatch.setenv("AWS_REGION", "eu-south-1")
    assert build(region=None).region == "eu-south-1"


def test_urls_are_made_once_for_each_model() -> None:
    endpoint = build()
    first, again, other = (
        endpoint.chat_call(make_target("bedrock", model), b"", stream=False) for model in ("a", "a", "b")
    )

    assert first.url is again.url
    assert first.url is not other.url


def test_models_are_counted_for_where_profiles_are_called() -> None:
    target = make_target("bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0")

    url = str(build().count_call(target, b"{}").url)

    assert url.endswith("/model/anthropic.claude-sonnet-4-20250514-v1%3A0/count-tokens")


def test_the_list_of_models_is_at_another_host() -> None:
    assert str(build().check_call().url) == "https://bedrock.us-east-1.amazonaws.com/foundation-models"
    local = build(base_url="http://127.0.0.1:8080").check_call()
    assert (local.method, str(local.url)) == ("GET", "http://127.0.0.1:8080/foundation-models")
    body = b'{"modelSummaries": [{"modelId": "a:0", "modelName": "A"}, {"modelId": "b"}]}'
    assert build().parse_check(body) == ["a:0", "b"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"modelSummaries": 5}', b'{"modelSummaries": [5]}'])
def test_a_list_of_models_that_is_none_is_told(body: bytes) -> None:
    with pytest.raises(GatewayError, match="cannot be used"):
        build().parse_check(body)


# Where keys come from.


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        (KEYS, AwsKeys(ACCESS, SECRET)),
        (f"{KEYS}:{TOKEN}", AwsKeys(ACCESS, SECRET, TOKEN)),
        (json.dumps({"AccessKeyId": ACCESS, "SecretAccessKey": SECRET}), AwsKeys(ACCESS, SECRET)),
        (
            json.dumps(
                {
                    "Version": 1,
                    "AccessKeyId": ACCESS,
                    "SecretAccessKey": SECRET,
                    "SessionToken": TOKEN,
                    "Expiration": "2030-01-01T00:00:00Z",
                },
                indent=1,
            ),
            AwsKeys(ACCESS, SECRET, TOKEN),
        ),
        (
            json.dumps(
                {
                    "Credentials": {
                        "AccessKeyId": ACCESS,
                        "SecretAccessKey": SECRET,
                        "SessionToken": TOKEN,
                    },
                    "AssumedRoleUser": {},
                }
            ),
            AwsKeys(ACCESS, SECRET, TOKEN),
        ),
        ("ABSKQmVkcm9ja0FQSUtleS0=", None),
    ],
)
def test_how_keys_are_written_down(written: str, keys: AwsKeys | None) -> None:
    assert read_keys(written) == keys


@pytest.mark.parametrize(
    "written",
    [
        "a:b",
        f"{ACCESS}:",
        f":{SECRET}",
        f"{ACCESS}:sec ret",
        f"{KEYS}:to ken",
        "{",
        "{}",
        '{"AccessKeyId": 5}',
    ],
)
def test_what_is_no_key_is_told_without_showing_it(written: str) -> None:
    with pytest.raises(SecretUnavailableError) as caught:
        read_keys(written)

    assert ACCESS not in caught.value.cause
    with pytest.raises(GatewayError) as refused:
        build(written).chat_call(TARGET, b"", stream=False)
    assert refused.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"
    assert refused.value.metadata == {"provider": "providers/my-bedrock"}


def test_an_api_key_goes_as_it_is() -> None:
    call = build("ABSKQmVkcm9ja0FQSUtleS0=").chat_call(TARGET, b"{}", stream=False)

    assert headers_of(call) == {
        "content-type": "application/json",
        "authorization": "Bearer ABSKQmVkcm9ja0FQSUtleS0=",
    }


def test_an_api_key_of_the_environment_goes_before_keys_but_only_to_aws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ambient-key")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    assert headers_of(prepared().check_call())["authorization"] == "Bearer ambient-key"
    # What is written down goes before what lies about.
    assert access_key_of(prepared(f"ASIAIOSFODNN7EXAMPLE:{SECRET}")) == "ASIAIOSFODNN7EXAMPLE"
    elsewhere = build(None, base_url="http://127.0.0.1:1")
    elsewhere.keys.start(timeout=20)
    assert "ambient-key" not in str(elsewhere.check_call().headers)


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    endpoint = prepared()

    headers = headers_of(endpoint.chat_call(TARGET, b"{}", stream=False))

    assert headers["x-amz-security-token"] == TOKEN
    assert SECRET not in repr(endpoint) + repr(endpoint.keys)


def write_profile(folder: Path, name: str, access_key: str) -> None:
    text = f"[{name}]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET}\n"
    (folder / "credentials").write_text(text)


def test_keys_of_a_profile_follow_their_file(tmp_path: Path) -> None:
    write_profile(tmp_path, "team", ACCESS)
    endpoint = prepared(profile="team")
    assert access_key_of(endpoint) == ACCESS

    write_profile(tmp_path, "team", "AKIAI44QH8DHBEXAMPLE")
    endpoint.prepare()

    assert access_key_of(endpoint) == "AKIAI44QH8DHBEXAMPLE"


def test_a_profile_may_name_a_program(tmp_path: Path) -> None:
    keys = json.dumps({"Version": 1, "AccessKeyId": ACCESS, "SecretAccessKey": SECRET})
    program = tmp_path / "program.py"
    program.write_text(f"print({keys!r})")
    command = shlex.join([sys.executable, str(program)])
    (tmp_path / "config").write_text(f"[profile tool]\ncredential_process = {command}\n")

    assert access_key_of(prepared(profile="tool")) == ACCESS


class _Role(BaseHTTPRequestHandler):
    """What a container asks for its role's keys."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        end = dt.datetime.now(dt.UTC) + dt.timedelta(hours=6)
        body = json.dumps(
            {
                "AccessKeyId": f"ASIAROLE{len(self.asked):012}",
                "SecretAccessKey": SECRET,
                "Token": TOKEN,
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A container with a role; gives what was asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Role,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/role"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        yield asked
        server.shutdown()
        thread.join()


class _Machine(_Role):
    """What a machine asks: for a token, then which role it has, then for the keys of that role."""

    def do_PUT(self) -> None:
        self.asked.append(self.path)
        self._say(b"a-token")

    def do_GET(self) -> None:
        if self.headers["x-aws-ec2-metadata-token"] != "a-token":
            self.send_error(401)
        elif self.path.endswith("/security-credentials/"):
            self.asked.append(self.path)
            self._say(b"the-role")
        else:
            super().do_GET()

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A machine with a role; gives what was asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Machine,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield asked
        server.shutdown()
        thread.join()


def test_keys_of_a_machines_role_are_asked_for_once(machine: list[str]) -> None:
    endpoint = prepared()
    calls = [endpoint.chat_call(TARGET, b"{}", stream=False) for _ in range(3)]
    endpoint.prepare()

    assert machine == [
        "/latest/api/token",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/meta-data/iam/security-credentials/the-role",
    ]
    assert all(headers_of(call)["x-amz-security-token"] == TOKEN for call in calls)
    assert access_key_of(endpoint).startswith("ASIAROLE")


def test_keys_of_a_containers_role_are_asked_for_once(role: list[str]) -> None:
    endpoint = prepared()
    calls = [endpoint.chat_call(TARGET, b"{}", stream=False) for _ in range(3)]
    endpoint.prepare()

    assert access_key_of(endpoint) == "ASIAROLE000000000001"
    assert {headers_of(call)["x-amz-security-token"] for call in calls} == {TOKEN}
    assert role == ["/role"]


def test_without_any_keys_the_calls_tell_it() -> None:
    endpoint = prepared()

    with pytest.raises(GatewayError) as caught:
        endpoint.chat_call(TARGET, b"", stream=False)

    assert caught.value.reason_name == "UPSTREAM_CREDENTIAL_REJECTED"
    assert "neither the environment nor a profile nor a role has keys" in caught.value.message


def test_a_profile_that_is_not_there_is_told() -> None:
    with pytest.raises(GatewayError, match="ProfileNotFound"):
        prepared(profile="nobody").check_call()


@pytest.mark.parametrize(
    ("base_url", "config", "field"),
    [
        ("", {"region": None}, "provider.config.region"),
        ("", {"region": "us-east"}, "provider.config.region"),
        ("", {"region": "us-east-1.evil.example/"}, "provider.config.region"),
        ("", {"profile": "a\nb"}, "provider.config.profile"),
        ("", {"profile": "a b"}, "provider.config.profile"),
        ("", {"profile": 5}, "provider.config.profile"),
        ("ftp://host", {}, "provider.base_url"),
        ("", {"access_key": "x"}, "provider.config.access_key"),
    ],
)
def test_settings_that_cannot_be_used_name_their_field(
    base_url: str, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        build(base_url=base_url, **config)

    assert [violation.field for violation in caught.value.violations] == [field]
