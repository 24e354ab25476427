"""Embeddings of a real vLLM that was started for them, through a gateway that found it at its first start."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import pytest

import aigateway
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsResponse, EmbeddingInput, TokenIds
from aigateway.v1.usage_pb2 import UsageState
from tests.support.gateway import Gateway, running_gateway
from tests.vllm.environment import Environment
from tests.vllm.server import MODEL, VllmServer, running_vllm

TINY = f"vllm/{MODEL}"


@pytest.fixture(scope="module")
def pooling_vllm(environment: Environment) -> Iterator[VllmServer]:
    arguments = ("--max-model-len", "256", "--runner", "pooling", "--convert", "embed")
    with running_vllm(environment, "pooling", *arguments) as server:
        yield server


@pytest.fixture(scope="module")
async def pooling_gateway(
    pooling_vllm: VllmServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    state_dir = tmp_path_factory.mktemp("pooling") / "state"
    async with running_gateway(state_dir, vllm_base_url=pooling_vllm.base_url) as gateway:
        yield gateway


def vectors_of(response: CreateEmbeddingsResponse) -> list[list[float]]:
    assert [embedding.index for embedding in response.embeddings] == [*range(len(response.embeddings))]
    return [list(embedding.float_vector.values) for embedding in response.embeddings]


async def test_each_text_gets_its_vector_and_the_tokens_are_counted(
    pooling_gateway: Gateway, pooling_vllm: VllmServer
) -> None:
    texts = ["What is the capital of France?", "one", "two three"]
    response = await pooling_gateway.client.embeddings.create(TINY, texts)
    vectors = vectors_of(response)
    assert [len(vector) for vector in vectors] == [128, 128, 128]
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1, 1, 1], abs=1e-4)
    asked = sum([await pooling_vllm.count_tokens(prompt=text) for text in texts])
    assert response.usage.input_tokens == response.usage.total_tokens == asked
    assert response.usage.output_tokens == 0
    assert response.usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED
    alone = [vectors_of(await pooling_gateway.client.embeddings.create(TINY, text))[0] for text in texts]
    for together, separate in zip(vectors, alone, strict=True):
        assert together == pytest.approx(separate, abs=1e-4)
    assert vectors[0] != pytest.approx(vectors[1], abs=0.1)


async def test_tokens_are_embedded_as_the_text_they_stand_for(
    pooling_gateway: Gateway, pooling_vllm: VllmServer
) -> None:
    tokens = EmbeddingInput(token_ids=TokenIds(values=await pooling_vllm.tokens_of("one two")))
    by_tokens = await pooling_gateway.client.embeddings.create(TINY, [tokens])
    by_text = await pooling_gateway.client.embeddings.create(TINY, "one two")
    assert vectors_of(by_tokens)[0] == pytest.approx(vectors_of(by_text)[0], abs=1e-4)


@pytest.mark.parametrize(
    ("text", "dimensions", "code"),
    [("word " * 500, None, "context_length_exceeded"), ("one", 8, "BadRequestError")],
)
async def test_what_the_server_refuses_is_told(
    pooling_gateway: Gateway, text: str, dimensions: int | None, code: str
) -> None:
    with pytest.raises(aigateway.UpstreamError) as refused:
        await pooling_gateway.client.embeddings.create(TINY, text, dimensions=dimensions)
    assert refused.value.reason == "UPSTREAM_REJECTED"
    assert refused.value.metadata["http_status"] == "400"
    assert refused.value.metadata["provider_code"] == code


async def test_chat_with_a_server_that_only_embeds_is_refused(pooling_gateway: Gateway) -> None:
    with pytest.raises(aigateway.UpstreamError) as refused:
        await pooling_gateway.client.chat.create(TINY, "hello")
    assert refused.value.reason == "UPSTREAM_REJECTED"
    assert refused.value.metadata["http_status"] == "404"
