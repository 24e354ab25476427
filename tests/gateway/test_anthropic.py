"""Anthropic behind a whole gateway: betas as a header, counts by the provider, what a cut stream costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import orjson
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import CountTokensRequest
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.usage_pb2 import UsageState
from tests.support.anthropic_events import events_of, to_events
from tests.support.gateway import Gateway, chat_request, new_user, running_gateway
from tests.support.replay_upstream import ReplayUpstream, cut_after, replay_upstream, whole

MODEL = "claude/claude-test"
WORDS = "word " * 100
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-test-1",
    "content": [{"type": "text", "text": WORDS}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 120},
}
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


@pytest.fixture
async def upstream() -> AsyncIterator[ReplayUpstream]:
    async with replay_upstream() as running:
        yield running


@pytest.fixture
async def gateway(
    upstream: ReplayUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    async with running_gateway(tmp_path / "state") as running:
        provider = Provider(
            provider_type="anthropic", base_url=f"{upstream.url}/v1", credential_ref="env:ANTHROPIC_API_KEY"
        )
        made = await running.client.admin.providers.create(provider, provider_id="claude")
        await running.client.admin.models.create(made.name, Model(), model_id="claude-test")
        yield running


def options() -> dict[str, Struct]:
    return {"anthropic": ParseDict({"betas": ["files-api-2025-04-14"], "service_tier": "auto"}, Struct())}


async def test_an_answer_whole(gateway: Gateway, upstream: ReplayUpstream) -> None:
    upstream.replay = whole(200, JSON, orjson.dumps(ANSWER))
    request = chat_request(model=MODEL, provider_options=options())

    answer = await gateway.client.stubs.chat.CreateChatCompletion(request, metadata=gateway.metadata)

    sent = upstream.requests[-1]
    assert sent.path == "/v1/messages"
    assert sent.headers["x-api-key"] == "sk-test"
    assert sent.headers["anthropic-beta"] == "files-api-2025-04-14"
    assert "betas" not in orjson.loads(sent.body)
    assert answer.choices[0].message.parts[0].text.text == WORDS
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (15, 120)


async def test_an_answer_streamed(gateway: Gateway, upstream: ReplayUpstream) -> None:
    upstream.replay = whole(200, EVENTS, to_events(events_of(ANSWER)))
    request = chat_request(model=MODEL, provider_options=options())

    chunks = gateway.client.stubs.chat.StreamChatCompletion(request, metadata=gateway.metadata)
    events = [event async for chunk in chunks for event in chunk.events]

    assert upstream.requests[-1].headers["anthropic-beta"] == "files-api-2025-04-14"
    assert "".join(event.part_delta.text for event in events) == WORDS
    assert events[-1].end.usage.total_tokens == 135


async def test_a_stream_that_is_cut_costs_at_least_what_was_read(
    gateway: Gateway, upstream: ReplayUpstream
) -> None:
    """The provider tells its input at once, but of the output only that it has begun."""
    body = to_events(events_of(ANSWER))
    upstream.replay = cut_after(200, EVENTS, body, body.rindex(b"event: content_block_stop"))
    user = new_user()
    request = chat_request(model=MODEL, end_user_id=user)

    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in gateway.client.stubs.chat.StreamChatCompletion(request, metadata=gateway.metadata):
            pass

    record = await gateway.ledger.wait_one(user)
    assert record.usage.state == UsageState.USAGE_STATE_PARTIAL
    assert record.usage.input_tokens == 15
    assert record.usage.output_tokens == len(WORDS) // 4


async def test_the_provider_counts(gateway: Gateway, upstream: ReplayUpstream) -> None:
    upstream.replay = whole(200, JSON, b'{"input_tokens":42}')
    request = CountTokensRequest(model=MODEL, messages=chat_request().messages, provider_options=options())

    count = await gateway.client.stubs.chat.CountTokens(request, metadata=gateway.metadata)

    assert (count.input_tokens, count.estimated) == (42, False)
    assert count.served_by.provider == "providers/claude"
    assert upstream.requests[-1].path == "/v1/messages/count_tokens"
    assert upstream.requests[-1].headers["anthropic-beta"] == "files-api-2025-04-14"
    assert orjson.loads(upstream.requests[-1].body).keys() == {"model", "messages"}
