"""AWS Bedrock: Converse and InvokeModel in one region, signed with AWS keys or with a Bedrock API key."""

import os
import re
from dataclasses import dataclass, field
from importlib import import_module as load_module
from typing import Final

import httpx

from gateway_server.clock import Clock, SystemClock
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.aws_credentials import AwsKeys, find_keys, read_keys
from gateway_server.providers.base import (
    NO_OPTIONS,
    Credential,
    HttpCall,
    ProviderConfig,
    ProviderOptions,
    Target,
)
from gateway_server.providers.config import ConfigReader, is_header_value, read_base_url
from gateway_server.providers.endpoints.api_key import credential_error
from gateway_server.providers.endpoints.paths import path_segment
from gateway_server.providers.kept_fresh import KeptFresh, SecretUnavailableError
from gateway_server.providers.wire.bedrock_converse import PROVIDER_TYPE, BedrockConverseFormat
from gateway_server.providers.wire.bedrock_converse.models import base_model
from gateway_server.providers.wire.bedrock_embeddings import BedrockEmbeddingsFormat
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    MalformedAnswerError,
    as_object,
    get_list,
    get_text,
    parse_object,
)

__all__ = ["PROVIDER_TYPE", "BedrockEndpoint", "build"]

_SERVICE: Final = "bedrock"
_JSON: Final = "application/json"
_API_KEY_VARIABLE: Final = "AWS_BEARER_TOKEN_BEDROCK"
_REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d", re.ASCII)
_PROFILE: Final = re.compile(r"[\w.@+/-]{1,128}", re.ASCII)
#: The region is part of the address of a service, ``bedrock-runtime.REGION.amazonaws.com``.
_AWS_HOST: Final = re.compile(
    r"(vpce-[a-z0-9-]+\.)?bedrock-runtime(?:-fips)?\.(?P<region>[a-z0-9-]+)\."
    r"(?:(?:vpce\.)?amazonaws\.com(?:\.cn)?|api\.aws)"
)
#: Loads botocore, which takes a third of a second.
_SIGNING: Final = "gateway_server.providers.aws_signing"
_RUNTIME: Final = "bedrock-runtime"
_UNKNOWN_ADDRESS: Final = "https://bedrock.invalid"
_PREPARE_SECONDS: Final = 20.0
_MAX_URLS: Final = 1024

Header = tuple[bytes, bytes]


