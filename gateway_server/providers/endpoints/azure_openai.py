"""Azure OpenAI and Azure AI Foundry: three surfaces for one format, API keys and Entra tokens."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

import httpx

from gateway_server.errors import invalid_request
from gateway_server.providers.base import (
    NO_OPTIONS,
    Credential,
    HttpCall,
    ProviderConfig,
    ProviderOptions,
    Target,
)
from gateway_server.providers.config import ConfigReader, read_base_url
from gateway_server.providers.endpoints.api_key import require_api_key
from gateway_server.providers.endpoints.openai_compatible import (
    EVENT_HEADERS,
    JSON_HEADERS,
    Header,
    read_model_list,
)
from gateway_server.providers.endpoints.paths import path_segment
from gateway_server.providers.kept_fresh import KeptFresh, share
from gateway_server.providers.tokens import run_token_command
from gateway_server.providers.wire.openai_chat import Dialect, OpenAIChatFormat
from gateway_server.providers.wire.openai_embeddings import OpenAIEmbeddingsFormat

PROVIDER_TYPE = "azure_openai"

Surface = Literal["v1", "deployments", "models"]
Auth = Literal["api_key", "entra"]

_SURFACES: Final[tuple[Surface, ...]] = ("v1", "deployments", "models")
_AUTHS: Final[tuple[Auth, ...]] = ("api_key", "entra")
_REASONING_KEYS: Final[tuple[Literal["none", "reasoning_content", "reasoning"], ...]] = (
    "none",
    "reasoning_content",
    "reasoning",
)
#: OpenAI's name first, then the one that all others know.
_OUTPUT_LIMIT_KEYS: Final[tuple[Literal["max_completion_tokens", "max_tokens"], ...]] = (
    "max_completion_tokens",
    "max_tokens",
)
_DEVELOPER_ROLES: Final[tuple[Literal["developer", "system"], ...]] = ("developer", "system")

#: The API version of each surface unless one is set; the first needs none.
_API_VERSIONS: Final[dict[Surface, str]] = {
    "v1": "",
    "deployments": "2024-10-21",
    "models": "2024-05-01-preview",
}
_PREFIXES: Final[dict[Surface, str]] = {
    "v1": "/openai/v1",
    "deployments": "/openai/deployments",
    "models": "/models",
}
_API_VERSION: Final = re.compile(r"[A-Za-z0-9._-]*", re.ASCII)
#: What people copy from the portal behind the address of the resource.
_COPIED_PATH: Final = re.compile(rb"/(openai(/v1)?|models)\Z")
#: Only variables made for it may be run as commands: a name comes over the network, what it holds does not.
_COMMAND_VARIABLE: Final = re.compile(r"[A-Z0-9_]*TOKEN_COMMAND", re.ASCII)
_PREPARE_SECONDS: Final = 20.0


def build(base_url: str, credential: Credential, config: ProviderConfig) -> "AzureOpenAIEndpoint":
    """Needs the address of the resource, ``https://NAME.openai.azure.com``.

    Settings: ``surface``, where the model is named: ``v1`` (in the body), ``deployments`` (in the path) or
    ``models`` (Foundry's, also with models of others); ``api_version``; ``auth``, ``api_key`` or ``entra``;
    ``token_command``, the variable of the environment whose command prints an Entra token, without which
    the credential is the token; ``output_limit_key``, ``developer_role``, ``reasoning_key`` and
    ``stream_options`` as for ``vllm``.
    """
    settings = ConfigReader(config)
    surface = settings.choice("surface", _SURFACES)
    api_version = settings.header_value("api_version") or _API_VERSIONS[surface]
    if not _API_VERSION.fullmatch(api_version):
        raise invalid_request("provider.config.api_version", "is not an API version")
    auth = settings.choice("auth", _AUTHS)
    dialect = _read_dialect(settings, surface)
    token = _read_token_command(settings.header_value("token_command"), auth)
    settings.finish()
    url = read_base_url(base_url, default_path=b"/")
    return AzureOpenAIEndpoint(
        chat_format=OpenAIChatFormat(dialect),
        embeddings_format=OpenAIEmbeddingsFormat(PROVIDER_TYPE),
        base_url=url.copy_with(raw_path=_COPIED_PATH.sub(b"", url.raw_path) or b"/"),
        surface=surface,
        api_version=api_version,
        auth=auth,
        credential=credential if token is None else token.get,
        token=token,
    )


def _read_dialect(settings: ConfigReader, surface: Surface) -> Dialect:
    """Foundry's own surface is a smaller API for many models; the other two follow OpenAI's at a distance."""
    is_openai = surface != "models"
    order = 1 if is_openai else -1
    reasoning_key = settings.choice("reasoning_key", _REASONING_KEYS)
    return Dialect(
        provider_type=PROVIDER_TYPE,
        output_limit_key=settings.choice("output_limit_key", _OUTPUT_LIMIT_KEYS[::order]),
        end_user_key="user",
        developer_role=settings.choice("developer_role", _DEVELOPER_ROLES[::order]),
        reasoning_key=None if reasoning_key == "none" else reasoning_key,
        stream_options=settings.flag("stream_options", default=True),
        free_form_tools=is_openai,
        allowed_tools=is_openai,
        web_search=False,
        documents=is_openai,
        audio_output=is_openai,
        storage=is_openai,
    )


def _read_token_command(variable: str, auth: Auth) -> KeptFresh[str] | None:
    if not variable:
        return None
    if auth != "entra":
        raise invalid_request("provider.config.token_command", 'goes with auth "entra" only')
    if not _COMMAND_VARIABLE.fullmatch(variable):
        raise invalid_request(
            "provider.config.token_command", "is not a name of a variable that ends in TOKEN_COMMAND"
        )
    return share(("token_command", variable), lambda: run_token_command(variable))


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureOpenAIEndpoint:
    """A resource, asked by way of one surface; implements PreparedEndpoint."""

    chat_format: OpenAIChatFormat
    embeddings_format: OpenAIEmbeddingsFormat
    base_url: httpx.URL
    surface: Surface
    api_version: str
    auth: Auth
    credential: Credential = field(repr=False)
    token: KeptFresh[str] | None = field(repr=False)
    #: By path: the transport knows a prepared URL by its identity, so each is made once.
    _urls: dict[tuple[str, str], httpx.URL] = field(init=False, repr=False, default_factory=dict)

    def prepare(self) -> None:
        """As in PreparedEndpoint: fetches the first token."""
        if self.token is not None:
            self.token.start(timeout=_PREPARE_SECONDS)

    def chat_call(
        self, target: Target, body: bytes, *, stream: bool, options: ProviderOptions = NO_OPTIONS
    ) -> HttpCall:
        """As in Endpoint."""
        url = self._url(target.provider_model, "chat/completions")
        return HttpCall(url, self._headers(EVENT_HEADERS if stream else JSON_HEADERS, target.provider), body)

    def embeddings_call(self, target: Target, body: bytes) -> HttpCall:
        """As in Endpoint."""
        url = self._url(target.provider_model, "embeddings")
        return HttpCall(url, self._headers(JSON_HEADERS, target.provider), body)

    def check_call(self) -> HttpCall:
        """As in Endpoint: the models that the resource can deploy; only the portal lists what it has."""
        is_old = self.surface == "deployments"
        path = "/openai/models" if is_old else "/openai/v1/models"
        url = self._below(path, self.api_version if is_old else "")
        return HttpCall(url, self._headers(JSON_HEADERS[1:], ""), b"", method="GET")

    def parse_check(self, body: bytes) -> list[str]:
        """As in Endpoint."""
        return read_model_list(body)

    def _url(self, model: str, operation: str) -> httpx.URL:
        key = (model if self.surface == "deployments" else "", operation)
        url = self._urls.get(key)
        if url is None:
            prefix = _PREFIXES[self.surface]
            if self.surface == "deployments":
                prefix += f"/{path_segment(model)}"
            url = self._urls[key] = self._below(f"{prefix}/{operation}", self.api_version)
        return url

    def _below(self, path: str, api_version: str) -> httpx.URL:
        query = f"?api-version={api_version}" if api_version else ""
        raw_path = self.base_url.raw_path.rstrip(b"/") + (path + query).encode()
        return self.base_url.copy_with(raw_path=raw_path)

    def _headers(self, headers: tuple[Header, ...], provider: str) -> list[Header]:
        key = require_api_key(self.credential, provider)
        if self.auth == "entra":
            return [*headers, (b"authorization", b"Bearer " + key)]
        return [*headers, (b"api-key", key)]
