"""The format of Google's Gemini API: one file for each direction.

``request`` and its helpers ``turns``, ``results``, ``media``, ``tools`` and ``reasoning`` write what is sent;
``answer`` reads a whole answer and ``stream`` a streamed one, with ``parts``, ``fields`` and ``grounding``.
``models`` says in what models differ, ``marks`` how ids and signatures are known when they return.
"""

from collections.abc import Mapping

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    CountTokensRequest,
    CountTokensResponse,
    CreateChatCompletionRequest,
)
from aigateway.v1.content_pb2 import ContentPart
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Target
from gateway_server.providers.wire import gemini_errors
from gateway_server.providers.wire.gemini.answer import parse_chat, parse_count
from gateway_server.providers.wire.gemini.media import wants_bytes
from gateway_server.providers.wire.gemini.models import traits_of
from gateway_server.providers.wire.gemini.request import render_chat, render_count
from gateway_server.providers.wire.gemini.stream import GeminiStream

__all__ = ["GeminiFormat"]


class GeminiFormat:
    """The format; implements ChatFormat and CountTokensFormat."""

    def wants_bytes(self, part: ContentPart, target: Target, *, in_result: bool) -> bool:
        """As in MediaFormat."""
        if in_result and not traits_of(target.provider_model).media_in_results:
            return False
        return wants_bytes(part)

    def render_chat(self, request: CreateChatCompletionRequest, target: Target, *, stream: bool) -> bytes:
        """As in ChatFormat. Whether it is a stream stands in the address alone."""
        return render_chat(request, target)

    def parse_chat(self, body: bytes, target: Target) -> ChatCompletion:
        """As in ChatFormat."""
        return parse_chat(body, target)

    def chat_stream(self, target: Target) -> GeminiStream:
        """As in ChatFormat."""
        return GeminiStream(target)

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
        return gemini_errors.parse_error(status, headers, body, target.provider)