def build(base_url: str, credential: Credential, config: ProviderConfig) -> "BedrockEndpoint":
    """Needs a region, by the setting ``region``, the address, or a variable of AWS's tools.

    The credential is keys, see ``read_keys``, or a Bedrock API key. Without one, AWS's own places are
    searched, with the setting ``profile`` or without.
    """
    settings = ConfigReader(config)
    region = settings.header_value("region")
    profile = settings.header_value("profile")
    settings.finish()
    if profile and not _PROFILE.fullmatch(profile):
        raise invalid_request("provider.config.profile", "is not the name of a profile")
    url = read_base_url(base_url, default=_UNKNOWN_ADDRESS, default_path=b"/")
    host = _AWS_HOST.fullmatch(url.host)
    if not region:
        ambient = map(os.environ.get, _REGION_VARIABLES)
        region = host["region"] if host else next(filter(None, ambient), "")
    if not _REGION.fullmatch(region):
        what = "is not a region" if region else "is required, for example us-east-1"
        raise invalid_request("provider.config.region", what)
    if not base_url:
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        url = url.copy_with(host=f"{_RUNTIME}.{region}.{domain}")
    return BedrockEndpoint(
        base_url=url,
        region=region,
        credential=credential,
        keys=find_keys(profile),
        # A key that nobody named goes to AWS only.
        may_use_ambient_key=not base_url or host is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockEndpoint:
    """One region with one way to sign; implements CountTokensEndpoint and PreparedEndpoint."""

    base_url: httpx.URL
    region: str
    credential: Credential = field(repr=False)
    keys: KeptFresh[AwsKeys] = field(repr=False)
    may_use_ambient_key: bool = True
    clock: Clock = field(default_factory=SystemClock, repr=False)
    chat_format: BedrockConverseFormat = field(init=False, default=BedrockConverseFormat())
    count_format: BedrockConverseFormat = field(init=False, default=BedrockConverseFormat())
    embeddings_format: BedrockEmbeddingsFormat = field(init=False, default=BedrockEmbeddingsFormat())
    #: By path: the transport knows a prepared URL by its identity, so each is made once.
    _urls: dict[tuple[str, str], httpx.URL] = field(init=False, repr=False, default_factory=dict)

    def prepare(self) -> None:
        """As in PreparedEndpoint: loads the signer, and looks for keys where none were given."""
        load_module(_SIGNING)
        load_module("botocore.eventstream")
        try:
            if not self._find_given():
                self.keys.start(timeout=_PREPARE_SECONDS)
        except (SecretUnavailableError, GatewayError):
            return  # told by the calls that need it

    def chat_call(
        self, target: Target, body: bytes, *, stream: bool, options: ProviderOptions = NO_OPTIONS
    ) -> HttpCall:
        """As in Endpoint."""
        return self._post(target.provider_model, "converse-stream" if stream else "converse", body, target)

    def count_call(self, target: Target, body: bytes, *, options: ProviderOptions = NO_OPTIONS) -> HttpCall:
        """As in CountTokensEndpoint. Models count, profiles of them do not."""
        return self._post(base_model(target.provider_model), "count-tokens", body, target)

    def embeddings_call(self, target: Target, body: bytes) -> HttpCall:
        """As in Endpoint."""
        return self._post(target.provider_model, "invoke", body, target)

    def check_call(self) -> HttpCall:
        """As in Endpoint: the list of models, which another host of the same region has."""
        host = self.base_url.host
        url = self.base_url.copy_with(
            host=host.replace(_RUNTIME, _SERVICE, 1) if _AWS_HOST.fullmatch(host) else host,
            raw_path=self.base_url.raw_path.rstrip(b"/") + b"/foundation-models",
        )
        return HttpCall(url, self._headers("GET", url, b"", "", ""), b"", method="GET")

    def parse_check(self, body: bytes) -> list[str]:
        """As in Endpoint."""
        try:
            models = get_list(parse_object(body), "modelSummaries", "answer")
            names = [
                get_text(as_object(model, "modelSummaries[]"), "modelId", "modelSummaries[]")
                for model in models
            ]
        except MalformedAnswerError as error:
            raise protocol_error("", error.cause) from error
        return [name for name in names if name]

    def _post(self, model: str, operation: str, body: bytes, target: Target) -> HttpCall:
        url = self._url(model, operation)
        return HttpCall(url, self._headers("POST", url, body, _JSON, target.provider), body)

    def _url(self, model: str, operation: str) -> httpx.URL:
        """The address of an operation. Ids hold colons, and ARNs slashes: both are escaped."""
        url = self._urls.get((model, operation))
        if url is None:
            if len(self._urls) >= _MAX_URLS:
                self._urls.clear()
            path = f"/model/{path_segment(model)}/{operation}".encode()
            url = self.base_url.copy_with(raw_path=self.base_url.raw_path.rstrip(b"/") + path)
            self._urls[model, operation] = url
        return url

    def _headers(
        self, method: str, url: httpx.URL, body: bytes, content_type: str, provider: str
    ) -> list[Header]:
        from gateway_server.providers.aws_signing import sign  # noqa: PLC0415 -- loaded by ``prepare``

        try:
            given = self._find_given()
            keys = read_keys(given) if given else self.keys.get()
        except SecretUnavailableError as error:
            raise credential_error(error.cause, provider) from error
        if keys is None:
            if not is_header_value(given):
                raise credential_error("holds characters that no API key has", provider)
            plain = [(b"content-type", content_type.encode())] if content_type else []
            return [*plain, (b"authorization", b"Bearer " + given.encode("ascii"))]
        return sign(
            keys,
            method,
            str(url),
            body,
            content_type=content_type,
            service=_SERVICE,
            region=self.region,
            now=self.clock.now(),
        )

    def _find_given(self) -> str:
        """The credential, else the API key that AWS's tools take before all keys; empty if there is none."""
        given = (self.credential() or "").strip()
        if not given and self.may_use_ambient_key:
            given = os.environ.get(_API_KEY_VARIABLE, "").strip()
        return given
