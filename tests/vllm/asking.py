"""Ways to put a question to the model: through the wire format alone, or through the whole gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx

import aigateway
from aigateway import AsyncClient, chat_request, fold_events
from aigateway.options import Conversation
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from aigateway.v1.model_pb2 import Model
from gateway_server.errors import GatewayError
from gateway_server.providers.base import ChatFormat, HttpCall, Target
from gateway_server.providers.registry import build_endpoint
from tests.vllm.server import MODEL, VllmServer

PROVIDER: Final = "local"


class RefusedError(Exception):
    """A question that failed: the reason of the contract and the values behind the message."""

    def __init__(self, reason: str, message: str, metadata: dict[str, str]) -> None:
        super().__init__(f"{reason}: {message} {metadata}")
        self.reason = reason
        self.message = message
        self.metadata = metadata


class Asker(Protocol):
    """One way to the model; ``options`` as in ChatOptions. Failures are RefusedError."""

    async def complete(self, model: str, messages: Conversation, **options: Any) -> ChatCompletion:
        """The whole answer."""
        ...

    def stream(self, model: str, messages: Conversation, **options: Any) -> AsyncGenerator[ChatEvent, None]:
        """The events of a streamed answer; closing the iterator gives the answer up."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayAsker:
    """Through the gateway over gRPC, with the Python SDK."""

    client: AsyncClient

    async def complete(self, model: str, messages: Conversation, **options: Any) -> ChatCompletion:
        try:
            return await self.client.chat.create(f"{PROVIDER}/{model}", messages, **options)
        except aigateway.GatewayError as error:
            raise RefusedError(error.reason, error.message, error.metadata) from None

    async def stream(
        self, model: str, messages: Conversation, **options: Any
    ) -> AsyncGenerator[ChatEvent, None]:
        try:
            async with self.client.chat.stream(f"{PROVIDER}/{model}", messages, **options) as stream:
                async for event in stream:
                    yield event
        except aigateway.GatewayError as error:
            raise RefusedError(error.reason, error.message, error.metadata) from None


class WireAsker:
    """Through the endpoint and the wire format, with a plain HTTP client in place of all the rest."""

    def __init__(self, server: VllmServer, client: httpx.AsyncClient) -> None:
        self._endpoint = build_endpoint("vllm", server.base_url, lambda: server.api_key, {})
        self._client = client

    @property
    def _format(self) -> ChatFormat:
        chat_format = self._endpoint.chat_format
        assert chat_format is not None
        return chat_format

    async def complete(self, model: str, messages: Conversation, **options: Any) -> ChatCompletion:
        try:
            target, call = self._call(model, messages, options, stream=False)
            response = await self._client.send(_to_httpx(call))
            if response.status_code != 200:
                raise self._format.parse_error(
                    response.status_code, dict(response.headers), response.content, target
                )
            return self._format.parse_chat(response.content, target)
        except GatewayError as error:
            raise RefusedError(error.reason_name, error.message, error.metadata) from error

    async def stream(
        self, model: str, messages: Conversation, **options: Any
    ) -> AsyncGenerator[ChatEvent, None]:
        try:
            target, call = self._call(model, messages, options, stream=True)
            request = _to_httpx(call)
            async with aclosing(await self._client.send(request, stream=True)) as response:
                if response.status_code != 200:
                    raise self._format.parse_error(
                        response.status_code, dict(response.headers), await response.aread(), target
                    )
                parser = self._format.chat_stream(target)
                async for piece in response.aiter_raw():
                    for event in parser.feed(piece):
                        yield event
                for event in parser.close():
                    yield event
        except GatewayError as error:
            raise RefusedError(error.reason_name, error.message, error.metadata) from error

    def _call(
        self, model: str, messages: Conversation, options: Any, *, stream: bool
    ) -> tuple[Target, HttpCall]:
        target = Target(provider_id=PROVIDER, provider_type="vllm", provider_model=model, model=Model())
        request = chat_request(model, messages, **options)
        body = self._format.render_chat(request, target, stream=stream)
        return target, self._endpoint.chat_call(target, body, stream=stream)


def _to_httpx(call: HttpCall) -> httpx.Request:
    return httpx.Request(call.method, call.url, headers=list(call.headers), content=call.body)


@dataclass(frozen=True, slots=True)
class Ask:
    """Puts a question in one way, whole or streamed, and gives the answer; greedily unless told else."""

    asker: Asker
    streamed: bool

    async def __call__(self, messages: Conversation, *, model: str = MODEL, **options: Any) -> ChatCompletion:
        options = {"temperature": 0, "max_output_tokens": 200} | options
        if not self.streamed:
            return await self.asker.complete(model, messages, **options)
        async with aclosing(self.asker.stream(model, messages, **options)) as events:
            return fold_events([event async for event in events])
