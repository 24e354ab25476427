"""The Messages format of Anthropic: one file for each direction.

``request`` and its helpers ``turns``, ``assistant``, ``tools`` and ``reasoning`` write what is sent;
``answer`` reads a whole answer and ``stream`` a streamed one, both with ``fields``; ``citations`` goes both
ways; ``models`` says in what the models' generations differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    CountTokensRequest,
    CountTokensResponse,
    CreateChatCompletionRequest,
)
from aigateway.v1.content_pb2 import ContentPart
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages import errors
from gateway_server.providers.wire.anthropic_messages.answer import parse_chat, parse_count
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE
from gateway_server.providers.wire.anthropic_messages.request import (
    BETAS,
    DEFAULT_MAX_TOKENS,
    render_chat,
    render_count,
)
from gateway_server.providers.wire.anthropic_messages.stream import AnthropicChatStream

__all__ = ["BETAS", "DEFAULT_MAX_TOKENS", "PROVIDER_TYPE", "AnthropicMessagesFormat"]


@dataclass(frozen=True, slots=True)
class AnthropicMessagesFormat:
    """Implements ChatFormat and CountTokensFormat."""

    def wants_bytes(self, part: ContentPart, target: Target, *, in_result: bool) -> bool:
        """As in MediaFormat: the provider fetches what it takes at all."""
        return False

    def render_chat(self, request: CreateChatCompletionRequest, target: Target, *, stream: bool) -> bytes:
        """As in ChatFormat."""
        return render_chat(request, target, stream=stream)

    def parse_chat(self, body: bytes, target: Target) -> ChatCompletion:
        """As in ChatFormat."""
        return parse_chat(body, target)

    def chat_stream(self, target: Target) -> AnthropicChatStream:
        """As in ChatFormat."""
        return AnthropicChatStream(target)

    def counts(self, target: Target) -> bool:
        """As in CountTokensFormat: all models are counted."""
        return True

    def render_count(self, request: CountTokensRequest, target: Target) -> bytes:
        """As in CountTokensFormat."""
        return render_count(request, target)

    def parse_count(self, body: bytes, target: Target) -> CountTokensResponse:
        """As in CountTokensFormat."""
        return parse_count(body, target)

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ChatFormat."""
        return errors.parse_error(status, headers, body, target.provider)
