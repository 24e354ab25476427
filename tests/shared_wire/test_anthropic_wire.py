"""Every recorded exchange with Anthropic: what we send means the same, what we read says the same."""

import json
from collections import Counter
from functools import cache
from random import Random
from typing import Any, get_type_hints

import anthropic.types
import anthropic.types.beta
import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_message_create_params
from pydantic import TypeAdapter

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from tests.shared_wire.anthropic_cases import IN_SCOPE, NO_REQUEST, REFUSED_BEFORE_SENDING, cases_of
from tests.support.anthropic_meaning import DIFFERENCES, chat_meaning
from tests.support.anthropic_reading import read_completion, read_stream, read_whole
from tests.support.anthropic_requests import to_chat_request, to_count_request
from tests.support.recorded import RecordedCase, recorded_cases
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_endpoint,
    make_target,
    one_byte_pieces,
    random_pieces,
    read_until_failure,
)

CHAT = cases_of("messages")
ASKED = [case for case in CHAT if case.name not in NO_REQUEST]
ANSWERED = [case for case in CHAT if case.status == 200]
STREAMS = [case for case in ANSWERED if case.is_stream]
WHOLE = [case for case in ANSWERED if not case.is_stream]
FAILED = [case for case in CHAT if case.status != 200]

#: Knobs of version 2023-06-01 that the package's newest types no longer have.
SAMPLING = {"temperature", "top_p", "top_k"}


def test_no_recording_is_left_out_silently() -> None:
    counted = Counter(case.api for case in recorded_cases("anthropic"))

    assert counted == IN_SCOPE
    assert {case.name for case in CHAT if case.request is None} == NO_REQUEST
    assert {case.name for case in ASKED} >= REFUSED_BEFORE_SENDING.keys()
    assert len(STREAMS) + len(WHOLE) + len(FAILED) == IN_SCOPE["messages"]


@cache
def judge(*, beta: bool) -> tuple[TypeAdapter[Any], frozenset[str]]:
    """The package's type of a request and the keys that it knows, which it does not hold others to."""
    module: Any = beta_message_create_params if beta else message_create_params
    keys: set[str] = set()
    for kind in (module.MessageCreateParamsNonStreaming, module.MessageCreateParamsStreaming):
        keys |= get_type_hints(kind).keys()
    # These two are sent as headers.
    return TypeAdapter(module.MessageCreateParams), frozenset(keys - {"betas", "workspace_id"})


def check_against_the_package(body: dict[str, Any]) -> None:
    """Without betas where the types of the plain API have all that is sent."""
    plain, plain_keys = judge(beta=False)
    beta, beta_keys = judge(beta=True)
    try:
        plain.validate_python(body)
    except ValueError:
        beta.validate_python(body)
        assert body.keys() <= beta_keys | SAMPLING
    else:
        assert body.keys() <= plain_keys | SAMPLING


def render(case: RecordedCase, *, stream: bool) -> dict[str, Any]:
    assert case.request is not None
    target = make_target("anthropic", case.request["model"])
    body = chat_format("anthropic").render_chat(to_chat_request(case.request), target, stream=stream)
    rendered = json.loads(body)
    assert isinstance(rendered, dict)
    return rendered


@pytest.mark.parametrize("case", ASKED, ids=str)
def test_what_is_sent_means_what_was_recorded(case: RecordedCase) -> None:
    assert case.request is not None
    stream = bool(case.request.get("stream"))
    if case.name in REFUSED_BEFORE_SENDING:
        with pytest.raises(GatewayError, match=REFUSED_BEFORE_SENDING[case.name]):
            render(case, stream=stream)
        return

    body = render(case, stream=stream)

    assert chat_meaning(body) == chat_meaning(case.request)
    check_against_the_package(body)


def test_each_difference_between_sent_and_recorded_is_known() -> None:
    notes: Counter[str] = Counter()
    for case in ASKED:
        assert case.request is not None
        chat_meaning(case.request, notes)

    assert notes.keys() <= DIFFERENCES.keys()
    assert +notes == EXPECTED_DIFFERENCES


