"""Anthropic's recorded answers over a real socket: endpoint, transport and format together."""

from random import Random

import orjson
import pytest

from aigateway.v1.chat_service_pb2 import ChatCompletion
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from gateway_server.providers.registry import build_endpoint
from gateway_server.providers.transport import Transport, TransportError
from tests.shared_wire.anthropic_cases import NO_REQUEST, cases_of
from tests.support.anthropic_requests import to_chat_request, to_count_request
from tests.support.asking import ask_chat, fetch
from tests.support.recorded import RecordedCase
from tests.support.replay_upstream import ReplayUpstream, at_random, byte_by_byte, cut_after, whole
from tests.support.wire import chat_format, fold_stream, make_target

CHAT = [case for case in cases_of("messages") if case.name not in NO_REQUEST]
ANSWERED = [case for case in CHAT if case.status == 200]
FAILED = [case for case in CHAT if case.status != 200]


@pytest.fixture
def endpoint(upstream: ReplayUpstream) -> CountTokensEndpoint:
    built = build_endpoint("anthropic", f"{upstream.url}/v1", lambda: "sk-test", {})
    assert isinstance(built, CountTokensEndpoint)
    return built


def model_of(case: RecordedCase) -> str:
    assert case.request is not None
    return str(case.request["model"])


async def ask(case: RecordedCase, endpoint: CountTokensEndpoint, transport: Transport) -> ChatCompletion:
    assert case.request is not None
    return await ask_chat(
        to_chat_request(case.request),
        make_target("anthropic", model_of(case)),
        stream=case.is_stream,
        endpoint=endpoint,
        transport=transport,
    )


@pytest.mark.parametrize("case", ANSWERED, ids=str)
async def test_answers_in_any_pieces(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    target = make_target("anthropic", model_of(case))
    if case.is_stream:
        expected = fold_stream([case.body], target)
    else:
        expected = chat_format("anthropic").parse_chat(case.body, target)
    told = (case.status, case.headers, case.body)
    random = Random(case.name)

    for replay in (whole(*told), at_random(*told, random), byte_by_byte(*told)):
        upstream.replay = replay
        assert await ask(case, endpoint, transport) == expected

    received = upstream.requests[-1]
    assert (received.method, received.path) == ("POST", "/v1/messages")
    assert received.headers["x-api-key"] == "sk-test"
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert orjson.loads(received.body)["model"] == model_of(case)


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
    expected = chat_format("anthropic").parse_error(
        case.status, case.headers, case.body, make_target("anthropic")
    )

    for send in (whole, byte_by_byte):
        upstream.replay = send(case.status, case.headers, case.body)
        with pytest.raises(GatewayError) as caught:
            await ask(case, endpoint, transport)
        assert (caught.value.reason, caught.value.metadata) == (expected.reason, expected.metadata)


@pytest.mark.parametrize("case", cases_of("count_tokens"), ids=str)
async def test_counts(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    target = make_target("anthropic", model_of(case))
    assert case.request is not None
    body = endpoint.count_format.render_count(to_count_request(case.request), target)

    upstream.replay = byte_by_byte(case.status, case.headers, case.body)
    _, answer = await fetch(endpoint.count_call(target, body), transport)

    assert endpoint.count_format.parse_count(answer, target).input_tokens == case.json["input_tokens"]
    assert upstream.requests[-1].path == "/v1/messages/count_tokens"
