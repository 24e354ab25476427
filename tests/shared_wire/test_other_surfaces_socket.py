"""Embeddings, counts and lists of models over a real socket, whoever the provider is, cut anyhow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint, Endpoint, HttpCall, PreparedEndpoint
from gateway_server.providers.registry import build_endpoint
from gateway_server.providers.transport import Transport, TransportError
from tests.shared_wire import anthropic_cases, bedrock_cases, gemini_cases, openai_cases
from tests.support import anthropic_requests, bedrock_requests, gemini_requests, openai_requests
from tests.support.asking import fetch
from tests.support.recorded import RecordedCase
from tests.support.replay_upstream import ReplayUpstream, at_random, byte_by_byte, cut_after, whole
from tests.support.wire import make_target

KEYS = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

Read = Callable[[bytes], Any]


@dataclass(frozen=True)
class Asked:
    """A recorded exchange, and what is asked and read for it."""

    provider: str
    surface: str
    case: RecordedCase

    def __str__(self) -> str:
        return f"{self.provider}-{self.case.name}"

    def prepare(self, url: str) -> tuple[HttpCall, Read]:
        """The call of the gateway, and how its answer is read."""
        endpoint = self._endpoint(url)
        match self.surface:
            case "models":
                return endpoint.check_call(), endpoint.parse_check
            case "counts":
                return self._count(endpoint)
            case _:
                return self._embed(endpoint)

    def _endpoint(self, url: str) -> Endpoint:
        config: dict[str, Any] = {}
        match self.provider:
            case "azure_openai":
                config = openai_cases.config_of(self.provider, self.case)
            case "bedrock":
                config = {"region": "us-east-1"}
            case "anthropic" | "openai" | "vllm":
                url = f"{url}/v1"
        built = build_endpoint(self.provider, url, lambda: KEYS, config)
        if isinstance(built, PreparedEndpoint):
            built.prepare()
        return built

    def _count(self, endpoint: Endpoint) -> tuple[HttpCall, Read]:
        assert isinstance(endpoint, CountTokensEndpoint)
        assert self.case.request is not None
        match self.provider:
            case "anthropic":
                model = str(self.case.request["model"])
                request = anthropic_requests.to_count_request(self.case.request)
            case "bedrock":
                model = bedrock_cases.model_of(self.case)
                request = bedrock_requests.to_count_request(self.case.request)
            case _:
                model = gemini_cases.model_of(self.case)
                request = gemini_requests.to_count_request(self.case.request, model)
        target, wire_format = make_target(self.provider, model), endpoint.count_format
        call = endpoint.count_call(target, wire_format.render_count(request, target))
        return call, lambda body: wire_format.parse_count(body, target)

    def _embed(self, endpoint: Endpoint) -> tuple[HttpCall, Read]:
        wire_format = endpoint.embeddings_format
        assert wire_format is not None
        assert self.case.request is not None
        match self.provider:
            case "bedrock":
                model = bedrock_cases.model_of(self.case)
                request = bedrock_requests.to_embeddings_request(self.case.request)
            case "google":
                model = gemini_cases.model_of(self.case)
                request = gemini_requests.to_embeddings_request(self.case.request, model)
            case _:
                model = openai_cases.model_of(self.case)
                request = openai_requests.to_embeddings_request(self.case.request)
        target = make_target(self.provider, model)
        call = endpoint.embeddings_call(target, wire_format.render_embeddings(request, target))
        return call, lambda body: wire_format.parse_embeddings(
            body, request, target, headers=self.case.headers
        )


ALL = [
    *(Asked("anthropic", "models", case) for case in anthropic_cases.cases_of("models")),
    *(Asked("anthropic", "counts", case) for case in anthropic_cases.cases_of("count_tokens")),
    *(Asked("bedrock", "embeddings", case) for case in bedrock_cases.cases_of("embeddings-invoke")),
    *(
        Asked("bedrock", "counts", case)
        for case in bedrock_cases.cases_of("count_tokens")
        if case.name not in bedrock_cases.NO_REQUEST
    ),
    *(Asked("google", "embeddings", case) for case in gemini_cases.cases_of("embeddings")),
    *(Asked("google", "counts", case) for case in gemini_cases.cases_of("count_tokens")),
    *(Asked(provider, "models", case) for provider, case in openai_cases.cases_of("models")),
    *(Asked(provider, "embeddings", case) for provider, case in openai_cases.cases_of("embeddings")),
]
ANSWERED = [asked for asked in ALL if asked.case.status == 200]


@pytest.mark.parametrize("asked", ANSWERED, ids=str)
async def test_answers_in_any_pieces(asked: Asked, upstream: ReplayUpstream, transport: Transport) -> None:
    case = asked.case
    call, read = await asyncio.to_thread(asked.prepare, upstream.url)
    told = (case.status, case.headers, case.body)
    expected = read(case.body)

    for replay in (whole(*told), at_random(*told, Random(case.name)), byte_by_byte(*told)):
        upstream.replay = replay
        status, body = await fetch(call, transport)
        assert status == 200
        assert read(body) == expected


@pytest.mark.parametrize("asked", ANSWERED, ids=str)
async def test_answers_that_are_cut_are_errors(
    asked: Asked, upstream: ReplayUpstream, transport: Transport
) -> None:
    case = asked.case
    call, read = await asyncio.to_thread(asked.prepare, upstream.url)
    random = Random(case.name)

    for length in (0, random.randrange(len(case.body)), len(case.body) - 1, len(case.body)):
        upstream.replay = cut_after(case.status, case.headers, case.body, length)
        with pytest.raises((GatewayError, TransportError)):
            read((await fetch(call, transport))[1])
