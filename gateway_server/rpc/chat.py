"""ChatService as the gRPC front door serves it."""

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    CountTokensRequest,
    CountTokensResponse,
    CreateChatCompletionRequest,
    ExplainRouteRequest,
    ExplainRouteResponse,
)
from gateway_server.call import CallContext
from gateway_server.pipeline.chat import ChatPipeline
from gateway_server.pipeline.count import CountPipeline
from gateway_server.pipeline.explain import Explainer
from gateway_server.rpc.interceptors import Emit


class ChatServicer:
    """Hands chat calls to the pipeline."""

    def __init__(self, pipeline: ChatPipeline, counts: CountPipeline, explainer: Explainer) -> None:
        self._pipeline = pipeline
        self._counts = counts
        self._explainer = explainer

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

    async def ExplainRoute(self, request: ExplainRouteRequest, call: CallContext) -> ExplainRouteResponse:
        """Who would be asked, and why others would not."""
        return self._explainer.explain(request, call)
