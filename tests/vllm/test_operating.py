"""The operator's side: looking at the server, its credential, and what its calls leave in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

import aigateway
from aigateway.v1.provider_pb2 import Provider
from tests.support.gateway import Gateway, free_port, new_user
from tests.vllm.asking import PROVIDER
from tests.vllm.server import MODEL, VllmServer

TINY = f"{PROVIDER}/{MODEL}"


async def test_a_check_lists_the_models_of_the_server(gateway: Gateway) -> None:
    checked = await gateway.client.admin.providers.check(f"providers/{PROVIDER}")
    assert checked.healthy, checked.error_message
    assert list(checked.provider_models) == [MODEL]


async def test_a_wrong_credential_is_told_as_such(gateway: Gateway, vllm: VllmServer) -> None:
    provider = Provider(provider_type="vllm", base_url=vllm.base_url, credential="not-the-key")
    made = await gateway.client.admin.providers.create(provider, provider_id="locked-out")
    checked = await gateway.client.admin.providers.check(made.name)
    assert not checked.healthy
    assert checked.error_reason == "UPSTREAM_CREDENTIAL_REJECTED"
    assert "not-the-key" not in checked.error_message


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_is_in_the_ledger_with_usage_and_cost(gateway: Gateway, streamed: bool) -> None:
    end_user = new_user()
    chat, question = gateway.client.chat, "What is the capital of France?"
    if streamed:
        async with chat.stream(TINY, question, temperature=0, end_user_id=end_user) as stream:
            completion = await stream.final_completion()
    else:
        completion = await chat.create(TINY, question, temperature=0, end_user_id=end_user)
    record = await gateway.ledger.wait_one(end_user)
    assert record.usage == completion.usage
    assert record.cost == completion.cost
    # The prices of the gateway fixture, in nanos a token.
    assert record.cost.total_nanos == 1000 * record.usage.input_tokens + 2000 * record.usage.output_tokens
    [attempt] = record.attempts
    assert (attempt.provider, attempt.provider_model, attempt.http_status) == (
        f"providers/{PROVIDER}",
        MODEL,
        200,
    )
    assert record.served_by.provider_response_id == completion.served_by.provider_response_id


async def test_embeddings_of_a_server_that_only_writes_are_refused(gateway: Gateway) -> None:
    with pytest.raises(aigateway.UpstreamError) as refused:
        await gateway.client.embeddings.create(TINY, "hello")
    assert refused.value.reason == "UPSTREAM_REJECTED"
    assert refused.value.metadata["provider"] == f"providers/{PROVIDER}"
    assert refused.value.metadata["http_status"] == "404"


async def test_a_server_that_is_gone_is_unavailable(gateway: Gateway, tmp_path: Path) -> None:
    provider = Provider(provider_type="vllm", base_url=f"http://127.0.0.1:{free_port()}")
    made = await gateway.client.admin.providers.create(provider, provider_id="gone")
    checked = await gateway.client.admin.providers.check(made.name)
    assert not checked.healthy
    assert checked.error_reason == "UPSTREAM_UNAVAILABLE"
