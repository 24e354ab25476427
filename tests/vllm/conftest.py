"""One vLLM server for all tests here, a gateway in front of it, and the ways to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from tests.support.gateway import Gateway, running_gateway
from tests.vllm.asking import PROVIDER, Ask, Asker, GatewayAsker, WireAsker
from tests.vllm.environment import Environment, make_environment
from tests.vllm.server import MODEL, VllmServer, running_vllm

#: A model that the gateway has been told of and the server does not have.
GHOST = "ghost"
_API_KEY = "key-of-the-vllm-server"
_FIRST_TEST_SECONDS = 3600


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("vllm")
            # The first test waits for the download and the start of the server.
            item.add_marker(pytest.mark.timeout(_FIRST_TEST_SECONDS))


@pytest.fixture(scope="session")
def environment() -> Environment:
    return make_environment()


@pytest.fixture(scope="session")
def vllm(environment: Environment) -> Iterator[VllmServer]:
    arguments = (
        "--enable-auto-tool-choice",
        *("--tool-call-parser", "hermes"),
        # Looks for a thought only where the request asks for one.
        *("--reasoning-parser", "deepseek_v3"),
        # A model that knows no JSON by heart would go on with blanks, which every schema allows.
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    )
    with running_vllm(environment, "generate", *arguments, api_key=_API_KEY) as server:
        yield server


@pytest.fixture(scope="session")
async def gateway(vllm: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway whose administrator has set up the server with a key, a price, and a model too many."""
    folder = tmp_path_factory.mktemp("gateway")
    credential = folder / "credential"
    credential.write_text(vllm.api_key)
    async with running_gateway(folder / "state", credential_dirs=(folder,)) as gateway:
        admin = gateway.client.admin
        await admin.providers.create(
            Provider(provider_type="vllm", base_url=vllm.base_url, credential_ref=f"file:{credential}"),
            provider_id=PROVIDER,
        )
        price = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=2_000_000_000)
        await admin.models.create(f"providers/{PROVIDER}", Model(provider_model=MODEL, price=price))
        await admin.models.create(f"providers/{PROVIDER}", Model(provider_model=GHOST))
        yield gateway


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(params=["wire", "gateway"])
def asker(request: pytest.FixtureRequest, vllm: VllmServer, http: httpx.AsyncClient) -> Asker:
    if request.param == "wire":
        return WireAsker(vllm, http)
    return GatewayAsker(request.getfixturevalue("gateway").client)


@pytest.fixture(params=["whole", "streamed"])
def ask(request: pytest.FixtureRequest, asker: Asker) -> Ask:
    return Ask(asker, streamed=request.param == "streamed")
