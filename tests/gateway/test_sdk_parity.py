"""The providers' own packages and a whole gateway ask the same of one server, which keeps what it was asked.

The scenarios are those that ``tests/wire`` judges the formats by; here all of it takes part: the caller's
request over gRPC, the pipeline, the endpoint, the transport. What may differ stands with the meanings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import boto3
import grpc
import openai
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import errors as genai_errors
from google.protobuf.json_format import ParseDict

from aigateway import types
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from tests.support import anthropic_meaning, bedrock_meaning, gemini_meaning, openai_meaning
from tests.support.gateway import Gateway, running_gateway
from tests.support.replay_upstream import ReceivedRequest, ReplayUpstream, replay_upstream, whole
from tests.wire.anthropic import test_sdk_judge as anthropic_judge
from tests.wire.azure import test_sdk_judge as azure_judge
from tests.wire.bedrock import test_sdk_judge as bedrock_judge
from tests.wire.gemini import test_sdk_judge as gemini_judge
from tests.wire.openai import test_sdk_judge as openai_judge

KEYS: Final = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
THEIR_ERRORS: Final = (openai.APIError, anthropic.APIError, genai_errors.APIError, ClientError)


@dataclass(frozen=True)
class Case:
    """A scenario of one provider."""

    provider: str
    scenario: Any

    def __str__(self) -> str:
        return f"{self.provider}-{self.scenario.name}"

    @property
    def model(self) -> str:
        """The provider's name of the model that is asked."""
        return getattr(self.scenario, "model", "") or ("my-gpt" if self.provider == "azure" else "gpt-test")


def cases_of(provider: str, scenarios: Iterable[Any]) -> list[Case]:
    return [Case(provider, scenario) for scenario in scenarios]


CASES: Final = [
    *cases_of("anthropic", anthropic_judge.SCENARIOS),
    *cases_of("azure", azure_judge.ALL),
    *cases_of("bedrock", bedrock_judge.SCENARIOS),
    *cases_of("google", gemini_judge.SCENARIOS),
    *cases_of("openai", openai_judge.SCENARIOS),
]

#: Where each kind of request is asked, by provider; a sentence in brackets where it cannot be.
KINDS: Final[dict[str, dict[str, str]]] = {
    "plain": dict.fromkeys(("anthropic", "azure", "bedrock", "google", "openai"), "plain"),
    "stream": dict.fromkeys(("anthropic", "azure", "bedrock", "google", "openai"), "stream"),
    "system": {
        "anthropic": "system, kept for an hour",
        "azure": "system and developer",
        "bedrock": "system, with a cache mark",
        "google": "system and developer",
        "openai": "system and developer",
    },
    "one tool": {
        "anthropic": "one tool",
        "azure": "tools",
        "bedrock": "a tool that must be called",
        "google": "a tool",
        "openai": "tools",
    },
    "parallel calls and their results": {
        "anthropic": "parallel calls and their results",
        "azure": "parallel calls and their results",
        "bedrock": "parallel calls and their results",
        "google": "parallel calls without ids, and their results",
        "openai": "parallel calls and their results",
    },
    "image and document": {
        "anthropic": "images and documents",
        "azure": "image, document and sound",
        "bedrock": "image and document",
        "google": "picture, document, sound and film",
        "openai": "image, document and sound",
    },
    "JSON schema": dict.fromkeys(
        ("anthropic", "azure", "bedrock", "google", "openai"), "an answer that fits a schema"
    ),
    "reasoning on a second turn": {
        "anthropic": "thoughts on a second turn",
        "azure": "[takes none back]",
        "bedrock": "reasoning on a second turn",
        "google": "a second turn after thoughts, signed on the last part",
        "openai": "[takes none back]",
    },
    "a prefix written to a cache, and read": {
        "anthropic": "system, kept for an hour",
        "azure": "[caches by itself]",
        "bedrock": "system, with a cache mark",
        "google": "from the cache",
        "openai": "who asks, and what may be kept",
    },
    "stop sequence": {
        "anthropic": "limit, stop sequences and who asks",
        "azure": "knobs",
        "bedrock": "knobs and stop sequences",
        "google": "knobs",
        "openai": "knobs",
    },
    "several answers": {
        "anthropic": "[gives one]",
        "azure": "knobs",
        "bedrock": "[gives one]",
        "google": "knobs",
        "openai": "knobs",
    },
    "a refusal, sent back": {
        "anthropic": "[writes refusals as text]",
        "azure": "[the scenario has options of OpenAI's own]",
        "bedrock": "[writes refusals as text]",
        "google": "[writes refusals as text]",
        "openai": "reasoning, and a refusal in an earlier turn",
    },
}


def test_every_kind_of_request_is_asked_of_every_provider_that_can_be() -> None:
    names = {(case.provider, case.scenario.name) for case in CASES}

    for kind, places in KINDS.items():
        assert places.keys() == PACKAGES.keys(), kind
        for provider, name in places.items():
            assert name.startswith("[") or (provider, name) in names, (kind, provider, name)


# How each package asks.


def ask_anthropic(case: Case, url: str) -> None:
    with anthropic.Anthropic(api_key="sk-test", base_url=url, max_retries=0) as client:
        surface: Any = client.beta if case.scenario.beta else client
        surface.messages.create(**{"model": case.model, "max_tokens": 4096, **case.scenario.theirs})


