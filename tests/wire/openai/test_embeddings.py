"""Embeddings in OpenAI's format, in either encoding."""

from base64 import b64encode
from struct import pack
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from gateway_server.errors import GatewayError
from gateway_server.providers.base import EmbeddingsFormat
from tests.support.wire import make_endpoint, make_target

NOT_A_NUMBER = "data[0].embedding holds something that is not a number"


def embeddings_format(provider_type: str = "openai") -> EmbeddingsFormat:
    wire_format = make_endpoint(provider_type).embeddings_format
    assert wire_format is not None
    return wire_format


def make_request(**fields: Any) -> CreateEmbeddingsRequest:
    request = {"model": "any", "inputs": [{"text": "a"}, {"text": "b"}], **fields}
    return ParseDict(request, CreateEmbeddingsRequest())


def render(**fields: Any) -> dict[str, Any]:
    return orjson.loads(embeddings_format().render_embeddings(make_request(**fields), make_target()))


def item(index: int, vector: object) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": vector}


def make_answer(*items: object, **fields: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "model": "emb-1", "data": list(items), "usage": usage, **fields}


def parse(answer: object, **request: Any) -> CreateEmbeddingsResponse:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return embeddings_format().parse_embeddings(body, make_request(**request), make_target())


def packed(*values: float) -> str:
    return b64encode(pack(f"<{len(values)}f", *values)).decode()


def test_the_least_request() -> None:
    assert render() == {"model": "gpt-test", "input": ["a", "b"], "encoding_format": "base64"}


def test_everything_that_can_be_asked() -> None:
    body = render(
        inputs=[{"tokenIds": {"values": [1, 2]}}],
        dimensions=256,
        endUserId="u",
        encoding="EMBEDDING_ENCODING_FLOAT",
        task="EMBEDDING_TASK_QUERY",
        providerOptions={"openai": {"extra": 1}, "vllm": {"ignored": 1}},
    )

    assert body == {
        "model": "gpt-test",
        "input": [[1, 2]],
        "encoding_format": "base64",
        "dimensions": 256,
        "user": "u",
        "extra": 1,
    }


@pytest.mark.parametrize(
    ("fields", "reason", "about"),
    [
        ({"encoding": "EMBEDDING_ENCODING_INT8"}, "FEATURE_NOT_SUPPORTED", "embeddings other than floats"),
        ({"encoding": "EMBEDDING_ENCODING_BINARY"}, "FEATURE_NOT_SUPPORTED", "embeddings other than floats"),
        (
            {"inputs": [{"content": {"parts": [{"text": {"text": "a"}}]}}]},
            "FEATURE_NOT_SUPPORTED",
            "embeddings of content parts",
        ),
        (
            {"inputs": [{"text": "a"}, {"tokenIds": {"values": [1]}}]},
            "FEATURE_NOT_SUPPORTED",
            "text and token ids in one request",
        ),
        ({"inputs": [{}]}, "INVALID_REQUEST", "inputs[0]"),
        (
            {"providerOptions": {"openai": {"input": "x"}}},
            "INVALID_REQUEST",
            'provider_options["openai"].input',
        ),
        (
            {"providerOptions": {"openai": {"encoding_format": "float"}}},
            "INVALID_REQUEST",
            'provider_options["openai"].encoding_format',
        ),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], reason: str, about: str) -> None:
    with pytest.raises(GatewayError) as caught:
        render(**fields)

    said = caught.value.metadata.get("feature") or caught.value.violations[0].field
    assert (caught.value.reason_name, said) == (reason, about)


def test_embeddings_come_in_order_of_input() -> None:
    response = parse(make_answer(item(1, packed(0.5, -2.0)), item(0, [0.25, 1])))

    assert MessageToDict(response) == {
        "servedBy": {"providerModel": "emb-1"},
        "embeddings": [
            {"floatVector": {"values": [0.25, 1.0]}},
            {"index": 1, "floatVector": {"values": [0.5, -2.0]}},
        ],
        "usage": {"inputTokens": "3", "totalTokens": "3", "state": "USAGE_STATE_PROVIDER_REPORTED"},
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=300))
def test_both_encodings_give_the_same_vector(values: list[float]) -> None:
    as_base64 = parse(make_answer(item(0, packed(*values)), item(1, packed(1.0))))

    assert list(as_base64.embeddings[0].float_vector.values) == values


