"""The embeddings format of Google's Gemini API: one batch of requests, one vector for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from aigateway.v1.embeddings_service_pb2 import (
    CreateEmbeddingsRequest,
    CreateEmbeddingsResponse,
    EmbeddingEncoding,
    EmbeddingInput,
    EmbeddingTask,
    FloatVector,
)
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire import gemini_errors
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.gemini.answer import parse_answer
from gateway_server.providers.wire.gemini.blocks import render_input
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.gemini.fields import read_usage, read_usage_extras
from gateway_server.providers.wire.gemini.models import resource_name, traits_of
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_object,
    to_struct,
)
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.rendering import Block

#: The most requests in one batch.
_MAX_INPUTS: Final = 100

#: What provider_options may not set in each request of the batch, and the field that does.
_RESERVED: Final = {
    "model": "model",
    "content": "inputs",
    "outputDimensionality": "dimensions",
    "output_dimensionality": "dimensions",
}
_TASKS: Final = {
    EmbeddingTask.EMBEDDING_TASK_QUERY: "RETRIEVAL_QUERY",
    EmbeddingTask.EMBEDDING_TASK_DOCUMENT: "RETRIEVAL_DOCUMENT",
    EmbeddingTask.EMBEDDING_TASK_SIMILARITY: "SEMANTIC_SIMILARITY",
    EmbeddingTask.EMBEDDING_TASK_CLASSIFICATION: "CLASSIFICATION",
    EmbeddingTask.EMBEDDING_TASK_CLUSTERING: "CLUSTERING",
}
_FLOAT_ENCODINGS: Final = frozenset(
    {EmbeddingEncoding.EMBEDDING_ENCODING_UNSPECIFIED, EmbeddingEncoding.EMBEDDING_ENCODING_FLOAT}
)
_ANSWER_KEYS: Final = frozenset({"embeddings", "usageMetadata", "error"})


@dataclass(frozen=True, slots=True)
class GeminiEmbeddingsFormat:
    """The format; implements EmbeddingsFormat."""

    def render_embeddings(self, request: CreateEmbeddingsRequest, target: Target) -> bytes:
        """As in EmbeddingsFormat. Options of the provider go into each request of the batch."""
        context = RenderContext(target, traits_of(target.provider_model))
        if request.encoding not in _FLOAT_ENCODINGS:
            raise context.unsupported("embeddings other than floats")
        if len(request.inputs) > _MAX_INPUTS:
            raise context.unsupported(f"more than {_MAX_INPUTS} inputs")
        common: JsonObject = {"model": resource_name(target.provider_model)}
        if request.task != EmbeddingTask.EMBEDDING_TASK_UNSPECIFIED:
            if request.task not in _TASKS:
                raise invalid_request("task", "is not a task")
            common["taskType"] = _TASKS[request.task]
        if request.HasField("dimensions"):
            common["outputDimensionality"] = request.dimensions
        merge_options(
            common, request.provider_options, provider_type=target.provider_type, reserved=_RESERVED
        )
        requests = [
            {**common, "content": {"parts": _render_input(item, f"inputs[{index}]", context)}}
            for index, item in enumerate(request.inputs)
        ]
        return orjson.dumps({"requests": requests})

    def parse_embeddings(
        self, body: bytes, request: CreateEmbeddingsRequest, target: Target
    ) -> CreateEmbeddingsResponse:
        """As in EmbeddingsFormat."""
        try:
            return _read_answer(parse_answer(body, target), request, target)
        except MalformedAnswerError as error:
            raise protocol_error(target.provider, error.cause) from error

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in EmbeddingsFormat."""
        return gemini_errors.parse_error(status, headers, body, target.provider)


def _render_input(item: EmbeddingInput, path: str, context: RenderContext) -> list[Block]:
    match item.WhichOneof("kind"):
        case "text":
            return [{"text": item.text}]
        case "content":
            return [
                render_input(part, f"{path}.content.parts[{index}]", context)
                for index, part in enumerate(item.content.parts)
            ]
        case "token_ids":
            raise feature_not_supported("embeddings of token ids", model=context.target.label)
        case _:
            raise invalid_request(path, "has no kind")


def _read_answer(
    answer: JsonObject, request: CreateEmbeddingsRequest, target: Target
) -> CreateEmbeddingsResponse:
    response = CreateEmbeddingsResponse()
    response.served_by.provider_model = target.provider_model
    embeddings = get_list(answer, "embeddings", "answer")
    if len(embeddings) != len(request.inputs):
        raise MalformedAnswerError(
            f"the answer holds {len(embeddings)} embeddings for {len(request.inputs)} inputs"
        )
    for index, item in enumerate(embeddings):
        vector = _read_vector(as_object(item, f"embeddings[{index}]"), f"embeddings[{index}]")
        if request.HasField("dimensions") and len(vector.values) != request.dimensions:
            raise MalformedAnswerError("the embeddings do not have the dimensions that were asked for")
        response.embeddings.add(index=index, float_vector=vector)
    extras = {key: value for key, value in answer.items() if key not in _ANSWER_KEYS and value}
    usage = get_object(answer, "usageMetadata", "answer")
    if usage is not None:
        # Models before the second generation report none.
        response.usage.CopyFrom(read_usage(usage))
        if usage_extras := read_usage_extras(usage):
            extras["usageMetadata"] = usage_extras
    if extras:
        response.provider_metadata.CopyFrom(to_struct(extras))
    return response


def _read_vector(item: JsonObject, where: str) -> FloatVector:
    values = get_list(item, "values", where)
    if not values:
        raise MalformedAnswerError(f"{where}.values is not a vector")
    try:
        return FloatVector(values=values)
    except (TypeError, ValueError) as error:
        raise MalformedAnswerError(f"{where}.values holds something that is not a number") from error
