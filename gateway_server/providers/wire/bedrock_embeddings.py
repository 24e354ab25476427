"""The embeddings of models at Bedrock: Amazon Titan's format and Cohere's, each by InvokeModel.

Titan embeds one text in each call, so several are asked for by several calls. What the vectors are for
(``task``) has no place in its format and is left out: it makes one kind of vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from aigateway.v1.embeddings_service_pb2 import (
    CreateEmbeddingsRequest,
    CreateEmbeddingsResponse,
    Embedding,
    EmbeddingEncoding,
    EmbeddingInput,
    EmbeddingTask,
    FloatVector,
)
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.providers.base import NO_HEADERS, Target
from gateway_server.providers.wire.bedrock_converse import PROVIDER_TYPE, errors
from gateway_server.providers.wire.bedrock_converse.models import base_model
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    get_count,
    get_list,
    get_text,
    parse_object,
    to_struct,
)
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.rendering import dump_body

_Kind = Literal["titan_v1", "titan", "cohere_v3", "cohere"]
_KINDS: Final[tuple[tuple[str, _Kind], ...]] = (
    ("amazon.titan-embed-text-v1", "titan_v1"),
    ("amazon.titan-embed-g1-text", "titan_v1"),
    ("amazon.titan-embed-text", "titan"),
    ("cohere.embed-english-v3", "cohere_v3"),
    ("cohere.embed-multilingual-v3", "cohere_v3"),
    ("cohere.embed", "cohere"),
)
#: The most texts in one call to Cohere's models.
_MAX_TEXTS: Final = 96
_INPUT_TYPES: Final = {
    EmbeddingTask.EMBEDDING_TASK_UNSPECIFIED: "search_document",
    EmbeddingTask.EMBEDDING_TASK_DOCUMENT: "search_document",
    EmbeddingTask.EMBEDDING_TASK_QUERY: "search_query",
    EmbeddingTask.EMBEDDING_TASK_SIMILARITY: "search_document",
    EmbeddingTask.EMBEDDING_TASK_CLASSIFICATION: "classification",
    EmbeddingTask.EMBEDDING_TASK_CLUSTERING: "clustering",
}
_PACKED: Final = {
    EmbeddingEncoding.EMBEDDING_ENCODING_INT8: "int8",
    EmbeddingEncoding.EMBEDDING_ENCODING_BINARY: "binary",
}
_FLOATS: Final = frozenset(
    {EmbeddingEncoding.EMBEDDING_ENCODING_UNSPECIFIED, EmbeddingEncoding.EMBEDDING_ENCODING_FLOAT}
)
_BITS: Final = 8

_RESERVED: Final = {
    "inputText": "inputs",
    "texts": "inputs",
    "images": "inputs",
    "inputs": "inputs",
    "dimensions": "dimensions",
    "output_dimension": "dimensions",
    "embedding_types": "encoding",
    "embeddingTypes": "encoding",
}
_ANSWER_KEYS: Final = frozenset(
    {"embedding", "embeddings", "embeddingsByType", "inputTextTokenCount", "texts", "id", "response_type"}
)
_TOKENS_HEADER: Final = "x-amzn-bedrock-input-token-count"


@dataclass(frozen=True, slots=True)
class BedrockEmbeddingsFormat:
    """The formats; implements EmbeddingsFormat."""

    def most_inputs(self, target: Target) -> int | None:
        """As in EmbeddingsFormat."""
        return 1 if _kind_of(target).startswith("titan") else _MAX_TEXTS

    def render_embeddings(
        self, request: CreateEmbeddingsRequest, target: Target, *, first_input: int = 0
    ) -> bytes:
        """As in EmbeddingsFormat."""
        kind = _kind_of(target)
        texts = [
            _read_text(item, f"inputs[{index}]", target)
            for index, item in enumerate(request.inputs, first_input)
        ]
        body = (
            _render_titan(texts, request, target, kind)
            if kind.startswith("titan")
            else _render_cohere(texts, request, target, kind)
        )
        merge_options(body, request.provider_options, provider_type=PROVIDER_TYPE, reserved=_RESERVED)
        return dump_body(body)

    def parse_embeddings(
        self,
        body: bytes,
        request: CreateEmbeddingsRequest,
        target: Target,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> CreateEmbeddingsResponse:
        """As in EmbeddingsFormat. Titan tells the tokens in the body, all models in a header."""
        try:
            return _read_answer(parse_object(body), request, target, headers)
        except MalformedAnswerError as error:
            raise protocol_error(target.provider, error.cause) from error

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in EmbeddingsFormat."""
        return errors.parse_error(status, headers, body, target.provider)


def _kind_of(target: Target) -> _Kind:
    """The format that the model speaks, by its name; ARNs of models end with it."""
    name = base_model(target.provider_model).rpartition("/")[2]
    for start, kind in _KINDS:
        if base_model(name).startswith(start):
            return kind
    raise feature_not_supported("embeddings in a format of Titan or Cohere", model=target.label)


