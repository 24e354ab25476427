"""The chat format of OpenAI, Azure, vLLM and many others: one file for each direction.

``request`` and its helpers ``messages`` and ``tools`` write what is sent; ``answer`` reads a whole answer and
``stream`` a streamed one, both with ``fields``; ``dialect`` says in what servers differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aigateway.v1.chat_service_pb2 import ChatCompletion, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Target
from gateway_server.providers.wire import openai_errors
from gateway_server.providers.wire.openai_chat.answer import parse_chat
from gateway_server.providers.wire.openai_chat.dialect import Dialect
from gateway_server.providers.wire.openai_chat.media import wants_bytes
from gateway_server.providers.wire.openai_chat.request import render_chat
from gateway_server.providers.wire.openai_chat.stream import OpenAIChatStream

__all__ = ["Dialect", "OpenAIChatFormat"]


@dataclass(frozen=True, slots=True)
class OpenAIChatFormat:
    """The format as one kind of server speaks it; implements ChatFormat."""

    dialect: Dialect

    def wants_bytes(self, part: ContentPart, target: Target, *, in_result: bool) -> bool:
        """As in MediaFormat."""
        return wants_bytes(part, self.dialect, in_result=in_result)

    def render_chat(self, request: CreateChatCompletionRequest, target: Target, *, stream: bool) -> bytes:
        """As in ChatFormat."""
        return render_chat(request, target, dialect=self.dialect, stream=stream)

    def parse_chat(self, body: bytes, target: Target) -> ChatCompletion:
        """As in ChatFormat."""
        return parse_chat(body, target)

    def chat_stream(self, target: Target) -> OpenAIChatStream:
        """As in ChatFormat."""
        return OpenAIChatStream(target)

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ChatFormat."""
        return openai_errors.parse_error(status, headers, body, target.provider)
