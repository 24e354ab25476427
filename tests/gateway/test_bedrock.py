"""Bedrock behind a whole gateway: signed calls, event streams, counts, and many texts to embed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from aigateway import types
from aigateway.v1.chat_service_pb2 import CountTokensRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.usage_pb2 import UsageState
from tests.support.event_stream import event
from tests.support.gateway import Gateway, chat_request, new_user, running_gateway
from tests.support.statuses import read_failure
from tests.support.upstream import Exchange, Upstream, running_upstream, send_json

KEYS = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CLAUDE, TITAN, COHERE = "aws/claude", "aws/titan", "aws/cohere"
NAMES = {
    "nova": "us.amazon.nova-2-lite-v1:0",
    "claude": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "titan": "amazon.titan-embed-text-v2:0",
    "cohere": "cohere.embed-english-v3",
}
#: A dollar for a million tokens, a thousand nanos for each.
NANOS_A_TOKEN = 1_000
BUSY = {"message": "Too many requests, please wait before trying again."}


@pytest.fixture(scope="module")
async def bedrock() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
async def shared_gateway(
    bedrock: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Tries twice, at once."""
    folder = tmp_path_factory.mktemp("bedrock")
    async with running_gateway(
        folder / "state", retry_max_attempts=2, retry_initial_backoff_ms=1, retry_max_backoff_ms=1
    ) as running:
        await add_bedrock(running, bedrock)
        yield running


async def add_bedrock(gateway: Gateway, bedrock: Upstream) -> None:
    admin = gateway.client.admin
    address = bedrock.base_url.removesuffix("/v1")
    provider = types.Provider(provider_type="bedrock", base_url=address, credential=KEYS)
    provider.config.update({"region": "us-east-1"})
    made = await admin.providers.create(provider, provider_id="aws")
    price = types.Price(input_nanos_per_million=NANOS_A_TOKEN * 1_000_000)
    for model_id, name in NAMES.items():
        model = types.Model(provider_model=name, price=price)
        await admin.models.create(made.name, model, model_id=model_id)


@pytest.fixture
def gateway(shared_gateway: Gateway, bedrock: Upstream) -> Iterator[Gateway]:
    bedrock.reset()
    yield shared_gateway
    errors = bedrock.errors.copy()
    bedrock.errors.clear()
    assert errors == []


def path_of(exchange: Exchange) -> str:
    return exchange.head.split(b" ")[1].decode()


# Embeddings.


def embed(gateway: Gateway, model: str, texts: list[str], **fields: Any) -> Any:
    inputs = [EmbeddingInput(text=text) for text in texts]
    request = CreateEmbeddingsRequest(model=model, inputs=inputs, **fields)
    return gateway.client.stubs.embeddings.CreateEmbeddings(request, metadata=gateway.metadata, timeout=20)


def vectors_of(answer: Any) -> list[list[float]]:
    assert [each.index for each in answer.embeddings] == list(range(len(answer.embeddings)))
    return [list(each.float_vector.values) for each in answer.embeddings]


class Titan:
    """Embeds one text a call, as its length and a count of as many tokens; the busier, the slower."""

    def __init__(self, *, busy_at: str = "", busy_for: int = 0) -> None:
        self.texts: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._busy_at, self._busy_for = busy_at, busy_for

    async def __call__(self, exchange: Exchange) -> None:
        text = exchange.json["inputText"]
        assert isinstance(text, str)
        self.texts.append(text)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0.02)
        self._at_once -= 1
        if text == self._busy_at and self._busy_for:
            self._busy_for -= 1
            await send_json(exchange, {"__type": "ThrottlingException", **BUSY}, status=429)
        else:
            count = len(text)
            await send_json(exchange, {"embedding": [float(count)], "inputTextTokenCount": count})


TEXTS = ["x" * length for length in range(1, 21)]


async def test_texts_for_titan_go_out_side_by_side_and_come_back_in_order(
    gateway: Gateway, bedrock: Upstream
) -> None:
    titan = bedrock.script = Titan()
    user = new_user()

    answer = await embed(gateway, TITAN, TEXTS, end_user_id=user, dimensions=1)

    assert vectors_of(answer) == [[float(len(text))] for text in TEXTS]
    assert sorted(titan.texts, key=len) == TEXTS
    assert 1 < titan.most_at_once <= 8
    assert {path_of(each) for each in bedrock.exchanges} == {"/model/amazon.titan-embed-text-v2%3A0/invoke"}
    assert all(b"AWS4-HMAC-SHA256 Credential=AKIA" in each.head for each in bedrock.exchanges)
    assert [each.json["dimensions"] for each in bedrock.exchanges] == [1] * len(TEXTS)
    record = await gateway.ledger.wait_one(user)
    tokens = sum(map(len, TEXTS))
    assert record.usage == answer.usage
    assert (answer.usage.input_tokens, answer.usage.state) == (
        tokens,
        UsageState.USAGE_STATE_PROVIDER_REPORTED,
    )
    assert record.cost.total_nanos == answer.cost.total_nanos == tokens * NANOS_A_TOKEN
    assert len(answer.attempts) == 1


