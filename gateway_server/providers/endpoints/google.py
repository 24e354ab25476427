"""Google's Gemini API, and gateways that pass it on unchanged at another address."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import httpx

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
from gateway_server.providers.endpoints.openai_compatible import EVENT_HEADERS, JSON_HEADERS, Header
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.gemini import GeminiFormat
from gateway_server.providers.wire.gemini.models import resource_name
from gateway_server.providers.wire.gemini_embeddings import GeminiEmbeddingsFormat
from gateway_server.providers.wire.json_values import (
    MalformedAnswerError,
    as_object,
    get_list,
    get_text,
    parse_object,
)

PROVIDER_TYPE = "google"

#: Models that are not in the catalog any more keep their URLs until so many have gathered.
_MAX_URLS: Final = 1024
#: As many as one page of the list may hold.
_MODELS: Final = b"/models?pageSize=1000"


def build(base_url: str, credential: Credential, config: ProviderConfig) -> "GoogleEndpoint":
    """Has no settings; the version of the API is part of the base URL."""
    ConfigReader(config).finish()
    default = "https://generativelanguage.googleapis.com/v1beta"
    return GoogleEndpoint(
        base_url=read_base_url(base_url, default=default, default_path=b"/v1beta"), credential=credential
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleEndpoint:
    """Paths below a base URL, one for each model and method, and a key; implements CountTokensEndpoint."""

    base_url: httpx.URL
    credential: Credential = field(repr=False)
    chat_format: GeminiFormat = field(init=False, default=GeminiFormat())
    embeddings_format: GeminiEmbeddingsFormat = field(init=False, default=GeminiEmbeddingsFormat())
    _models_url: httpx.URL = field(init=False, repr=False)
    #: Made once for each model and method: the transport knows a prepared URL by its identity.
    _urls: dict[tuple[str, str], httpx.URL] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        url = self.base_url.copy_with(raw_path=self.base_url.raw_path + _MODELS)
        object.__setattr__(self, "_models_url", url)

    @property
    def count_format(self) -> GeminiFormat:
        """As in CountTokensEndpoint."""
        return self.chat_format

    def chat_call(
        self, target: Target, body: bytes, *, stream: bool, options: ProviderOptions = NO_OPTIONS
    ) -> HttpCall:
        """As in Endpoint. Without ``alt=sse`` a stream would be one long JSON list."""
        if stream:
            return self._call(target, "streamGenerateContent?alt=sse", EVENT_HEADERS, body)
        return self._call(target, "generateContent", JSON_HEADERS, body)

    def count_call(self, target: Target, body: bytes, *, options: ProviderOptions = NO_OPTIONS) -> HttpCall:
        """As in CountTokensEndpoint."""
        return self._call(target, "countTokens", JSON_HEADERS, body)

    def embeddings_call(self, target: Target, body: bytes) -> HttpCall:
        """As in Endpoint."""
        return self._call(target, "batchEmbedContents", JSON_HEADERS, body)

    def check_call(self) -> HttpCall:
        """As in Endpoint: the list of models."""
        return HttpCall(self._models_url, self._headers(JSON_HEADERS[1:], ""), b"", method="GET")

    def parse_check(self, body: bytes) -> list[str]:
        """As in Endpoint: the names without their collection, as people write them."""
        try:
            models = get_list(parse_object(body), "models", "answer")
            names = [get_text(as_object(model, "models[]"), "name", "models[]") for model in models]
        except MalformedAnswerError as error:
            raise protocol_error("", error.cause) from error
        return [name.removeprefix("models/") for name in names if name]

    def _call(self, target: Target, method: str, headers: tuple[Header, ...], body: bytes) -> HttpCall:
        url = self._urls.get((target.provider_model, method))
        if url is None:
            url = self._make_url(target.provider_model, method)
        return HttpCall(url, self._headers(headers, target.provider), body)

    def _make_url(self, model: str, method: str) -> httpx.URL:
        collection, _, name = resource_name(model).partition("/")
        # Whatever is in a name, it stays one segment of the path.
        path = f"/{collection}/{quote(name, safe='')}:{method}"
        url = self.base_url.copy_with(raw_path=self.base_url.raw_path + path.encode("ascii"))
        if len(self._urls) >= _MAX_URLS:
            self._urls.clear()
        self._urls[model, method] = url
        return url

    def _headers(self, headers: tuple[Header, ...], provider: str) -> list[Header]:
        return [*headers, (b"x-goog-api-key", require_api_key(self.credential, provider))]
