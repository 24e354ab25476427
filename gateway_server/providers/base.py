"""The seams between the pipeline, the providers and their wire formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import httpx
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    CountTokensRequest,
    CountTokensResponse,
    CreateChatCompletionRequest,
)
from aigateway.v1.content_pb2 import ContentPart
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.errors import GatewayError

#: Settings of a provider beyond URL and credential, as an administrator wrote them.
ProviderConfig = Mapping[str, Any]

#: A caller's options for single types of providers, by type: ``provider_options`` of a request.
ProviderOptions = Mapping[str, Struct]

NO_OPTIONS: Final[ProviderOptions] = MappingProxyType({})
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

#: Gives a provider's secret at the moment of use, or None. A function, so that no repr can show it. Never
#: blocks; raises SecretUnavailableError, or a GatewayError, when there should be one and is none.
Credential = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider, with all that rendering a request for it needs."""

    provider_id: str
    provider_type: str
    provider_model: str
    model: Model

    @property
    def provider(self) -> str:
        """``providers/{provider}``."""
        return f"providers/{self.provider_id}"

    @property
    def label(self) -> str:
        """``provider/model``, as people and error messages name it."""
        return f"{self.provider_id}/{self.provider_model}"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """What an endpoint wants sent. The body is set by a wire format, the rest by the endpoint.

    Its repr leaves out headers and body, which hold a credential and a prompt.
    """

    url: httpx.URL
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    method: str = "POST"


class ChatStreamParser(Protocol):
    """Turns the bytes of one streamed answer into events, whatever the cuts between the pieces.

    Emits exactly one ``start`` first, parts numbered from 0 with rising indices per choice, and one
    ``end`` last. ``start`` holds ``served_by.provider_response_id`` and ``provider_model``, ``end``
    holds ``usage`` when the provider reported it and ``provider_metadata``; the pipeline adds the rest.
    Raises GatewayError when the provider's words cannot be read or report a failure.
    """

    @property
    def usage(self) -> TokenUsage | None:
        """The last usage reported so far, for settling a stream that is cut off."""
        ...

    @property
    def has_content(self) -> bool:
        """Whether any event besides ``start`` has been given out."""
        ...

    def feed(self, data: bytes) -> list[ChatEvent]:
        """Takes the next bytes of the body and gives the events that they complete.

        Those before a failure are given first; the next call, ``feed(b"")`` will do, raises it.
        """
        ...

    def close(self) -> list[ChatEvent]:
        """Takes the proper end of the body; raises when the answer is not complete.

        When events are given first and ``end`` is not the last of them, calling it again raises.
        """
        ...


class MediaFormat(Protocol):
    """How one family of providers takes media."""

    def wants_bytes(self, part: ContentPart, target: Target, *, in_result: bool) -> bool:
        """Whether media that a part has by address could be sent, but as bytes only.

        False where the address itself can be sent, and where media of the kind cannot be sent at all, so
        that nothing is fetched in vain. ``in_result`` is for parts that a tool returned.
        """
        ...


class ChatFormat(MediaFormat, Protocol):
    """How one family of providers writes chat: pure functions, no I/O."""

    def render_chat(self, request: CreateChatCompletionRequest, target: Target, *, stream: bool) -> bytes:
        """The body to send; raises FEATURE_NOT_SUPPORTED for what the format cannot say."""
        ...

    def parse_chat(self, body: bytes, target: Target) -> ChatCompletion:
        """The answer: choices, usage when reported, served_by (without provider), provider_metadata."""
        ...

    def chat_stream(self, target: Target) -> ChatStreamParser:
        """A parser for one streamed answer."""
        ...

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """The failure that a response with an HTTP error status stands for; header names in lower case."""
        ...


