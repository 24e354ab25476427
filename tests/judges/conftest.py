"""One gateway for the suite, whose providers are the judges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aigateway import GatewayError, types
from aigateway.types import Provider
from tests.gateway.callers import Caller
from tests.judges.processes import AIMOCK_KEY, Aimock, LLMock, running_aimock, running_llmock
from tests.support.gateway import Gateway, running_gateway


@pytest.fixture(scope="package")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Patience is short, so that what waits for it ends soon."""
    async with running_gateway(
        tmp_path_factory.mktemp("judged") / "state",
        upstream_first_byte_seconds=1.0,
        upstream_idle_seconds=1.0,
    ) as gateway:
        yield gateway


@pytest.fixture(scope="package")
async def started_aimock(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aimock]:
    async with running_aimock(tmp_path_factory.mktemp("aimock")) as judge:
        for provider_type in ("openai", "vllm"):
            await add_provider(
                gateway,
                f"aimock-{provider_type}",
                Provider(provider_type=provider_type, base_url=judge.base_url, credential=AIMOCK_KEY),
            )
        yield judge


@pytest.fixture
async def aimock(started_aimock: Aimock) -> Aimock:
    await started_aimock.reset()
    return started_aimock


@pytest.fixture(scope="package")
async def started_llmock(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LLMock]:
    async with running_llmock(tmp_path_factory.mktemp("llmock")) as judge:
        await add_provider(gateway, "llmock", Provider(provider_type="vllm", base_url=judge.base_url))
        yield judge


@pytest.fixture
async def llmock(started_llmock: LLMock) -> LLMock:
    await started_llmock.reset()
    return started_llmock


@pytest.fixture(params=["unary", "stream"])
def caller(request: pytest.FixtureRequest, gateway: Gateway) -> Caller:
    return Caller(gateway.client, streams=request.param == "stream")


@pytest.fixture
def streaming(gateway: Gateway) -> Caller:
    return Caller(gateway.client, streams=True)


async def add_provider(gateway: Gateway, provider_id: str, provider: Provider) -> None:
    """A provider with a model for chat and one for embeddings, as an operator adds them."""
    admin = gateway.client.admin
    made = await admin.providers.create(provider, provider_id=provider_id)
    checked = await admin.providers.check(made.name)
    assert checked.healthy, checked.error_message
    assert "gpt-4o" in checked.provider_models
    price = types.Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=3_000_000_000)
    for model_id in ("chat", "embeddings"):
        model = types.Model(provider_model=f"{model_id}-model", price=price)
        await admin.models.create(made.name, model, model_id=model_id)
    # What is written is served once the catalog has been loaded anew.
    async with asyncio.timeout(10):
        while not await _is_known(gateway, f"{provider_id}/embeddings"):
            await asyncio.sleep(0.02)


async def _is_known(gateway: Gateway, model: str) -> bool:
    try:
        await gateway.client.embeddings.create(model, "anybody there?")
    except GatewayError as error:
        return error.reason != "MODEL_NOT_FOUND"
    return True
