"""The openai package's own requests to Azure mean what ours mean, on each surface it knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from gateway_server.providers.base import Endpoint
from gateway_server.providers.registry import build_endpoint
from tests.support.openai_meaning import chat_meaning, embeddings_meaning
from tests.support.wire import make_target
from tests.wire.openai.test_sdk_judge import SCENARIOS, Scenario, assert_same_request, capture

RESOURCE = "https://name.openai.azure.com"
MODEL = "my-gpt"
TARGET = make_target("azure_openai", MODEL)
VERSION = "2025-04-01-preview"
KEY = "sk-azure"

#: Those that ask for what only OpenAI itself has: web search, its safety identifier, its own options.
OPENAI_ONLY = {"who asks, and what may be kept", "web search", "reasoning, and a refusal in an earlier turn"}
ALL = [scenario for scenario in SCENARIOS if scenario.name not in OPENAI_ONLY]

#: Makes the package's client.
MakeClient = Callable[[Any], openai.OpenAI]


@dataclass(frozen=True, slots=True)
class Surface:
    """A way to reach a resource: our settings, and the client of the package for the same."""

    name: str
    config: dict[str, object]
    client: MakeClient

    def endpoint(self) -> Endpoint:
        return build_endpoint("azure_openai", RESOURCE, lambda: KEY, self.config)


def _azure(http_client: Any, **credential: Any) -> openai.OpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=RESOURCE, api_version=VERSION, max_retries=0, http_client=http_client, **credential
    )


SURFACES = [
    Surface(
        "deployments",
        {"surface": "deployments", "api_version": VERSION},
        lambda http_client: _azure(http_client, api_key=KEY),
    ),
    Surface(
        "deployments with an Entra token",
        {"surface": "deployments", "api_version": VERSION, "auth": "entra"},
        lambda http_client: _azure(http_client, azure_ad_token=KEY),
    ),
    # The package has no client for Azure's new surface: it is its own, at another address.
    Surface(
        "v1",
        {"auth": "entra"},
        lambda http_client: openai.OpenAI(
            api_key=KEY, base_url=f"{RESOURCE}/openai/v1", max_retries=0, http_client=http_client
        ),
    ),
]
each_surface = pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)


@each_surface
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_chat_means_what_the_openai_package_means(scenario: Scenario, surface: Surface) -> None:
    theirs = capture(
        lambda client: client.chat.completions.create(model=MODEL, **scenario.theirs), surface.client
    )
    endpoint = surface.endpoint()
    assert endpoint.chat_format is not None
    request = ParseDict(scenario.ours, CreateChatCompletionRequest())
    body = endpoint.chat_format.render_chat(request, TARGET, stream=scenario.stream)
    ours = endpoint.chat_call(TARGET, body, stream=scenario.stream)

    assert chat_meaning(orjson.loads(ours.body)) == chat_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


@each_surface
def test_embeddings_mean_what_the_openai_package_means(surface: Surface) -> None:
    theirs = capture(
        lambda client: client.embeddings.create(model=MODEL, input=["a", "b"], user="u"), surface.client
    )
    endpoint = surface.endpoint()
    assert endpoint.embeddings_format is not None
    request = ParseDict(
        {"inputs": [{"text": "a"}, {"text": "b"}], "endUserId": "u"}, CreateEmbeddingsRequest()
    )
    ours = endpoint.embeddings_call(TARGET, endpoint.embeddings_format.render_embeddings(request, TARGET))

    assert embeddings_meaning(orjson.loads(ours.body)) == embeddings_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


@each_surface
def test_the_check_asks_what_the_openai_package_asks(surface: Surface) -> None:
    assert_same_request(
        surface.endpoint().check_call(), capture(lambda client: client.models.list(), surface.client)
    )
