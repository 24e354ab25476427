"""EmbeddingsService as the gRPC front door serves it."""

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from gateway_server.call import CallContext
from gateway_server.pipeline.embeddings import EmbeddingsPipeline


class EmbeddingsServicer:
    """Hands embeddings calls to the pipeline."""

    def __init__(self, pipeline: EmbeddingsPipeline) -> None:
        self._pipeline = pipeline

    async def CreateEmbeddings(
        self, request: CreateEmbeddingsRequest, call: CallContext
    ) -> CreateEmbeddingsResponse:
        """One embedding for each input, in order."""
        return await self._pipeline.create(request, call)
