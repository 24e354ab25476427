"""Embeddings in Gemini's format: one batch, one vector for each input, in order."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from gateway_server.errors import GatewayError
from gateway_server.providers.base import EmbeddingsFormat
from tests.support.wire import make_endpoint, make_target

TARGET = make_target("google", "gemini-embedding-001")
MODEL = "models/gemini-embedding-001"
ONE = {"inputs": [{"text": "a"}]}


def wire_format() -> EmbeddingsFormat:
    found = make_endpoint("google").embeddings_format
    assert found is not None
    return found


def make(**fields: Any) -> CreateEmbeddingsRequest:
    return ParseDict(fields, CreateEmbeddingsRequest())


def render(**fields: Any) -> Any:
    return orjson.loads(wire_format().render_embeddings(make(**fields), TARGET))["requests"]


def refusal(**fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        render(**fields)
    return caught.value


def test_one_request_for_each_input() -> None:
    assert render(inputs=[{"text": "a"}, {"text": "b"}]) == [
        {"model": MODEL, "content": {"parts": [{"text": "a"}]}},
        {"model": MODEL, "content": {"parts": [{"text": "b"}]}},
    ]


def test_parts_are_embedded_as_one() -> None:
    data = b64encode(b"png").decode()
    picture = {"image": {"source": {"inlineData": data, "mimeType": "image/png"}}}

    assert render(inputs=[{"content": {"parts": [{"text": {"text": "a"}}, picture]}}])[0]["content"] == {
        "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": data}}]
    }


@pytest.mark.parametrize(
    ("task", "word"),
    [
        ("QUERY", "RETRIEVAL_QUERY"),
        ("DOCUMENT", "RETRIEVAL_DOCUMENT"),
        ("SIMILARITY", "SEMANTIC_SIMILARITY"),
        ("CLASSIFICATION", "CLASSIFICATION"),
        ("CLUSTERING", "CLUSTERING"),
    ],
)
def test_what_the_vectors_are_for(task: str, word: str) -> None:
    assert render(**ONE, task=f"EMBEDDING_TASK_{task}")[0]["taskType"] == word


def test_dimensions_and_options_go_into_each_request() -> None:
    options = {"google": {"title": "T", "taskType": "CODE_RETRIEVAL_QUERY"}, "openai": {"x": 1}}

    requests = render(
        inputs=[{"text": "a"}, {"text": "b"}],
        dimensions=8,
        task="EMBEDDING_TASK_QUERY",
        providerOptions=options,
        endUserId="u1",
    )

    common = {"model": MODEL, "title": "T", "taskType": "CODE_RETRIEVAL_QUERY", "outputDimensionality": 8}
    assert requests == [{**common, "content": {"parts": [{"text": word}]}} for word in "ab"]


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"inputs": [{"tokenIds": {"values": [1]}}]}, "embeddings of token ids"),
        ({**ONE, "encoding": "EMBEDDING_ENCODING_INT8"}, "embeddings other than floats"),
        ({"inputs": [{"text": "a"}] * 101}, "more than 100 inputs"),
        (
            {
                "inputs": [
                    {
                        "content": {
                            "parts": [{"image": {"source": {"uri": "ftp://a", "mimeType": "image/png"}}}]
                        }
                    }
                ]
            },
            "image addresses other than http, https, gs and base64 data",
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], feature: str) -> None:
    error = refusal(**fields)

    assert error.reason_name == "FEATURE_NOT_SUPPORTED"
    assert error.metadata == {"feature": feature, "model": "my-google/gemini-embedding-001"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"inputs": [{}]}, "inputs[0]"),
        ({**ONE, "task": 99}, "task"),
        (
            {"inputs": [{"content": {"parts": [{"toolCall": {"toolCallId": "a"}}]}}]},
            "inputs[0].content.parts[0].tool_call",
        ),
        ({**ONE, "providerOptions": {"google": {"model": "x"}}}, 'provider_options["google"].model'),
        ({**ONE, "providerOptions": {"google": {"content": {}}}}, 'provider_options["google"].content'),
        (
            {**ONE, "providerOptions": {"google": {"output_dimensionality": 5}}},
            'provider_options["google"].output_dimensionality',
        ),
    ],
)
def test_what_cannot_be_right(fields: dict[str, Any], field: str) -> None:
    error = refusal(**fields)

    assert error.reason_name == "INVALID_REQUEST"
    assert [violation.field for violation in error.violations] == [field]


def parse(answer: Any, **fields: Any) -> CreateEmbeddingsResponse:
    data = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return wire_format().parse_embeddings(data, make(**(fields or ONE)), TARGET)


def test_vectors_in_order_and_no_usage() -> None:
    response = parse(
        {"embeddings": [{"values": [0.5, -1]}, {"values": [2, 1e-3]}]}, inputs=[{"text": "a"}, {"text": "b"}]
    )

    assert [embedding.index for embedding in response.embeddings] == [0, 1]
    assert list(response.embeddings[0].float_vector.values) == [0.5, -1]
    assert list(response.embeddings[1].float_vector.values) == pytest.approx([2, 0.001])
    assert response.served_by.provider_model == "gemini-embedding-001"
    # The pipeline then estimates.
    assert not response.HasField("usage")


def test_usage_of_newer_models() -> None:
    usage = {"promptTokenCount": 4, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 4}]}

    response = parse(
        {"embeddings": [{"values": [1], "shape": [1]}], "usageMetadata": usage, "other": {"a": 1}}
    )

    assert MessageToDict(response.usage) == {
        "inputTokens": "4",
        "totalTokens": "4",
        "state": "USAGE_STATE_PROVIDER_REPORTED",
    }
    assert MessageToDict(response.provider_metadata) == {
        "usageMetadata": {"promptTokenDetails": [{"modality": "TEXT", "tokenCount": 4}]},
        "other": {"a": 1},
    }


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", "the body is empty"),
        ({}, "the answer holds 0 embeddings for 1 inputs"),
        ({"embeddings": [{"values": [1]}] * 2}, "the answer holds 2 embeddings for 1 inputs"),
        ({"embeddings": {}}, "answer.embeddings is not a list"),
        ({"embeddings": [5]}, "embeddings[0] is not an object"),
        ({"embeddings": [{}]}, "embeddings[0].values is not a vector"),
        ({"embeddings": [{"values": ["x"]}]}, "embeddings[0].values holds something that is not a number"),
        (
            {"embeddings": [{"values": [1, 2]}]},
            "the embeddings do not have the dimensions that were asked for",
        ),
    ],
)
def test_answers_that_cannot_be_used(answer: Any, cause: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse(answer, **ONE, dimensions=1)

    assert caught.value.metadata == {"provider": "providers/my-google", "cause": cause}


def test_an_error_in_place_of_an_answer_is_told() -> None:
    with pytest.raises(GatewayError) as caught:
        parse({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}})

    assert caught.value.reason_name == "UPSTREAM_RATE_LIMITED"
