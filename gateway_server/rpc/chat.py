"""ChatService as the gRPC front door serves it."""

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    CountTokensRequest,
    CountTokensResponse,
    CreateChatCompletionRequest,
)
from gateway_server.call import CallContext
from gateway_server.pipeline.chat import ChatPipeline
from gateway_server.pipeline.count import CountPipeline
from gateway_server.rpc.interceptors import Emit


class ChatServicer:
    """Hands chat calls to the pipeline."""

    def __init__(self, pipeline: ChatPipeline, counts: CountPipeline) -> None:
        self._pipeline = pipeline
        self._counts = counts

    async def CreateChatCompletion(
        self, request: CreateChatCompletionRequest, call: CallContext
    ) -> ChatCompletion:
        """The whole answer."""
        return await self._pipeline.complete(request, call)

    async def StreamChatCompletion(
        self, request: CreateChatCompletionRequest, call: CallContext, emit: Emit
    ) -> None:
        """The answer while it is being written."""
        await self._pipeline.stream(request, call, emit)

    async def CountTokens(self, request: CountTokensRequest, call: CallContext) -> CountTokensResponse:
        """The input tokens of a conversation."""
        return await self._counts.count(request, call)