def _read_text(item: EmbeddingInput, path: str, target: Target) -> str:
    match item.WhichOneof("kind"):
        case "text":
            return item.text
        case "token_ids":
            raise feature_not_supported("embeddings of token ids", model=target.label)
        case "content":
            raise feature_not_supported("embeddings of content parts", model=target.label)
        case _:
            raise invalid_request(path, "has no kind")


def _render_titan(
    texts: list[str], request: CreateEmbeddingsRequest, target: Target, kind: _Kind
) -> JsonObject:
    if len(texts) != 1:
        raise feature_not_supported("several inputs in one request", model=target.label)
    if request.encoding not in _FLOATS:
        raise feature_not_supported("embeddings other than floats", model=target.label)
    body: JsonObject = {"inputText": texts[0]}
    if request.HasField("dimensions"):
        if kind == "titan_v1":
            raise feature_not_supported("vectors of another length", model=target.label)
        body["dimensions"] = request.dimensions
    return body


def _render_cohere(
    texts: list[str], request: CreateEmbeddingsRequest, target: Target, kind: _Kind
) -> JsonObject:
    if len(texts) > _MAX_TEXTS:
        raise feature_not_supported(f"more than {_MAX_TEXTS} inputs in one request", model=target.label)
    if request.task not in _INPUT_TYPES:
        raise invalid_request("task", "is not a task")
    body: JsonObject = {"texts": texts, "input_type": _INPUT_TYPES[request.task]}
    if request.encoding not in _FLOATS:
        if request.encoding not in _PACKED:
            raise invalid_request("encoding", "is not an encoding")
        body["embedding_types"] = [_PACKED[request.encoding]]
    if request.HasField("dimensions"):
        if kind == "cohere_v3":
            raise feature_not_supported("vectors of another length", model=target.label)
        body["output_dimension"] = request.dimensions
    return body


def _read_answer(
    answer: JsonObject, request: CreateEmbeddingsRequest, target: Target, headers: Mapping[str, str]
) -> CreateEmbeddingsResponse:
    response = CreateEmbeddingsResponse()
    response.served_by.provider_response_id = get_text(answer, "id", "answer")
    response.served_by.provider_model = target.provider_model
    vectors = _find_vectors(answer, request)
    if len(vectors) != len(request.inputs):
        raise MalformedAnswerError(
            f"the answer holds {len(vectors)} embeddings for {len(request.inputs)} inputs"
        )
    for index, vector in enumerate(vectors):
        response.embeddings.append(_read_vector(vector, index, request))
    tokens = _read_tokens(answer, headers)
    if tokens is not None:
        response.usage.CopyFrom(
            TokenUsage(
                input_tokens=tokens, total_tokens=tokens, state=UsageState.USAGE_STATE_PROVIDER_REPORTED
            )
        )
    extras = {key: value for key, value in answer.items() if key not in _ANSWER_KEYS and value is not None}
    if extras:
        response.provider_metadata.CopyFrom(to_struct(extras))
    return response


def _find_vectors(answer: JsonObject, request: CreateEmbeddingsRequest) -> list[object]:
    """Titan gives one vector, Cohere a list of them, or one list for each encoding."""
    if answer.get("embedding") is not None:
        return [answer["embedding"]]
    vectors = answer.get("embeddings")
    if type(vectors) is dict:
        return get_list(vectors, _PACKED.get(request.encoding, "float"), "embeddings")
    return get_list(answer, "embeddings", "answer")


def _read_vector(vector: object, index: int, request: CreateEmbeddingsRequest) -> Embedding:
    where = f"embeddings[{index}]"
    if type(vector) is not list or not vector:
        raise MalformedAnswerError(f"{where} is not a vector")
    is_binary = request.encoding == EmbeddingEncoding.EMBEDDING_ENCODING_BINARY
    length = len(vector) * (_BITS if is_binary else 1)
    if request.HasField("dimensions") and length != request.dimensions:
        raise MalformedAnswerError("the embeddings do not have the dimensions that were asked for")
    try:
        if request.encoding in _PACKED:
            return Embedding(index=index, packed_vector=b"".join(_to_byte(value) for value in vector))
        return Embedding(index=index, float_vector=FloatVector(values=vector))
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedAnswerError(f"{where} holds something that is not a number") from error


def _to_byte(value: object) -> bytes:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value.to_bytes(1, "big", signed=True)


def _read_tokens(answer: JsonObject, headers: Mapping[str, str]) -> int | None:
    if answer.get("inputTextTokenCount") is not None:
        return get_count(answer, "inputTextTokenCount", "answer")
    told = headers.get(_TOKENS_HEADER, "").strip()
    return int(told) if told.isascii() and told.isdecimal() and len(told) < 16 else None
