"""The recorded answers of the OpenAI family over a real socket: endpoint, transport and format together."""

from random import Random

import orjson
import pytest

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Endpoint, HttpCall, Target
from gateway_server.providers.registry import build_endpoint
from gateway_server.providers.transport import Timeouts, Transport, TransportError
from tests.shared_wire.openai_cases import NO_REQUEST, cases_of, config_of, model_of, name_of, path_of
from tests.support.openai_requests import to_chat_request, to_embeddings_request
from tests.support.recorded import RecordedCase
from tests.support.replay_upstream import (
    ReplayUpstream,
    at_random,
    byte_by_byte,
    cut_after,
    whole,
)
from tests.support.wire import chat_format, fold_stream, make_target

TIMEOUTS = Timeouts(connect=5, first_byte=5, idle=5, total=30)
CHAT = [(provider, case) for provider, case in cases_of("chat") if case.name not in NO_REQUEST]
ANSWERED = [(provider, case) for provider, case in CHAT if case.status == 200]
FAILED = [(provider, case) for provider, case in CHAT if case.status != 200]
EMBEDDINGS = cases_of("embeddings")


class Gateway:
    """As much of the gateway as stands between a request and the provider's answer."""

    def __init__(
        self, provider: str, case: RecordedCase, upstream: ReplayUpstream, transport: Transport
    ) -> None:
        base_url = upstream.url if provider == "azure_openai" else f"{upstream.url}/v1"
        config = config_of(provider, case)
        self.endpoint: Endpoint = build_endpoint(provider, base_url, lambda: "sk-test", config)
        self._provider = provider
        self._transport = transport

    async def chat(self, case: RecordedCase) -> ChatCompletion:
        assert case.request is not None
        target = make_target(self._provider, model_of(case))
        wire_format = self.endpoint.chat_format
        assert wire_format is not None
        stream = bool(case.request.get("stream"))
        request = to_chat_request(case.request, self._provider)
        call = self.endpoint.chat_call(
            target, wire_format.render_chat(request, target, stream=stream), stream=stream
        )
        return await self._stream(call, target) if stream else await self._whole(call, target)

    async def _whole(self, call: HttpCall, target: Target) -> ChatCompletion:
        response = await self._transport.send(call, timeouts=TIMEOUTS, max_response_bytes=10_000_000)
        async with response:
            body = await response.read()
        wire_format = chat_format(self._provider)
        if response.status != 200:
            raise wire_format.parse_error(response.status, response.headers, body, target)
        return wire_format.parse_chat(body, target)

    async def _stream(self, call: HttpCall, target: Target) -> ChatCompletion:
        response = await self._transport.send(call, timeouts=TIMEOUTS, max_response_bytes=10_000_000)
        wire_format = chat_format(self._provider)
        async with response:
            if response.status != 200:
                raise wire_format.parse_error(
                    response.status, response.headers, await response.read(), target
                )
            parser = wire_format.chat_stream(target)
            events: list[ChatEvent] = []
            async for data in response.chunks():
                events += parser.feed(data)
        events += parser.close()
        return fold_events(events)


def expected_of(provider: str, case: RecordedCase) -> ChatCompletion:
    assert case.request is not None
    target = make_target(provider, model_of(case))
    if case.is_stream:
        return fold_stream([case.body], target)
    return chat_format(provider).parse_chat(case.body, target)


@pytest.mark.parametrize(("provider", "case"), ANSWERED, ids=name_of)
async def test_answers_in_any_pieces(
    provider: str, case: RecordedCase, upstream: ReplayUpstream, transport: Transport
) -> None:
    gateway = Gateway(provider, case, upstream, transport)
    expected = expected_of(provider, case)
    told = (case.status, case.headers, case.body)
    random = Random(case.name)

    for replay in (whole(*told), at_random(*told, random), at_random(*told, random), byte_by_byte(*told)):
        upstream.replay = replay
        assert await gateway.chat(case) == expected

    received = upstream.requests[-1]
    assert (received.method, received.path) == ("POST", path_of(provider, case))
    name, value = (
        ("api-key", "sk-test") if provider == "azure_openai" else ("authorization", "Bearer sk-test")
    )
    assert received.headers[name] == value
    assert orjson.loads(received.body)["model"] == model_of(case)


@pytest.mark.parametrize(("provider", "case"), ANSWERED, ids=name_of)
async def test_answers_that_are_cut_are_errors(
    provider: str, case: RecordedCase, upstream: ReplayUpstream, transport: Transport
) -> None:
    gateway = Gateway(provider, case, upstream, transport)
    random = Random(case.name)

    for length in (0, random.randrange(len(case.body)), len(case.body) - 1, len(case.body)):
        upstream.replay = cut_after(case.status, case.headers, case.body, length)
        with pytest.raises((GatewayError, TransportError)):
            await gateway.chat(case)


@pytest.mark.parametrize(("provider", "case"), FAILED, ids=name_of)
async def test_failures(
    provider: str, case: RecordedCase, upstream: ReplayUpstream, transport: Transport
) -> None:
    gateway = Gateway(provider, case, upstream, transport)
    expected = chat_format(provider).parse_error(case.status, case.headers, case.body, make_target(provider))

    for send in (whole, byte_by_byte):
        upstream.replay = send(case.status, case.headers, case.body)
        with pytest.raises(GatewayError) as caught:
            await gateway.chat(case)
        assert caught.value.reason == expected.reason
        assert caught.value.metadata == expected.metadata


@pytest.mark.parametrize(("provider", "case"), EMBEDDINGS, ids=name_of)
async def test_embeddings(
    provider: str, case: RecordedCase, upstream: ReplayUpstream, transport: Transport
) -> None:
    endpoint = Gateway(provider, case, upstream, transport).endpoint
    wire_format = endpoint.embeddings_format
    assert wire_format is not None
    assert case.request is not None
    target = make_target(provider, model_of(case))
    request = to_embeddings_request(case.request)
    call = endpoint.embeddings_call(target, wire_format.render_embeddings(request, target))

    for replay in (
        whole(case.status, case.headers, case.body),
        at_random(case.status, case.headers, case.body, Random(case.name)),
    ):
        upstream.replay = replay
        response = await transport.send(call, timeouts=TIMEOUTS, max_response_bytes=10_000_000)
        async with response:
            body = await response.read()

        assert (response.status, body) == (case.status, case.body)
        if case.status == 200:
            answer = wire_format.parse_embeddings(body, request, target)
            assert len(answer.embeddings) == len(request.inputs)
        assert upstream.requests[-1].path == path_of(provider, case)
