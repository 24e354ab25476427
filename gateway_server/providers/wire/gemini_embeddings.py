"""The embeddings format of Google's Gemini API: one batch of requests, one vector for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aigateway.v1.embeddings_service_pb2 import (
    CreateEmbeddingsRequest,
    CreateEmbeddingsResponse,
    EmbeddingInput,
    EmbeddingTask,
)
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.providers.base import NO_HEADERS, Target
from gateway_server.providers.wire import gemini_errors
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.gemini.answer import parse_answer
from gateway_server.providers.wire.gemini.blocks import render_input
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.gemini.fields import take_usage
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
from gateway_server.providers.wire.rendering import Block, dump_body
from gateway_server.providers.wire.vectors import (
    read_numbers,
    require_dimensions,
    require_floats,
    require_one_each,
)

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
_ANSWER_KEYS: Final = frozenset({"embeddings", "usageMetadata", "error"})


@dataclass(frozen=True, slots=True)
class GeminiEmbeddingsFormat:
    """The format; implements EmbeddingsFormat."""

    def most_inputs(self, target: Target) -> int | None:
        """As in EmbeddingsFormat."""
        return _MAX_INPUTS

    def render_embeddings(
        self, request: CreateEmbeddingsRequest, target: Target, *, first_input: int = 0
    ) -> bytes:
        """As in EmbeddingsFormat. Options of the provider go into each request of the batch."""
        context = RenderContext(target, traits_of(target.provider_model))
        require_floats(request, target)
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
            for index, item in enumerate(request.inputs, first_input)
        ]
        return dump_body({"requests": requests})

    def parse_embeddings(
        self,
        body: bytes,
        request: CreateEmbeddingsRequest,
        target: Target,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
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
    require_one_each(embeddings, request)
    for index, item in enumerate(embeddings):
        values = as_object(item, f"embeddings[{index}]").get("values")
        response.embeddings.add(index=index, float_vector=read_numbers(values, f"embeddings[{index}].values"))
    require_dimensions({len(embedding.float_vector.values) for embedding in response.embeddings}, request)
    # Models before the second generation report no usage.
    extras = {key: value for key, value in answer.items() if key not in _ANSWER_KEYS and value}
    usage = take_usage(get_object(answer, "usageMetadata", "answer"), extras)
    if usage is not None:
        response.usage.CopyFrom(usage)
    if extras:
        response.provider_metadata.CopyFrom(to_struct(extras))
    return response