EXPECTED_DIFFERENCES = Counter(
    {
        "null or default": 173,
        "content as a string": 47,
        "automatic choice": 42,
        "parallel calls allowed": 22,
        "empty texts": 1,
    }
)


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_an_answer_says_what_a_plain_reading_says(case: RecordedCase) -> None:
    target = make_target("anthropic")
    if case.is_stream:
        completion = fold_stream([case.body], target)
        expected = read_stream(case.body.decode())
    else:
        completion = chat_format("anthropic").parse_chat(case.body, target)
        expected = read_whole(case.json)

    assert read_completion(completion) == expected
    assert ChatCompletion.FromString(completion.SerializeToString()) == completion


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_an_answer_comes_back_unchanged_in_the_next_turn(case: RecordedCase) -> None:
    """What the model said, given back to it: all but empty texts and refusals, which it does not take."""
    target = make_target("anthropic")
    if case.is_stream:
        completion = fold_stream([case.body], target)
    else:
        completion = chat_format("anthropic").parse_chat(case.body, target)
    request = CreateChatCompletionRequest(model="any")
    request.messages.add(role=Role.ROLE_USER).parts.add().text.text = "Hello"
    request.messages.append(completion.choices[0].message)
    said = read_stream(case.body.decode()) if case.is_stream else read_whole(case.json)

    if not completion.choices[0].message.parts:
        return
    body = json.loads(chat_format("anthropic").render_chat(request, target, stream=False))

    answer = {
        **(body["messages"][1] if len(body["messages"]) > 1 else {"content": []}),
        "id": "",
        "model": "",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    if isinstance(answer["content"], str):
        answer["content"] = [{"type": "text", "text": answer["content"]}]
    expected = [part for part in said["parts"] if part[:2] != ["text", ""]]
    expected = [["text", part[1], []] if part[0] == "refusal" else part for part in expected]
    assert read_whole(answer)["parts"] == expected
    check_against_the_package(body)


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_stream_says_the_same_wherever_it_is_cut_in_pieces(case: RecordedCase) -> None:
    target = make_target("anthropic")
    whole = fold_stream([case.body], target)

    assert fold_stream(one_byte_pieces(case.body), target) == whole
    for seed in range(5):
        assert fold_stream(random_pieces(case.body, Random(seed)), target) == whole


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_stream_that_stops_early_is_an_error(case: RecordedCase) -> None:
    """Up to its stop reason always; a stream without message_stop is whole if its body ends properly."""
    random = Random(case.name)
    finished = case.body.rindex(b"event: message_delta")
    stopped = case.body.rindex(b"event: message_stop")
    lengths = {random.randrange(len(case.body)) for _ in range(40)} | {0, finished, len(case.body) - 9}
    for length in lengths:
        parser = chat_format("anthropic").chat_stream(make_target("anthropic"))
        events, failure = read_until_failure(parser, [case.body[:length]])
        if failure is None:
            assert fold_events(events).choices
            assert length >= stopped - 2
        else:
            assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_a_whole_answer_that_stops_early_is_an_error(case: RecordedCase) -> None:
    random = Random(case.name)
    for length in {random.randrange(len(case.body)) for _ in range(20)} | {0, len(case.body) - 1}:
        with pytest.raises(GatewayError) as caught:
            chat_format("anthropic").parse_chat(case.body[:length], make_target("anthropic"))
        assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("case", cases_of("count_tokens"), ids=str)
def test_counts(case: RecordedCase) -> None:
    endpoint = make_endpoint("anthropic")
    assert isinstance(endpoint, CountTokensEndpoint)
    assert case.request is not None
    target = make_target("anthropic", case.request["model"])

    body = json.loads(endpoint.count_format.render_count(to_count_request(case.request), target))
    response = endpoint.count_format.parse_count(case.body, target)

    assert chat_meaning(body) == chat_meaning(case.request)
    TypeAdapter(anthropic.types.MessageCountTokensParams).validate_python(body)
    assert body.keys() <= get_type_hints(anthropic.types.MessageCountTokensParams).keys()
    assert response.input_tokens == case.json["input_tokens"]
    assert not response.estimated


#: What each recorded failure is, by status and provider_code.
FAILURES = {
    (400, "context_length_exceeded"): "UPSTREAM_REJECTED",
    (401, ""): "UPSTREAM_CREDENTIAL_REJECTED",
    (404, "model_not_found"): "UPSTREAM_REJECTED",
}


def test_failures() -> None:
    seen = {}
    for case in FAILED:
        failure = chat_format("anthropic").parse_error(
            case.status, case.headers, case.body, make_target("anthropic")
        )
        seen[case.status, failure.metadata.get("provider_code", "")] = failure.reason_name
        assert not failure.retryable
        assert failure.metadata["http_status"] == str(case.status)
        # Nothing of the provider's own words is passed on.
        assert case.json["error"]["message"] not in failure.message

    assert seen == FAILURES


@pytest.mark.parametrize("case", cases_of("models"), ids=str)
def test_the_list_of_models(case: RecordedCase) -> None:
    assert make_endpoint("anthropic").parse_check(case.body) == [model["id"] for model in case.json["data"]]