async def test_a_retry_asks_for_what_is_missing_and_no_token_is_charged_twice(
    gateway: Gateway, bedrock: Upstream
) -> None:
    titan = bedrock.script = Titan(busy_at=TEXTS[9], busy_for=1)
    user = new_user()

    answer = await embed(gateway, TITAN, TEXTS, end_user_id=user)

    assert vectors_of(answer) == [[float(len(text))] for text in TEXTS]
    assert sorted(titan.texts, key=len) == sorted([*TEXTS, TEXTS[9]], key=len)
    throttled, served = answer.attempts
    assert (throttled.http_status, throttled.error_reason) == (429, "UPSTREAM_RATE_LIMITED")
    assert (served.http_status, served.error_reason) == (200, "")
    tokens = sum(map(len, TEXTS))
    assert throttled.usage.input_tokens + served.usage.input_tokens == tokens
    assert throttled.usage.input_tokens > 0
    assert served.usage.input_tokens > 0
    assert answer.usage.input_tokens == tokens
    record = await gateway.ledger.wait_one(user)
    assert record.usage == answer.usage
    assert record.cost.total_nanos == answer.cost.total_nanos == tokens * NANOS_A_TOKEN


async def test_what_was_embedded_before_a_failure_is_charged(gateway: Gateway, bedrock: Upstream) -> None:
    titan = bedrock.script = Titan(busy_at=TEXTS[9], busy_for=2)
    user = new_user()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embed(gateway, TITAN, TEXTS, end_user_id=user)

    assert read_failure(caught.value).reason == "UPSTREAM_RATE_LIMITED"
    record = await gateway.ledger.wait_one(user)
    embedded = sum(map(len, titan.texts)) - 2 * len(TEXTS[9])
    assert 0 < embedded < sum(map(len, TEXTS))
    assert record.usage.input_tokens == embedded
    assert record.usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED
    assert record.cost.total_nanos == embedded * NANOS_A_TOKEN


async def test_limits_of_the_provider_count_every_request(gateway: Gateway, bedrock: Upstream) -> None:
    bedrock.script = Titan()
    admin = gateway.client.admin
    limits = types.RateLimits(requests_per_minute=len(TEXTS))
    provider = types.Provider(name="providers/aws", rate_limits=limits)
    await admin.providers.update(provider, update_mask=["rate_limits"])
    try:
        await embed(gateway, TITAN, TEXTS)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embed(gateway, TITAN, TEXTS[:1])

        failure = read_failure(caught.value)
        assert (failure.reason, failure.metadata["owner"]) == ("RATE_LIMIT_EXCEEDED", "providers/aws")
        assert len(bedrock.exchanges) == len(TEXTS)
    finally:
        provider.ClearField("rate_limits")
        await admin.providers.update(provider, update_mask=["rate_limits"])


