"""What all servers that follow OpenAI's paths and authentication have in common."""

from dataclasses import dataclass, field
from typing import Final

import httpx

from gateway_server.providers.base import NO_OPTIONS, Credential, HttpCall, ProviderOptions, Target
from gateway_server.providers.endpoints.api_key import read_api_key, require_api_key
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    MalformedAnswerError,
    as_object,
    get_list,
    get_text,
    parse_object,
)
from gateway_server.providers.wire.openai_chat import OpenAIChatFormat
from gateway_server.providers.wire.openai_embeddings import OpenAIEmbeddingsFormat
from gateway_server.providers.wire.openai_moderations import OpenAIModerationFormat

Header = tuple[bytes, bytes]

JSON_HEADERS: Final = ((b"content-type", b"application/json"), (b"accept", b"application/json"))
EVENT_HEADERS: Final = ((b"content-type", b"application/json"), (b"accept", b"text/event-stream"))


def read_model_list(body: bytes) -> list[str]:
    """The ids of a list of models; raises UPSTREAM_PROTOCOL_ERROR."""
    try:
        answer = parse_object(body)
        models = get_list(answer, "data", "answer")
        names = [get_text(as_object(model, "data[]"), "id", "data[]") for model in models]
    except MalformedAnswerError as error:
        raise protocol_error("", error.cause) from error
    if "data" not in answer:  # a server of another kind, which answers everything with success
        raise protocol_error("", "answer.data is missing")
    return [name for name in names if name]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICompatibleEndpoint:
    """Paths below a base URL and a bearer token; implements Endpoint, ModerationEndpoint."""

    chat_format: OpenAIChatFormat
    embeddings_format: OpenAIEmbeddingsFormat
    base_url: httpx.URL
    credential: Credential = field(repr=False)
    moderation_format: OpenAIModerationFormat | None = None
    credential_required: bool = True
    extra_headers: tuple[Header, ...] = ()
    _chat_url: httpx.URL = field(init=False, repr=False)
    _embeddings_url: httpx.URL = field(init=False, repr=False)
    _moderations_url: httpx.URL = field(init=False, repr=False)
    _models_url: httpx.URL = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made once: the transport knows a prepared URL by its identity.
        for name, path in (
            ("_chat_url", b"/chat/completions"),
            ("_embeddings_url", b"/embeddings"),
            ("_moderations_url", b"/moderations"),
            ("_models_url", b"/models"),
        ):
            url = self.base_url.copy_with(raw_path=self.base_url.raw_path + path)
            object.__setattr__(self, name, url)

    def chat_call(
        self, target: Target, body: bytes, *, stream: bool, options: ProviderOptions = NO_OPTIONS
    ) -> HttpCall:
        """As in Endpoint."""
        headers = EVENT_HEADERS if stream else JSON_HEADERS
        return HttpCall(self._chat_url, self._headers(headers, target.provider), body)

    def embeddings_call(self, target: Target, body: bytes) -> HttpCall:
        """As in Endpoint."""
        return HttpCall(self._embeddings_url, self._headers(JSON_HEADERS, target.provider), body)

    def moderation_call(self, target: Target, body: bytes) -> HttpCall:
        """As in ModerationEndpoint."""
        return HttpCall(self._moderations_url, self._headers(JSON_HEADERS, target.provider), body)

    def check_call(self) -> HttpCall:
        """As in Endpoint: the list of models."""
        return HttpCall(self._models_url, self._headers(JSON_HEADERS[1:], ""), b"", method="GET")

    def parse_check(self, body: bytes) -> list[str]:
        """As in Endpoint."""
        return read_model_list(body)

    def _headers(self, headers: tuple[Header, ...], provider: str) -> list[Header]:
        key = (require_api_key if self.credential_required else read_api_key)(self.credential, provider)
        if key is None:
            return [*headers, *self.extra_headers]
        return [*headers, *self.extra_headers, (b"authorization", b"Bearer " + key)]
