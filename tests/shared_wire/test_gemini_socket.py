"""Google's recorded answers over a real socket: endpoint, transport and format together."""

from random import Random

import pytest

from aigateway.v1.chat_service_pb2 import ChatCompletion
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from gateway_server.providers.registry import build_endpoint
from gateway_server.providers.transport import Transport, TransportError
from tests.shared_wire.gemini_cases import NO_REQUEST, cases_of, model_of
from tests.support.asking import ask_chat, fetch
from tests.support.gemini_requests import to_chat_request, to_count_request, to_embeddings_request
from tests.support.recorded import RecordedCase
from tests.support.replay_upstream import (
    ReplayUpstream,
    at_random,
    byte_by_byte,
    cut_after,
    whole,
)
from tests.support.wire import chat_format, fold_stream, make_target

CHAT = [case for case in cases_of("generateContent", "streamGenerateContent") if case.name not in NO_REQUEST]
ANSWERED = [case for case in CHAT if case.status == 200]
FAILED = [case for case in CHAT if case.status != 200]


@pytest.fixture
def endpoint(upstream: ReplayUpstream) -> CountTokensEndpoint:
    built = build_endpoint("google", upstream.url, lambda: "sk-test", {})
    assert isinstance(built, CountTokensEndpoint)
    return built


async def ask(case: RecordedCase, endpoint: CountTokensEndpoint, transport: Transport) -> ChatCompletion:
    assert case.request is not None
    return await ask_chat(
        to_chat_request(case.request, model_of(case)),
        make_target("google", model_of(case)),
        stream=case.is_stream,
        endpoint=endpoint,
        transport=transport,
    )


@pytest.mark.parametrize("case", ANSWERED, ids=str)
async def test_answers_in_any_pieces(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    target = make_target("google", model_of(case))
    if case.is_stream:
        expected = fold_stream([case.body], target)
    else:
        expected = chat_format("google").parse_chat(case.body, target)
    told = (case.status, case.headers, case.body)
    random = Random(case.name)

    for replay in (whole(*told), at_random(*told, random), byte_by_byte(*told)):
        upstream.replay = replay
        assert await ask(case, endpoint, transport) == expected

    received = upstream.requests[-1]
    method = "streamGenerateContent?alt=sse" if case.is_stream else "generateContent"
    assert (received.method, received.path) == ("POST", f"/v1beta/models/{model_of(case)}:{method}")
    assert received.headers["x-goog-api-key"] == "sk-test"


@pytest.mark.parametrize("case", ANSWERED, ids=str)
async def test_answers_that_are_cut_are_errors(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    random = Random(case.name)

    for length in (0, random.randrange(len(case.body)), len(case.body) - 1, len(case.body)):
        upstream.replay = cut_after(case.status, case.headers, case.body, length)
        with pytest.raises((GatewayError, TransportError)):
            await ask(case, endpoint, transport)


@pytest.mark.parametrize("case", FAILED, ids=str)
async def test_failures(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    target = make_target("google")
    expected = chat_format("google").parse_error(case.status, case.headers, case.body, target)

    for send in (whole, byte_by_byte):
        upstream.replay = send(case.status, case.headers, case.body)
        with pytest.raises(GatewayError) as caught:
            await ask(case, endpoint, transport)
        assert (caught.value.reason, caught.value.metadata) == (expected.reason, expected.metadata)
        assert caught.value.retry_after == expected.retry_after


@pytest.mark.parametrize("case", cases_of("embeddings"), ids=str)
async def test_embeddings(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    wire_format, target = endpoint.embeddings_format, make_target("google", model_of(case))
    assert wire_format is not None
    assert case.request is not None
    request = to_embeddings_request(case.request, model_of(case))
    call = endpoint.embeddings_call(target, wire_format.render_embeddings(request, target))

    for replay in (
        whole(case.status, case.headers, case.body),
        at_random(case.status, case.headers, case.body, Random(case.name)),
    ):
        upstream.replay = replay
        status, body = await fetch(call, transport)

        assert (status, body) == (case.status, case.body)
        answer = wire_format.parse_embeddings(body, request, target)
        assert len(answer.embeddings) == len(request.inputs)
        assert upstream.requests[-1].path == f"/v1beta/models/{model_of(case)}:batchEmbedContents"


@pytest.mark.parametrize("case", cases_of("count_tokens"), ids=str)
async def test_counts(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    target = make_target("google", model_of(case))
    assert case.request is not None
    body = endpoint.count_format.render_count(to_count_request(case.request, model_of(case)), target)

    upstream.replay = byte_by_byte(case.status, case.headers, case.body)
    _, answer = await fetch(endpoint.count_call(target, body), transport)

    assert endpoint.count_format.parse_count(answer, target).input_tokens == case.json["totalTokens"]
    assert upstream.requests[-1].path == f"/v1beta/models/{model_of(case)}:countTokens"
