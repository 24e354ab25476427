"""Embeddings by the same rules: a clear error for a bad answer, a settled row, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from struct import pack
from typing import Any

import grpc
import pytest

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.usage_pb2 import UsageState
from tests.support.gateway import Gateway, new_user
from tests.support.statuses import read_failure
from tests.support.upstream import MODEL, Exchange, Script, Upstream, send_body, send_json, silent

VECTORS = ([0.5, -0.25], [1.0, 0.0])


def answer(vectors: object = VECTORS, **fields: Any) -> dict[str, Any]:
    assert isinstance(vectors, tuple)
    data = [
        {"object": "embedding", "index": index, "embedding": b64encode(pack("<2f", *vector)).decode()}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return {"object": "list", "data": data, "model": MODEL, "usage": usage, **fields}


def saying(value: object) -> Script:
    async def script(exchange: Exchange) -> None:
        await send_json(exchange, value)

    return script


def call(gateway: Gateway, end_user_id: str) -> Any:
    inputs = [EmbeddingInput(text="one and one"), EmbeddingInput(text="two")]
    request = CreateEmbeddingsRequest(model=MODEL, inputs=inputs, end_user_id=end_user_id)
    return gateway.client.stubs.embeddings.CreateEmbeddings(request, metadata=gateway.metadata, timeout=20)


async def test_embeddings_are_answered_and_accounted_for(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = saying(answer())
    end_user_id = new_user()
    embedded = await call(gateway, end_user_id)
    assert [list(each.float_vector.values) for each in embedded.embeddings] == [list(v) for v in VECTORS]
    row = await gateway.ledger.wait_one(end_user_id)
    assert row.method == "CreateEmbeddings"
    assert (row.usage.input_tokens, row.usage.total_tokens) == (4, 4)
    assert row.usage == embedded.usage


async def html(exchange: Exchange) -> None:
    await send_body(exchange, b"<html>hello</html>", content_type="text/html")


async def half(exchange: Exchange) -> None:
    await exchange.head_of(content_type="application/json", length=1000)
    await exchange.send(json.dumps(answer()).encode()[:50])


async def forbidden(exchange: Exchange) -> None:
    await send_json(exchange, {"error": {"message": "no"}}, status=403)


BAD: dict[str, tuple[Script, str]] = {
    "HTML": (html, "UPSTREAM_PROTOCOL_ERROR"),
    "half an answer": (half, "UPSTREAM_PROTOCOL_ERROR"),
    "one vector for two inputs": (saying(answer(VECTORS[:1])), "UPSTREAM_PROTOCOL_ERROR"),
    "a vector that is no vector": (
        saying(answer(data=[{"index": 0, "embedding": "?"}, {"index": 1, "embedding": "?"}])),
        "UPSTREAM_PROTOCOL_ERROR",
    ),
    "negative token counts": (
        saying(answer(usage={"prompt_tokens": -4, "total_tokens": -4})),
        "UPSTREAM_PROTOCOL_ERROR",
    ),
    "an answer to a chat": (saying({"choices": []}), "UPSTREAM_PROTOCOL_ERROR"),
    "silence": (silent, "UPSTREAM_TIMEOUT"),
    "a refused credential": (forbidden, "UPSTREAM_CREDENTIAL_REJECTED"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_is_an_error_with_a_reason_and_a_settled_row(
    gateway: Gateway, upstream: Upstream, name: str
) -> None:
    upstream.script, reason = BAD[name]
    end_user_id = new_user()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(gateway, end_user_id)
    assert read_failure(caught.value).reason == reason
    await upstream.settled()
    row = await gateway.ledger.wait_one(end_user_id)
    assert row.error_reason == reason
    billed = reason != "UPSTREAM_CREDENTIAL_REJECTED"
    assert (row.usage.state == UsageState.USAGE_STATE_PARTIAL) is billed
    assert (row.usage.input_tokens > 0) is billed


async def test_leaving_closes_the_providers_connection_at_once(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = silent
    end_user_id = new_user()
    waiting = call(gateway, end_user_id)
    exchange = await upstream.next()
    left_at = time.monotonic()
    waiting.cancel()
    async with asyncio.timeout(5):
        assert await exchange.gone() - left_at < 0.5
    row = await gateway.ledger.wait_one(end_user_id)
    assert row.error_reason == "CANCELLED"
    assert row.usage.state == UsageState.USAGE_STATE_PARTIAL
