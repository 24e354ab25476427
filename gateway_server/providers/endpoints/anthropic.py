"""Anthropic, and companies that serve its Messages API unchanged at another address."""

from dataclasses import dataclass, field
from typing import Final

import httpx

from gateway_server.errors import feature_not_supported, invalid_request
from gateway_server.providers.base import (
    NO_OPTIONS,
    Credential,
    HttpCall,
    ProviderConfig,
    ProviderOptions,
    Target,
)
from gateway_server.providers.config import ConfigReader, is_header_value, read_base_url
from gateway_server.providers.endpoints.api_key import require_api_key
from gateway_server.providers.endpoints.openai_compatible import (
    EVENT_HEADERS,
    JSON_HEADERS,
    Header,
    read_model_list,
)
from gateway_server.providers.wire.anthropic_messages import BETAS, PROVIDER_TYPE, AnthropicMessagesFormat

__all__ = ["PROVIDER_TYPE", "AnthropicEndpoint", "build"]

_DEFAULT_VERSION: Final = "2023-06-01"
#: As many as one page of the list may hold.
_MODELS: Final = b"/models?limit=1000"


def build(base_url: str, credential: Credential, config: ProviderConfig) -> "AnthropicEndpoint":
    """Settings: ``version``, the API version to speak; ``betas``, names of betas for all requests.

    Callers name further betas in ``provider_options["anthropic"]["betas"]``.
    """
    settings = ConfigReader(config)
    version = settings.header_value("version") or _DEFAULT_VERSION
    betas = settings.header_values("betas")
    settings.finish()
    return AnthropicEndpoint(
        base_url=read_base_url(base_url, default="https://api.anthropic.com/v1"),
        credential=credential,
        version=version,
        betas=betas,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicEndpoint:
    """Paths below a base URL, a key, a version and betas; implements Endpoint and CountTokensEndpoint."""

    base_url: httpx.URL
    credential: Credential = field(repr=False)
    version: str = _DEFAULT_VERSION
    betas: tuple[str, ...] = ()
    chat_format: AnthropicMessagesFormat = field(init=False, default=AnthropicMessagesFormat())
    embeddings_format: None = field(init=False, default=None)
    _messages_url: httpx.URL = field(init=False, repr=False)
    _count_url: httpx.URL = field(init=False, repr=False)
    _models_url: httpx.URL = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made once: the transport knows a prepared URL by its identity.
        for name, path in (
            ("_messages_url", b"/messages"),
            ("_count_url", b"/messages/count_tokens"),
            ("_models_url", _MODELS),
        ):
            url = self.base_url.copy_with(raw_path=self.base_url.raw_path + path)
            object.__setattr__(self, name, url)

    @property
    def count_format(self) -> AnthropicMessagesFormat:
        """As in CountTokensEndpoint."""
        return self.chat_format

    def chat_call(
        self, target: Target, body: bytes, *, stream: bool, options: ProviderOptions = NO_OPTIONS
    ) -> HttpCall:
        """As in Endpoint."""
        headers = EVENT_HEADERS if stream else JSON_HEADERS
        return HttpCall(self._messages_url, self._headers(headers, target.provider, options), body)

    def count_call(self, target: Target, body: bytes, *, options: ProviderOptions = NO_OPTIONS) -> HttpCall:
        """As in CountTokensEndpoint."""
        return HttpCall(self._count_url, self._headers(JSON_HEADERS, target.provider, options), body)

    def embeddings_call(self, target: Target, body: bytes) -> HttpCall:
        """As in Endpoint; the provider makes none, as embeddings_format says."""
        raise feature_not_supported("embeddings", model=target.label)

    def check_call(self) -> HttpCall:
        """As in Endpoint: the list of models."""
        return HttpCall(self._models_url, self._headers(JSON_HEADERS[1:], "", NO_OPTIONS), b"", method="GET")

    def parse_check(self, body: bytes) -> list[str]:
        """As in Endpoint."""
        return read_model_list(body)

    def _headers(self, headers: tuple[Header, ...], provider: str, options: ProviderOptions) -> list[Header]:
        rendered = [
            *headers,
            (b"x-api-key", require_api_key(self.credential, provider)),
            (b"anthropic-version", self.version.encode()),
        ]
        betas = self.betas
        if PROVIDER_TYPE in options:
            betas = tuple(dict.fromkeys(betas + _read_betas(options)))
        if betas:
            rendered.append((b"anthropic-beta", ",".join(betas).encode()))
        return rendered


def _read_betas(options: ProviderOptions) -> tuple[str, ...]:
    """The betas that a caller names, as a list or as one text."""
    value = options[PROVIDER_TYPE].fields.get(BETAS)
    if value is None:
        return ()
    names = value.list_value.values if value.HasField("list_value") else [value]
    betas = tuple(name.string_value for name in names)
    if not all(is_header_value(beta) and "," not in beta for beta in betas):
        path = f'provider_options["{PROVIDER_TYPE}"].{BETAS}'
        raise invalid_request(path, "is not a list of names of betas")
    return betas