async def test_leaving_closes_all_connections_and_charges_what_was_under_way(
    gateway: Gateway, bedrock: Upstream
) -> None:
    titan = Titan()

    async def stop_at_the_tenth(exchange: Exchange) -> None:
        if len(exchange.json["inputText"]) < 10:
            await titan(exchange)
        else:
            await exchange.gone()

    bedrock.script = stop_at_the_tenth
    user = new_user()
    waiting = embed(gateway, TITAN, TEXTS, end_user_id=user)
    async with asyncio.timeout(5):
        while sum(len(each.json["inputText"]) >= 10 for each in bedrock.exchanges) < 8:
            await asyncio.sleep(0.005)

    waiting.cancel()

    await bedrock.settled()
    record = await gateway.ledger.wait_one(user)
    assert record.error_reason == "CANCELLED"
    embedded = sum(range(1, 10))
    under_way = sum(-(-length // 4) for length in range(10, 18))
    assert record.usage.input_tokens == embedded + under_way
    assert record.usage.state == UsageState.USAGE_STATE_PARTIAL
    assert len(bedrock.exchanges) == 17


async def test_more_texts_than_cohere_takes_are_several_requests(gateway: Gateway, bedrock: Upstream) -> None:
    async def cohere(exchange: Exchange) -> None:
        texts = exchange.json["texts"]
        vectors = [[float(text)] for text in texts]
        body = json.dumps({"id": "c", "embeddings": vectors, "texts": texts}).encode()
        tokens = {"x-amzn-bedrock-input-token-count": str(len(texts))}
        await exchange.head_of(content_type="application/json", length=len(body), headers=tokens)
        await exchange.send(body)
        await exchange.finish()

    bedrock.script = cohere

    answer = await embed(gateway, COHERE, [str(number) for number in range(200)])

    assert vectors_of(answer) == [[float(number)] for number in range(200)]
    assert sorted(len(each.json["texts"]) for each in bedrock.exchanges) == [8, 96, 96]
    assert (answer.usage.input_tokens, answer.cost.total_nanos) == (200, 200 * NANOS_A_TOKEN)
    assert answer.served_by.provider_model == NAMES["cohere"]


async def test_what_cannot_be_embedded_is_refused_before_anything_is_sent(
    gateway: Gateway, bedrock: Upstream
) -> None:
    request = CreateEmbeddingsRequest(model=TITAN, inputs=[EmbeddingInput(text="a")] * 3)
    request.inputs.add().token_ids.values.append(1)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.client.stubs.embeddings.CreateEmbeddings(request, metadata=gateway.metadata)

    failure = read_failure(caught.value)
    assert failure.reason == "FEATURE_NOT_SUPPORTED"
    assert failure.metadata["feature"] == "embeddings of token ids"
    assert bedrock.exchanges == []


# Chat.


async def test_a_stream_arrives_as_it_comes(gateway: Gateway, bedrock: Upstream) -> None:
    go_on = asyncio.Event()

    async def speak(exchange: Exchange) -> None:
        await exchange.head_of(content_type="application/vnd.amazon.eventstream")
        await exchange.send(event("messageStart", {"role": "assistant"}))
        await exchange.send(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}))
        await go_on.wait()
        await exchange.send(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}}))
        await exchange.send(event("contentBlockStop", {"contentBlockIndex": 0}))
        await exchange.send(event("messageStop", {"stopReason": "end_turn"}))
        usage = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 9, "cacheReadInputTokens": 4}
        await exchange.send(event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}))
        await exchange.finish()

    bedrock.script = speak
    text = ""
    end = None
    async for chunk in gateway.client.stubs.chat.StreamChatCompletion(
        chat_request(model=CLAUDE), metadata=gateway.metadata
    ):
        for each in chunk.events:
            text += each.part_delta.text
            end = each.end if each.HasField("end") else end
        if text == "Hel":
            go_on.set()

    assert text == "Hello"
    assert end is not None
    assert (end.usage.input_tokens, end.usage.cache_read_input_tokens, end.usage.output_tokens) == (7, 4, 2)
    [asked] = bedrock.exchanges
    assert path_of(asked) == f"/model/{NAMES['claude'].replace(':', '%3A')}/converse-stream"


async def test_the_provider_counts_for_the_model_behind_a_profile(
    gateway: Gateway, bedrock: Upstream
) -> None:
    async def count(exchange: Exchange) -> None:
        await send_json(exchange, {"inputTokens": 42})

    bedrock.script = count
    request = CountTokensRequest(model=CLAUDE, messages=chat_request().messages)

    counted = await gateway.client.stubs.chat.CountTokens(request, metadata=gateway.metadata)

    assert (counted.input_tokens, counted.estimated) == (42, False)
    [asked] = bedrock.exchanges
    name = NAMES["claude"].removeprefix("us.").replace(":", "%3A")
    assert path_of(asked) == f"/model/{name}/count-tokens"


async def test_where_aws_does_not_count_the_gateway_estimates(gateway: Gateway, bedrock: Upstream) -> None:
    async def refuse(exchange: Exchange) -> None:
        await send_json(
            exchange, {"message": "The provided model doesn't support counting tokens."}, status=400
        )

    bedrock.script = refuse
    messages = chat_request("x" * 400).messages

    counts = [
        await gateway.client.stubs.chat.CountTokens(
            CountTokensRequest(model=model, messages=messages), metadata=gateway.metadata
        )
        for model in (CLAUDE, "aws/nova")
    ]

    assert [(count.input_tokens, count.estimated) for count in counts] == [(100, True)] * 2
    assert counts[0].served_by.provider_model == NAMES["claude"]
    assert len(bedrock.exchanges) == 1


async def test_a_count_that_fails_is_no_estimate(gateway: Gateway, bedrock: Upstream) -> None:
    async def refuse(exchange: Exchange) -> None:
        await send_json(exchange, {"__type": "AccessDeniedException", "message": "no"}, status=403)

    bedrock.script = refuse
    request = CountTokensRequest(model=CLAUDE, messages=chat_request().messages)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.client.stubs.chat.CountTokens(request, metadata=gateway.metadata)

    assert read_failure(caught.value).reason == "UPSTREAM_CREDENTIAL_REJECTED"