def test_missing_indices_are_counted_and_what_has_no_field_is_handed_on() -> None:
    answer = make_answer(
        {"embedding": [1]}, {"embedding": [2]}, id="embd-1", service_tier="default", extra=None
    )
    del answer["usage"]

    response = parse(answer)

    assert [list(embedding.float_vector.values) for embedding in response.embeddings] == [[1.0], [2.0]]
    assert response.served_by.provider_response_id == "embd-1"
    assert MessageToDict(response.provider_metadata) == {"service_tier": "default"}
    assert not response.HasField("usage")


def test_a_server_that_counts_only_the_total_counts_the_input() -> None:
    answer = make_answer(item(0, [1]), item(1, [1]), usage={"total_tokens": 9})

    assert parse(answer).usage.input_tokens == 9


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", "the body is empty"),
        (b"<html>", "the body is HTML or XML, not JSON"),
        ({}, "the answer holds 0 embeddings for 2 inputs"),
        (make_answer(item(0, [1])), "the answer holds 1 embeddings for 2 inputs"),
        (make_answer(item(0, [1]), item(0, [1])), "data[1].index is not the index of one input"),
        (make_answer(item(0, [1]), item(2, [1])), "data[1].index is not the index of one input"),
        (make_answer(item(-1, [1]), item(0, [1])), "data[0].index is not the index of one input"),
        (make_answer(5, 5), "data[0] is not an object"),
        (make_answer(item(0, None), item(1, [1])), "data[0].embedding is not a vector"),
        (make_answer(item(0, []), item(1, [1])), "data[0].embedding is not a vector"),
        (make_answer(item(0, ["1"]), item(1, [1])), NOT_A_NUMBER),
        (
            make_answer(item(0, [None]), item(1, [1])),
            "data[0].embedding holds something that is not a number",
        ),
        (make_answer(item(0, "?"), item(1, [1])), "data[0].embedding is not base64"),
        (make_answer(item(0, ""), item(1, [1])), "data[0].embedding is not a list of floats"),
        (make_answer(item(0, "AAAA"), item(1, [1])), "data[0].embedding is not a list of floats"),
        (
            make_answer(item(0, [1]), item(1, [1]), usage={"prompt_tokens": -1}),
            "usage.prompt_tokens is negative",
        ),
    ],
)
def test_what_cannot_be_read_is_told(answer: object, cause: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse(answer)

    assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert caught.value.metadata == {"provider": "providers/my-openai", "cause": cause}


def test_vectors_of_another_length_than_asked_for_are_not_an_answer() -> None:
    answer = make_answer(item(0, [1, 2]), item(1, [1, 2]))

    assert len(parse(answer, dimensions=2).embeddings) == 2
    with pytest.raises(GatewayError, match="dimensions that were asked for"):
        parse(answer, dimensions=3)


def test_an_error_in_place_of_the_answer_is_that_error() -> None:
    with pytest.raises(GatewayError) as caught:
        parse({"error": {"message": "x", "type": "server_error"}})

    assert caught.value.reason_name == "UPSTREAM_UNAVAILABLE"


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    key=st.sampled_from(["data", "usage", "model", "id", "index", "embedding", "error", "new"]), value=junk
)
def test_no_answer_crashes_the_parser(key: str, value: object) -> None:
    first = item(0, [1.0])
    answer = make_answer(first, item(1, packed(1.0)))
    (first if key in first else answer)[key] = value
    reason = ""

    try:
        response = parse(answer)
    except GatewayError as error:
        reason = error.reason_name
    else:
        assert CreateEmbeddingsResponse.FromString(response.SerializeToString()) == response
        assert [embedding.index for embedding in response.embeddings] == [0, 1]
    assert reason in {"", "UPSTREAM_PROTOCOL_ERROR", "UPSTREAM_UNAVAILABLE"}