def ask_azure(case: Case, url: str) -> None:
    with openai.AzureOpenAI(
        api_key="sk-test", azure_endpoint=url, api_version=azure_judge.VERSION, max_retries=0
    ) as client:
        client.chat.completions.create(model=case.model, **case.scenario.theirs)


def ask_boto3(case: Case, url: str) -> None:
    session = boto3.Session(*KEYS, region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1})
    with closing(session.client("bedrock-runtime", endpoint_url=url, config=config)) as client:
        ask: Any = client.converse_stream if case.scenario.stream else client.converse
        ask(modelId=case.model, **case.scenario.theirs)


def ask_google(case: Case, url: str) -> None:
    options = genai.types.HttpOptions(base_url=url, api_version="v1beta")
    with closing(genai.Client(api_key="sk-test", http_options=options)) as client:
        gemini_judge.ask_for_chat(client, case.scenario)


def ask_openai(case: Case, url: str) -> None:
    with openai.OpenAI(api_key="sk-test", base_url=f"{url}/v1", max_retries=0) as client:
        client.chat.completions.create(model=case.model, **case.scenario.theirs)


PACKAGES: Final[dict[str, Callable[[Case, str], None]]] = {
    "anthropic": ask_anthropic,
    "azure": ask_azure,
    "bedrock": ask_boto3,
    "google": ask_google,
    "openai": ask_openai,
}
MEANINGS: Final[dict[str, Callable[[Any], Any]]] = {
    "anthropic": anthropic_meaning.chat_meaning,
    "azure": openai_meaning.chat_meaning,
    "bedrock": bedrock_meaning.chat_meaning,
    "google": gemini_meaning.chat_meaning,
    "openai": openai_meaning.chat_meaning,
}
#: Headers that must be the same. Of a signature the time differs; Anthropic's package has a newer version and
#: sends its key as a bearer token: see ``tests/wire/anthropic/test_sdk_judge.py``.
HEADERS: Final = {
    "anthropic": ("content-type",),
    "azure": ("content-type", "api-key"),
    "bedrock": ("content-type",),
    "google": ("content-type", "x-goog-api-key"),
    "openai": ("content-type", "authorization"),
}


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[ReplayUpstream]:
    """Refuses everything, so that each side asks once."""
    async with replay_upstream() as running:
        running.replay = whole(400, {"content-type": "application/json"}, b'{"error":{"message":"captured"}}')
        yield running


@pytest.fixture(scope="module")
async def gateway(
    upstream: ReplayUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Has every model that a scenario asks, by its number."""
    async with running_gateway(tmp_path_factory.mktemp("parity") / "state") as running:
        providers = {
            "anthropic": types.Provider(base_url=f"{upstream.url}/v1", credential="sk-test"),
            "azure": types.Provider(
                provider_type="azure_openai", base_url=upstream.url, credential="sk-test"
            ),
            "bedrock": types.Provider(base_url=upstream.url, credential=":".join(KEYS)),
            "google": types.Provider(base_url=upstream.url, credential="sk-test"),
            "openai": types.Provider(base_url=f"{upstream.url}/v1", credential="sk-test"),
        }
        providers["azure"].config.update({"surface": "deployments", "api_version": azure_judge.VERSION})
        providers["bedrock"].config.update({"region": "us-east-1"})
        for provider_id, provider in providers.items():
            provider.provider_type = provider.provider_type or provider_id
            made = await running.client.admin.providers.create(provider, provider_id=provider_id)
            for number, model in enumerate(models_of(provider_id)):
                await running.client.admin.models.create(
                    made.name, types.Model(provider_model=model), model_id=f"m{number}"
                )
        yield running


def models_of(provider: str) -> list[str]:
    return sorted({case.model for case in CASES if case.provider == provider})


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_gateway_asks_what_the_package_asks(
    case: Case, gateway: Gateway, upstream: ReplayUpstream
) -> None:
    upstream.requests.clear()

    with pytest.raises(THEIR_ERRORS):
        await asyncio.to_thread(PACKAGES[case.provider], case, upstream.url)
    await ask_gateway(case, gateway)

    theirs, ours = upstream.requests
    meaning = MEANINGS[case.provider]
    assert meaning(orjson.loads(ours.body)) == meaning(orjson.loads(theirs.body))
    assert (ours.method, ours.path) == (theirs.method, theirs.path.removesuffix("?beta=true"))
    assert told(ours, case.provider) == told(theirs, case.provider)


async def ask_gateway(case: Case, gateway: Gateway) -> None:
    request = ParseDict(case.scenario.ours, CreateChatCompletionRequest())
    request.model = f"{case.provider}/m{models_of(case.provider).index(case.model)}"
    chat = gateway.client.stubs.chat
    with pytest.raises(grpc.aio.AioRpcError):
        if case.scenario.stream:
            async for _ in chat.StreamChatCompletion(request, metadata=gateway.metadata):
                pass
        else:
            await chat.CreateChatCompletion(request, metadata=gateway.metadata)


def told(request: ReceivedRequest, provider: str) -> dict[str, str]:
    return {name: request.headers[name] for name in HEADERS[provider]}
