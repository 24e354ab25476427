"""Bedrock's recorded answers over a real socket: endpoint, signature, transport and format together."""

from random import Random
from urllib.parse import quote

import pytest

from aigateway.v1.chat_service_pb2 import ChatCompletion
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint, PreparedEndpoint
from gateway_server.providers.registry import build_endpoint
from gateway_server.providers.transport import Transport, TransportError
from tests.shared_wire.bedrock_cases import ANSWER_ONLY, NO_REQUEST, cases_of, model_of
from tests.support.asking import ask_chat, fetch
from tests.support.bedrock_requests import to_chat_request, to_count_request, to_embeddings_request
from tests.support.recorded import RecordedCase
from tests.support.replay_upstream import ReplayUpstream, at_random, byte_by_byte, cut_after, whole
from tests.support.wire import chat_format, fold_stream, make_target

CHAT = [case for case in cases_of("converse", "converse-stream") if case.name not in ANSWER_ONLY]
ANSWERED = [case for case in CHAT if case.status == 200]
FAILED = [case for case in CHAT if case.status != 200]
COUNTS = [case for case in cases_of("count_tokens") if case.name not in NO_REQUEST]
EMBEDDINGS = cases_of("embeddings-invoke")
KEYS = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def endpoint(upstream: ReplayUpstream) -> CountTokensEndpoint:
    built = build_endpoint("bedrock", upstream.url, lambda: KEYS, {"region": "us-east-1"})
    assert isinstance(built, CountTokensEndpoint)
    assert isinstance(built, PreparedEndpoint)
    built.prepare()
    return built


async def ask(case: RecordedCase, endpoint: CountTokensEndpoint, transport: Transport) -> ChatCompletion:
    assert case.request is not None
    return await ask_chat(
        to_chat_request(case.request),
        make_target("bedrock", model_of(case)),
        stream=case.is_stream or "/converse-stream" in case.url,
        endpoint=endpoint,
        transport=transport,
    )


@pytest.mark.parametrize("case", ANSWERED, ids=str)
async def test_answers_in_any_pieces(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    target = make_target("bedrock", model_of(case))
    if case.is_stream:
        expected = fold_stream([case.body], target)
    else:
        expected = chat_format("bedrock").parse_chat(case.body, target)
    told = (case.status, case.headers, case.body)
    random = Random(case.name)

    for replay in (whole(*told), at_random(*told, random), byte_by_byte(*told)):
        upstream.replay = replay
        assert await ask(case, endpoint, transport) == expected

    received = upstream.requests[-1]
    operation = "converse-stream" if case.is_stream else "converse"
    assert (received.method, received.path) == (
        "POST",
        f"/model/{quote(model_of(case), safe='')}/{operation}",
    )
    assert received.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
    assert KEYS.partition(":")[2] not in str(received)


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
    upstream.replay = whole(case.status, case.headers, case.body)

    with pytest.raises(GatewayError) as caught:
        await ask(case, endpoint, transport)

    assert caught.value.reason_name == "UPSTREAM_REJECTED"
    assert caught.value.metadata["http_status"] == "400"


@pytest.mark.parametrize("case", [*COUNTS, *EMBEDDINGS], ids=str)
async def test_counts_and_embeddings(
    case: RecordedCase, upstream: ReplayUpstream, endpoint: CountTokensEndpoint, transport: Transport
) -> None:
    assert case.request is not None
    target = make_target("bedrock", model_of(case))
    upstream.replay = at_random(case.status, case.headers, case.body, Random(case.name))

    if case in COUNTS:
        body = endpoint.count_format.render_count(to_count_request(case.request), target)
        _, data = await fetch(endpoint.count_call(target, body), transport)
        assert endpoint.count_format.parse_count(data, target).input_tokens == case.json["inputTokens"]
        assert upstream.requests[-1].path.endswith("/count-tokens")
        return
    wire_format = endpoint.embeddings_format
    assert wire_format is not None
    request = to_embeddings_request(case.request)
    call = endpoint.embeddings_call(target, wire_format.render_embeddings(request, target))
    _, data = await fetch(call, transport)
    answer = wire_format.parse_embeddings(data, request, target, headers=case.headers)
    assert len(answer.embeddings) == len(request.inputs)
    assert upstream.requests[-1].path == f"/model/{quote(target.provider_model, safe='')}/invoke"
