"""A caller that leaves, or whose time is up, frees the server at once."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

import aigateway
from aigateway.v1.usage_pb2 import UsageState
from tests.support.gateway import Gateway, new_user
from tests.vllm.asking import PROVIDER, Asker
from tests.vllm.server import MODEL, VllmServer

#: So many tokens take the server a minute or more.
MANY = 30_000
#: The model is not allowed to end its answer earlier.
LONG: dict[str, Any] = {
    "max_output_tokens": MANY,
    "temperature": 0,
    "provider_options": {"vllm": {"ignore_eos": True}},
}
QUESTION = "Count to ten."
#: It takes some 50 ms; the rest is for a machine that is busy with other things.
SOON_SECONDS = 5.0


async def test_closing_a_stream_in_the_middle_aborts_the_request(asker: Asker, vllm: VllmServer) -> None:
    await vllm.wait_running(0)
    written = await vllm.written_tokens()
    async with aclosing(asker.stream(MODEL, QUESTION, **LONG)) as events:
        async for event in events:
            if event.HasField("part_delta"):
                break
        await vllm.wait_running(1)
    assert await vllm.wait_running(0) < SOON_SECONDS
    assert 0 < await vllm.written_tokens() - written < MANY


async def test_a_stream_given_up_is_settled_as_cancelled(gateway: Gateway, vllm: VllmServer) -> None:
    end_user = new_user()
    stream = gateway.client.chat.stream(f"{PROVIDER}/{MODEL}", QUESTION, end_user_id=end_user, **LONG)
    async with stream:
        async for event in stream:
            if event.HasField("part_delta"):
                break
    record = await gateway.ledger.wait_one(end_user)
    assert record.error_reason == "CANCELLED"
    assert record.usage.state == UsageState.USAGE_STATE_PARTIAL
    assert 0 < record.usage.output_tokens < MANY
    assert record.cost.total_nanos > 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_deadline_aborts_the_request(gateway: Gateway, vllm: VllmServer, streamed: bool) -> None:
    await vllm.wait_running(0)
    written = await vllm.written_tokens()
    chat, model = gateway.client.chat, f"{PROVIDER}/{MODEL}"
    with pytest.raises(aigateway.DeadlineExceededError):
        if streamed:
            async with chat.stream(model, QUESTION, timeout=2, **LONG) as stream:
                await stream.final_completion()
        else:
            await chat.create(model, QUESTION, timeout=2, **LONG)
    assert await vllm.wait_running(0) < SOON_SECONDS
    assert 0 < await vllm.written_tokens() - written < MANY
