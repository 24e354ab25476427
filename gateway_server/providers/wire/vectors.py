"""What formats for embeddings have in common: one vector for each input, as many numbers as asked for."""

from typing import Any, Final

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingEncoding, FloatVector
from gateway_server.errors import feature_not_supported
from gateway_server.providers.base import Target
from gateway_server.providers.wire.json_values import MalformedAnswerError

_FLOAT_ENCODINGS: Final = frozenset(
    {EmbeddingEncoding.EMBEDDING_ENCODING_UNSPECIFIED, EmbeddingEncoding.EMBEDDING_ENCODING_FLOAT}
)


def require_floats(request: CreateEmbeddingsRequest, target: Target) -> None:
    """Refuses numbers of other formats."""
    if request.encoding not in _FLOAT_ENCODINGS:
        raise feature_not_supported("embeddings other than floats", model=target.label)


def require_one_each(embeddings: list[Any], request: CreateEmbeddingsRequest) -> None:
    """Raises MalformedAnswerError unless there are as many embeddings as inputs."""
    if len(embeddings) != len(request.inputs):
        raise MalformedAnswerError(
            f"the answer holds {len(embeddings)} embeddings for {len(request.inputs)} inputs"
        )


def require_dimensions(lengths: set[int], request: CreateEmbeddingsRequest) -> None:
    """Raises MalformedAnswerError unless all vectors have the dimensions that were asked for, if any were."""
    if request.HasField("dimensions") and lengths - {request.dimensions}:
        raise MalformedAnswerError("the embeddings do not have the dimensions that were asked for")


def read_numbers(values: object, where: str) -> FloatVector:
    """A vector that is a list of numbers."""
    if type(values) is not list or not values:
        raise MalformedAnswerError(f"{where} is not a vector")
    try:
        return FloatVector(values=values)
    except (TypeError, ValueError) as error:
        raise MalformedAnswerError(f"{where} holds something that is not a number") from error
