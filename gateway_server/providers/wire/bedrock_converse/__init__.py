"""The Converse format of AWS Bedrock: one file for each direction.

``request`` and its helpers ``turns``, ``assistant``, ``tools`` and ``reasoning`` write what is sent;
``answer`` reads a whole answer and ``stream`` a streamed one, both with ``fields``; ``frames`` cuts a stream;
``citations`` goes both ways; ``models`` says in what the models' makers differ.
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
from gateway_server.errors import GatewayError, feature_not_supported
from gateway_server.providers.base import Target
from gateway_server.providers.wire.bedrock_converse import errors
from gateway_server.providers.wire.bedrock_converse.answer import parse_chat, parse_count
from gateway_server.providers.wire.bedrock_converse.context import PROVIDER_TYPE
from gateway_server.providers.wire.bedrock_converse.media import wants_bytes
from gateway_server.providers.wire.bedrock_converse.models import traits_of
from gateway_server.providers.wire.bedrock_converse.request import render_chat, render_count
from gateway_server.providers.wire.bedrock_converse.stream import BedrockChatStream

__all__ = ["PROVIDER_TYPE", "BedrockConverseFormat"]


@dataclass(frozen=True, slots=True)
class BedrockConverseFormat:
    """Implements ChatFormat and CountTokensFormat."""

    def wants_bytes(self, part: ContentPart, target: Target, *, in_result: bool) -> bool:
        """As in MediaFormat."""
        return wants_bytes(part, in_result=in_result)

    def render_chat(self, request: CreateChatCompletionRequest, target: Target, *, stream: bool) -> bytes:
        """As in ChatFormat. Whether the answer is streamed is told by the path alone."""
        return render_chat(request, target)

    def parse_chat(self, body: bytes, target: Target) -> ChatCompletion:
        """As in ChatFormat."""
        return parse_chat(body, target)

    def chat_stream(self, target: Target) -> BedrockChatStream:
        """As in ChatFormat."""
        return BedrockChatStream(target)

    def counts(self, target: Target) -> bool:
        """As in CountTokensFormat."""
        return traits_of(target.provider_model).counts

    def render_count(self, request: CountTokensRequest, target: Target) -> bytes:
        """As in CountTokensFormat."""
        return render_count(request, target)

    def parse_count(self, body: bytes, target: Target) -> CountTokensResponse:
        """As in CountTokensFormat."""
        return parse_count(body, target)

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ChatFormat and CountTokensFormat."""
        if errors.is_not_counted(status, body):
            return feature_not_supported("counting tokens", model=target.label)
        return errors.parse_error(status, headers, body, target.provider)
