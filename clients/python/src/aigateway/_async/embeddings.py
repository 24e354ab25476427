"""Vectors for text and other content."""

from collections.abc import Iterable, Mapping

from aigateway._async.connection import AsyncConnection
from aigateway.options import EmbeddingSource, ProviderOptions, embeddings_request
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsResponse, EmbeddingEncoding, EmbeddingTask
from aigateway.v1.routing_pb2 import GatewayOptions


class AsyncEmbeddings:
    """``client.embeddings``."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        model: str,
        inputs: EmbeddingSource | Iterable[EmbeddingSource],
        *,
        dimensions: int | None = None,
        task: "EmbeddingTask.ValueType" = EmbeddingTask.EMBEDDING_TASK_UNSPECIFIED,
        encoding: "EmbeddingEncoding.ValueType" = EmbeddingEncoding.EMBEDDING_ENCODING_UNSPECIFIED,
        gateway_options: GatewayOptions | None = None,
        provider_options: ProviderOptions | None = None,
        end_user_id: str = "",
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> CreateEmbeddingsResponse:
        """Returns one embedding for each input, in order."""
        request = embeddings_request(
            model,
            inputs,
            dimensions=dimensions,
            task=task,
            encoding=encoding,
            gateway_options=gateway_options,
            provider_options=provider_options,
            end_user_id=end_user_id,
            labels=labels,
        )
        return await self._connection.call(
            self._connection.stubs.embeddings.CreateEmbeddings, request, timeout=timeout, metadata=metadata
        )