class EmbeddingsFormat(Protocol):
    """How one family of providers writes embeddings: pure functions, no I/O."""

    def most_inputs(self, target: Target) -> int | None:
        """How many inputs one body may hold; None for as many as a request may have.

        More inputs than that are sent in several requests: see ``pipeline/embeddings_batch.py``.
        """
        ...

    def render_embeddings(
        self, request: CreateEmbeddingsRequest, target: Target, *, first_input: int = 0
    ) -> bytes:
        """The body to send; raises FEATURE_NOT_SUPPORTED for what the format cannot say.

        ``first_input`` is the place of its first input among all that the caller gave, for faults to name.
        """
        ...

    def parse_embeddings(
        self,
        body: bytes,
        request: CreateEmbeddingsRequest,
        target: Target,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> CreateEmbeddingsResponse:
        """The answer: embeddings in order of input, usage when reported, served_by (without provider).

        ``headers`` are for what a provider tells of the usage there; names in lower case.
        """
        ...

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ChatFormat."""
        ...


class CountTokensFormat(MediaFormat, Protocol):
    """How one family of providers counts the tokens of a conversation: pure functions, no I/O."""

    def counts(self, target: Target) -> bool:
        """Whether the model's tokens are counted, as far as its name tells; if not, the gateway estimates."""
        ...

    def render_count(self, request: CountTokensRequest, target: Target) -> bytes:
        """The body to send; raises FEATURE_NOT_SUPPORTED for what the format cannot say."""
        ...

    def parse_count(self, body: bytes, target: Target) -> CountTokensResponse:
        """The count, with the model in served_by (without provider)."""
        ...

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ChatFormat.

        FEATURE_NOT_SUPPORTED when the provider answers that it does not count for this model.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModerationVerdict:
    """What a provider says of a text, by the gateway's categories; those that it did not judge are left out.

    ``scores`` tells how harmful the text is, from 0 to 1, and ``flags`` whether that is too much for the
    provider. ``is_flagged`` tells that something is, which may be no category of the gateway.
    """

    scores: Mapping[str, float]
    flags: Mapping[str, bool]
    is_flagged: bool


class ModerationFormat(Protocol):
    """How one family of providers judges texts: pure functions, no I/O."""

    def render_moderation(self, texts: Sequence[str], target: Target) -> bytes:
        """The body to send."""
        ...

    def parse_moderation(self, body: bytes, texts: int, target: Target) -> list[ModerationVerdict]:
        """What is said of each of so many texts, in order; raises UPSTREAM_PROTOCOL_ERROR."""
        ...

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ChatFormat."""
        ...


class Endpoint(Protocol):
    """A configured provider: where it is, how it is signed, and which formats it speaks."""

    @property
    def chat_format(self) -> ChatFormat | None:
        """Its format for chat, if it serves chat."""
        ...

    @property
    def embeddings_format(self) -> EmbeddingsFormat | None:
        """Its format for embeddings, if it serves them."""
        ...

    def chat_call(
        self, target: Target, body: bytes, *, stream: bool, options: ProviderOptions = NO_OPTIONS
    ) -> HttpCall:
        """The request for a chat completion.

        ``options`` are for what a provider takes as a header: those for the body are in it already.
        """
        ...

    def embeddings_call(self, target: Target, body: bytes) -> HttpCall:
        """The request for embeddings."""
        ...

    def check_call(self) -> HttpCall:
        """A cheap request that shows whether address and credential work: usually the list of models."""
        ...

    def parse_check(self, body: bytes) -> list[str]:
        """The provider's names of its models, from the answer to ``check_call``."""
        ...


@runtime_checkable
class CountTokensEndpoint(Endpoint, Protocol):
    """An endpoint whose provider counts tokens; for the others the gateway estimates."""

    @property
    def count_format(self) -> CountTokensFormat:
        """Its format for counts."""
        ...

    def count_call(self, target: Target, body: bytes, *, options: ProviderOptions = NO_OPTIONS) -> HttpCall:
        """The request for a count; ``options`` as for ``chat_call``."""
        ...


@runtime_checkable
class ModerationEndpoint(Endpoint, Protocol):
    """An endpoint whose provider may judge texts."""

    @property
    def moderation_format(self) -> ModerationFormat | None:
        """Its format for that, if it does."""
        ...

    def moderation_call(self, target: Target, body: bytes) -> HttpCall:
        """The request for verdicts on texts."""
        ...


@runtime_checkable
class PreparedEndpoint(Protocol):
    """Beside Endpoint: one that gets something before it can be called, such as a token that expires."""

    def prepare(self) -> None:
        """Gets it, for at most some seconds, and keeps it fresh from then on. Blocks: called in a thread.

        Raises nothing when it cannot be had: that is told by the calls that need it.
        """
        ...


#: Makes the endpoint of a configured provider; raises GatewayError when its settings cannot be used.
BuildEndpoint = Callable[[Provider], Endpoint]
