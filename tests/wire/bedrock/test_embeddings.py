"""Embeddings of Titan's and Cohere's models at Bedrock."""

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from gateway_server.errors import GatewayError
from tests.support.wire import make_endpoint, make_target

TITAN, TITAN_V1 = "amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v1"
COHERE, COHERE_V3 = "us.cohere.embed-v4:0", "cohere.embed-english-v3"
ARN = "arn:aws:bedrock:us-east-1::foundation-model/cohere.embed-multilingual-v3"


def request_of(*texts: str, **fields: Any) -> CreateEmbeddingsRequest:
    inputs = [{"text": each} for each in texts or ("Hi",)]
    return ParseDict({"model": "any", "inputs": inputs, **fields}, CreateEmbeddingsRequest())


def wire_format() -> Any:
    return make_endpoint("bedrock").embeddings_format


def render(model: str, *texts: str, **fields: Any) -> dict[str, Any]:
    body = wire_format().render_embeddings(request_of(*texts, **fields), make_target("bedrock", model))
    rendered = orjson.loads(body)
    assert isinstance(rendered, dict)
    return rendered


def parse(
    answer: object, *texts: str, headers: dict[str, str] | None = None, **fields: Any
) -> CreateEmbeddingsResponse:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    response = wire_format().parse_embeddings(
        body, request_of(*texts, **fields), make_target("bedrock", COHERE), headers=headers or {}
    )
    assert isinstance(response, CreateEmbeddingsResponse)
    return response


@pytest.mark.parametrize(
    ("model", "texts", "fields", "body"),
    [
        (TITAN, ["a"], {}, {"inputText": "a"}),
        (
            TITAN,
            ["a"],
            {"dimensions": 256, "task": "EMBEDDING_TASK_QUERY"},
            {"inputText": "a", "dimensions": 256},
        ),
        (
            TITAN,
            ["a"],
            {"providerOptions": {"bedrock": {"normalize": False}}},
            {"inputText": "a", "normalize": False},
        ),
        (TITAN_V1, ["a"], {"encoding": "EMBEDDING_ENCODING_FLOAT"}, {"inputText": "a"}),
        (COHERE_V3, ["a", "b"], {}, {"texts": ["a", "b"], "input_type": "search_document"}),
        (ARN, ["a"], {"task": "EMBEDDING_TASK_QUERY"}, {"texts": ["a"], "input_type": "search_query"}),
        (
            COHERE,
            ["a"],
            {
                "task": "EMBEDDING_TASK_CLUSTERING",
                "dimensions": 512,
                "encoding": "EMBEDDING_ENCODING_INT8",
                "providerOptions": {"bedrock": {"truncate": "END"}, "openai": {"x": 1}},
            },
            {
                "texts": ["a"],
                "input_type": "clustering",
                "output_dimension": 512,
                "embedding_types": ["int8"],
                "truncate": "END",
            },
        ),
    ],
)
def test_what_is_sent(model: str, texts: list[str], fields: dict[str, Any], body: dict[str, Any]) -> None:
    assert render(model, *texts, **fields) == body


@pytest.mark.parametrize(
    ("model", "texts", "fields", "feature"),
    [
        (TITAN, ["a", "b"], {}, "several inputs"),
        (TITAN, ["a"], {"encoding": "EMBEDDING_ENCODING_BINARY"}, "other than floats"),
        (TITAN_V1, ["a"], {"dimensions": 5}, "another length"),
        (COHERE_V3, ["a"], {"dimensions": 5}, "another length"),
        (COHERE, ["a"] * 97, {}, "more than 96"),
        (COHERE, [], {"inputs": [{"tokenIds": {"values": [1]}}]}, "token ids"),
        (COHERE, [], {"inputs": [{"content": {"parts": [{"text": {"text": "a"}}]}}]}, "content parts"),
        ("amazon.nova-2-multimodal-embeddings-v1:0", ["a"], {}, "Titan or Cohere"),
        ("anthropic.claude-3", ["a"], {}, "Titan or Cohere"),
    ],
)
def test_what_is_refused(model: str, texts: list[str], fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(GatewayError) as caught:
        render(model, *texts, **fields)

    assert caught.value.reason_name == "FEATURE_NOT_SUPPORTED"
    assert feature in caught.value.metadata["feature"]


@pytest.mark.parametrize("key", ["inputText", "texts", "dimensions", "output_dimension", "embedding_types"])
def test_options_cannot_go_around_fields(key: str) -> None:
    with pytest.raises(GatewayError) as caught:
        render(COHERE, providerOptions={"bedrock": {key: 1}})

    assert caught.value.reason_name == "INVALID_REQUEST"


def vectors_of(response: CreateEmbeddingsResponse) -> list[list[float]]:
    return [list(each.float_vector.values) for each in response.embeddings]


def test_vectors_of_either_shape() -> None:
    tokens = {"x-amzn-bedrock-input-token-count": "7"}

    titan = parse({"embedding": [0.5, 1], "embeddingsByType": {"float": [0.5, 1]}, "inputTextTokenCount": 3})
    cohere = parse({"embeddings": [[0.5], [1]], "id": "i", "texts": ["a", "b"]}, "a", "b", headers=tokens)
    by_type = parse({"embeddings": {"float": [[0.5]]}, "meta": {"a": 1}}, headers=tokens)

    assert vectors_of(titan) == [[0.5, 1.0]]
    assert vectors_of(cohere) == [[0.5], [1.0]]
    assert vectors_of(by_type) == [[0.5]]
    assert (titan.usage.input_tokens, cohere.usage.total_tokens) == (3, 7)
    assert cohere.served_by.provider_response_id == "i"
    assert by_type.provider_metadata.fields["meta"].struct_value.fields["a"].number_value == 1


def test_packed_vectors() -> None:
    small = parse({"embeddings": {"int8": [[-128, 0, 127]]}}, encoding="EMBEDDING_ENCODING_INT8")
    bits = parse({"embeddings": {"binary": [[-1, 5]]}}, encoding="EMBEDDING_ENCODING_BINARY", dimensions=16)

    assert small.embeddings[0].packed_vector == b"\x80\x00\x7f"
    assert bits.embeddings[0].packed_vector == b"\xff\x05"


@pytest.mark.parametrize("told", ["", "x", "-1", "1e9", "9" * 30])
def test_without_a_count_there_is_no_usage(told: str) -> None:
    response = parse({"embeddings": [[1]]}, headers={"x-amzn-bedrock-input-token-count": told})

    assert not response.HasField("usage")


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (b"", {}),
        (b"[]", {}),
        ({}, {}),
        ({"embeddings": []}, {}),
        ({"embeddings": [[1], [2]]}, {}),
        ({"embeddings": [[]]}, {}),
        ({"embeddings": [5]}, {}),
        ({"embeddings": [["a"]]}, {}),
        ({"embeddings": {"int8": [[1]]}}, {}),
        ({"embeddings": {"int8": [[128]]}}, {"encoding": "EMBEDDING_ENCODING_INT8"}),
        ({"embeddings": {"int8": [[1.5]]}}, {"encoding": "EMBEDDING_ENCODING_INT8"}),
        ({"embeddings": [[1, 2]]}, {"dimensions": 3}),
        ({"embedding": [1], "inputTextTokenCount": -1}, {}),
    ],
)
def test_answers_that_break_their_format(answer: object, fields: dict[str, Any]) -> None:
    with pytest.raises(GatewayError) as caught:
        parse(answer, **fields)

    assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"
