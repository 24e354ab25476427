"""Google behind a whole gateway: chat, counts, embeddings, and what a cut stream costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from aigateway.v1.chat_service_pb2 import CountTokensRequest, FinishReason
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.usage_pb2 import UsageState
from tests.support.gateway import Gateway, chat_request, new_user, running_gateway
from tests.support.replay_upstream import ReplayUpstream, cut_after, replay_upstream, whole
from tests.support.statuses import read_failure

MODEL = "gemini/gemini-test"
WORDS = "word " * 100
EVENTS = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json; charset=UTF-8"}


def answer(*parts: dict[str, Any], reason: str | None = "STOP", output: int | None = 120) -> dict[str, Any]:
    usage = {"promptTokenCount": 15, **({} if output is None else {"candidatesTokenCount": output})}
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if reason is not None:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-test-001",
        "responseId": "r1",
    }


def to_events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\r\n\r\n" for chunk in chunks)


@pytest.fixture
async def upstream() -> AsyncIterator[ReplayUpstream]:
    async with replay_upstream() as running:
        yield running


@pytest.fixture
async def gateway(
    upstream: ReplayUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("GEMINI_API_KEY", "sk-test")
    async with running_gateway(tmp_path / "state") as running:
        provider = Provider(
            provider_type="google", base_url=upstream.url, credential_ref="env:GEMINI_API_KEY"
        )
        made = await running.client.admin.providers.create(provider, provider_id="gemini")
        await running.client.admin.models.create(made.name, Model(), model_id="gemini-test")
        yield running


async def test_an_answer_whole(gateway: Gateway, upstream: ReplayUpstream) -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}
    upstream.replay = whole(200, JSON, orjson.dumps(answer({"text": WORDS}, call)))

    completion = await gateway.client.stubs.chat.CreateChatCompletion(
        chat_request(model=MODEL), metadata=gateway.metadata
    )

    sent = upstream.requests[-1]
    assert sent.path == "/v1beta/models/gemini-test:generateContent"
    assert sent.headers["x-goog-api-key"] == "sk-test"
    words, called = completion.choices[0].message.parts
    assert words.text.text == WORDS
    assert called.tool_call.tool_call_id == "aigw_r1_0_0"
    assert called.provider_signature == b"gemini:s"
    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (15, 120)


async def test_an_answer_streamed(gateway: Gateway, upstream: ReplayUpstream) -> None:
    upstream.replay = whole(
        200, EVENTS, to_events(answer({"text": "Hel"}, reason=None, output=None), answer({"text": "lo"}))
    )

    chunks = gateway.client.stubs.chat.StreamChatCompletion(
        chat_request(model=MODEL), metadata=gateway.metadata
    )
    events = [event async for chunk in chunks for event in chunk.events]

    assert upstream.requests[-1].path == "/v1beta/models/gemini-test:streamGenerateContent?alt=sse"
    assert "".join(event.part_delta.text for event in events) == "Hello"
    assert events[-1].end.usage.total_tokens == 135


async def test_a_stream_that_is_cut_costs_at_least_what_was_read(
    gateway: Gateway, upstream: ReplayUpstream
) -> None:
    """Many models count their output only with the last event."""
    first = answer({"text": WORDS}, reason=None, output=None)
    body = to_events(first, answer({"text": "."}))
    upstream.replay = cut_after(200, EVENTS, body, len(to_events(first)))
    user = new_user()

    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in gateway.client.stubs.chat.StreamChatCompletion(
            chat_request(model=MODEL, end_user_id=user), metadata=gateway.metadata
        ):
            pass

    record = await gateway.ledger.wait_one(user)
    assert record.usage.state == UsageState.USAGE_STATE_PARTIAL
    assert record.usage.input_tokens == 15
    assert record.usage.output_tokens == len(WORDS) // 4


async def test_a_blocked_prompt_is_an_answer(gateway: Gateway, upstream: ReplayUpstream) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 3},
    }
    upstream.replay = whole(200, JSON, orjson.dumps(blocked))

    completion = await gateway.client.stubs.chat.CreateChatCompletion(
        chat_request(model=MODEL), metadata=gateway.metadata
    )

    assert completion.choices[0].finish.reason == FinishReason.FINISH_REASON_CONTENT_FILTER
    assert completion.usage.total_tokens == 3


async def test_a_rejected_key_is_the_operators_matter(gateway: Gateway, upstream: ReplayUpstream) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    error = {"code": 400, "message": "secret words", "status": "INVALID_ARGUMENT", "details": details}
    upstream.replay = whole(400, JSON, orjson.dumps({"error": error}))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.client.stubs.chat.CreateChatCompletion(
            chat_request(model=MODEL), metadata=gateway.metadata
        )

    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "secret words" not in str(caught.value)
    check = await gateway.client.admin.providers.check("providers/gemini")
    assert (check.healthy, check.error_reason) == (False, "UPSTREAM_CREDENTIAL_REJECTED")
    assert upstream.requests[-1].path == "/v1beta/models?pageSize=1000"


async def test_the_provider_counts(gateway: Gateway, upstream: ReplayUpstream) -> None:
    upstream.replay = whole(200, JSON, b'{"totalTokens":42}')
    request = CountTokensRequest(model=MODEL, messages=chat_request().messages)

    count = await gateway.client.stubs.chat.CountTokens(request, metadata=gateway.metadata)

    assert (count.input_tokens, count.estimated) == (42, False)
    assert upstream.requests[-1].path == "/v1beta/models/gemini-test:countTokens"


async def test_embeddings_without_a_usage_are_estimated(gateway: Gateway, upstream: ReplayUpstream) -> None:
    upstream.replay = whole(200, JSON, b'{"embeddings":[{"values":[0.5]},{"values":[1]}]}')
    request = CreateEmbeddingsRequest(
        model=MODEL, inputs=[EmbeddingInput(text="twelve chars"), EmbeddingInput(text="four")]
    )

    response = await gateway.client.stubs.embeddings.CreateEmbeddings(request, metadata=gateway.metadata)

    assert [list(each.float_vector.values) for each in response.embeddings] == [[0.5], [1]]
    assert (response.usage.input_tokens, response.usage.state) == (4, UsageState.USAGE_STATE_ESTIMATED)
    assert upstream.requests[-1].path == "/v1beta/models/gemini-test:batchEmbedContents"


async def test_more_inputs_than_a_batch_takes_are_several_batches(
    gateway: Gateway, upstream: ReplayUpstream
) -> None:
    batch = {"embeddings": [{"values": [0.5]}] * 100, "usageMetadata": {"promptTokenCount": 300}}
    upstream.replay = whole(200, JSON, orjson.dumps(batch))
    request = CreateEmbeddingsRequest(model=MODEL, inputs=[EmbeddingInput(text="a")] * 200)

    response = await gateway.client.stubs.embeddings.CreateEmbeddings(request, metadata=gateway.metadata)

    assert [each.index for each in response.embeddings] == list(range(200))
    assert (response.usage.input_tokens, response.usage.total_tokens) == (600, 600)
    assert [len(orjson.loads(each.body)["requests"]) for each in upstream.requests] == [100, 100]
    assert len(response.attempts) == 1


async def test_a_fault_in_a_later_batch_names_the_input_as_the_caller_knows_it(
    gateway: Gateway, upstream: ReplayUpstream
) -> None:
    request = CreateEmbeddingsRequest(model=MODEL, inputs=[EmbeddingInput(text="a")] * 120)
    request.inputs.add().content.parts.add().image.source.inline_text = "no picture"

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.client.stubs.embeddings.CreateEmbeddings(request, metadata=gateway.metadata)

    [field] = read_failure(caught.value).violations
    assert field.startswith("inputs[120].content.parts[0].image")
    assert upstream.requests == []
