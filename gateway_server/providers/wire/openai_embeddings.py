"""The embeddings format of OpenAI, Azure, vLLM and many others.

Vectors are asked for as base64, a quarter of the bytes and a third of the work of decimal numbers; servers
that send numbers all the same are read, too. What the vectors are for (``task``) has no place in the
format and is left out: its models make one kind of vector.
"""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from google.protobuf.message import DecodeError

from aigateway.v1.embeddings_service_pb2 import (
    CreateEmbeddingsRequest,
    CreateEmbeddingsResponse,
    Embedding,
    EmbeddingInput,
    FloatVector,
)
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.providers.base import NO_HEADERS, Target
from gateway_server.providers.wire import openai_errors
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_object,
    get_text,
    parse_object,
    to_struct,
)
from gateway_server.providers.wire.openai_chat.fields import read_usage
from gateway_server.providers.wire.openai_errors import parse_error_in_answer
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.vectors import (
    read_numbers,
    require_dimensions,
    require_floats,
    require_one_each,
)

_RESERVED: Final = {
    "model": "model",
    "input": "inputs",
    "encoding_format": "encoding",
    "dimensions": "dimensions",
}
_ANSWER_KEYS: Final = frozenset({"id", "object", "created", "model", "data", "usage", "error"})
_FLOAT_BYTES: Final = 4
#: Field 1, length-delimited: how a FloatVector begins on the wire.
_PACKED_VALUES_TAG: Final = b"\x0a"


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddingsFormat:
    """The format for one type of provider; implements EmbeddingsFormat."""

    provider_type: str

    def most_inputs(self, target: Target) -> int | None:
        """As in EmbeddingsFormat: OpenAI takes 2048, which is as many as a request may have."""
        return None

    def render_embeddings(
        self, request: CreateEmbeddingsRequest, target: Target, *, first_input: int = 0
    ) -> bytes:
        """As in EmbeddingsFormat."""
        require_floats(request, target)
        body: JsonObject = {
            "model": target.provider_model,
            "input": [
                _render_input(item, f"inputs[{index}]", target)
                for index, item in enumerate(request.inputs, first_input)
            ],
            "encoding_format": "base64",
        }
        if len({item.WhichOneof("kind") for item in request.inputs}) > 1:
            raise feature_not_supported("text and token ids in one request", model=target.label)
        if request.HasField("dimensions"):
            body["dimensions"] = request.dimensions
        if request.end_user_id:
            body["user"] = request.end_user_id
        merge_options(body, request.provider_options, provider_type=self.provider_type, reserved=_RESERVED)
        return orjson.dumps(body)

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
            answer = parse_object(body)
            if answer.get("error") is not None:
                raise parse_error_in_answer(answer["error"], target.provider)
            return _read_answer(answer, request, target)
        except MalformedAnswerError as error:
            raise protocol_error(target.provider, error.cause) from error

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in EmbeddingsFormat."""
        return openai_errors.parse_error(status, headers, body, target.provider)


def _render_input(item: EmbeddingInput, path: str, target: Target) -> str | list[int]:
    match item.WhichOneof("kind"):
        case "text":
            return item.text
        case "token_ids":
            return list(item.token_ids.values)
        case "content":
            raise feature_not_supported("embeddings of content parts", model=target.label)
        case _:
            raise invalid_request(path, "has no kind")


def _read_answer(
    answer: JsonObject, request: CreateEmbeddingsRequest, target: Target
) -> CreateEmbeddingsResponse:
    response = CreateEmbeddingsResponse()
    response.served_by.provider_response_id = get_text(answer, "id", "answer")
    response.served_by.provider_model = get_text(answer, "model", "answer") or target.provider_model
    response.embeddings.extend(_read_embeddings(answer, request))
    usage = get_object(answer, "usage", "answer")
    if usage is not None:
        response.usage.CopyFrom(_read_usage(usage))
    extras = {key: value for key, value in answer.items() if key not in _ANSWER_KEYS and value is not None}
    if extras:
        response.provider_metadata.CopyFrom(to_struct(extras))
    return response


def _read_embeddings(answer: JsonObject, request: CreateEmbeddingsRequest) -> list[Embedding]:
    """One for each input, in order of input."""
    data = get_list(answer, "data", "answer")
    require_one_each(data, request)
    by_index: dict[int, Embedding] = {}
    for position, value in enumerate(data):
        item = as_object(value, f"data[{position}]")
        index = item.get("index", position)
        if type(index) is not int or not 0 <= index < len(data) or index in by_index:
            raise MalformedAnswerError(f"data[{position}].index is not the index of one input")
        vector = _read_vector(item, f"data[{position}]")
        by_index[index] = Embedding(index=index, float_vector=vector)
    require_dimensions({len(embedding.float_vector.values) for embedding in by_index.values()}, request)
    return [by_index[index] for index in range(len(data))]


def _read_vector(item: JsonObject, where: str) -> FloatVector:
    vector = item.get("embedding")
    if type(vector) is str:
        return _decode_vector(vector, where)
    return read_numbers(vector, f"{where}.embedding")


def _decode_vector(text: str, where: str) -> FloatVector:
    """Base64 of little-endian floats: the bytes that a packed protobuf field holds, so none is touched."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise MalformedAnswerError(f"{where}.embedding is not base64") from error
    if not data or len(data) % _FLOAT_BYTES:
        raise MalformedAnswerError(f"{where}.embedding is not a list of floats")
    try:
        return FloatVector.FromString(_PACKED_VALUES_TAG + _to_varint(len(data)) + data)
    except DecodeError as error:
        raise MalformedAnswerError(f"{where}.embedding is not a list of floats") from error


def _to_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_usage(usage: JsonObject) -> TokenUsage:
    """As for chat; servers that leave out ``prompt_tokens`` give the same number as ``total_tokens``."""
    if usage.get("prompt_tokens") is None:
        usage = {**usage, "prompt_tokens": usage.get("total_tokens")}
    return read_usage(usage)
