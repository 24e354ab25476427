"""Every recorded exchange with Bedrock: what we send means the same, what we read says the same."""

import json
from base64 import b64decode
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from tests.shared_wire.bedrock_cases import ANSWER_ONLY, IN_SCOPE, NO_REQUEST, cases_of, model_of
from tests.support.bedrock_meaning import DIFFERENCES, chat_meaning
from tests.support.bedrock_reading import read_events, read_whole
from tests.support.bedrock_requests import to_chat_request, to_count_request, to_embeddings_request
from tests.support.completion_reading import read_completion, read_usage
from tests.support.recorded import RecordedCase, recorded_cases
from tests.support.shared import require_shared_dir
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_endpoint,
    make_target,
    one_byte_pieces,
    random_pieces,
    read_until_failure,
)

CHAT = cases_of("converse", "converse-stream")
ASKED = [case for case in CHAT if case.name not in ANSWER_ONLY]
ANSWERED = [case for case in CHAT if case.status == 200]
STREAMS = [case for case in ANSWERED if case.is_stream]
WHOLE = [case for case in ANSWERED if not case.is_stream]
COUNTS = [case for case in cases_of("count_tokens") if case.name not in NO_REQUEST]
EMBEDDINGS = cases_of("embeddings-invoke")
FAILED = [case for case in cases_of(*IN_SCOPE) if case.status != 200]
#: A Claude, whose seals are told from those of other models.
CLAUDE = make_target("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0")


def test_no_recording_is_left_out_silently() -> None:
    assert Counter(case.api for case in recorded_cases("bedrock")) == IN_SCOPE
    assert {case.name for case in CHAT if case.request is None} == ANSWER_ONLY
    assert {case.name for case in cases_of("count_tokens")} > NO_REQUEST.keys()


@cache
def service_model() -> ServiceModel:
    """AWS's published description."""
    path = require_shared_dir() / "specs" / "bedrock-runtime.service-2.json"
    return ServiceModel(json.loads(path.read_text()), "bedrock-runtime")


def validate(operation: str, body: dict[str, Any]) -> None:
    """Holds a body to the description: no unknown key, no missing one, no wrong type."""
    shape = service_model().operation_model(operation).input_shape
    assert shape is not None
    report = ParamValidator().validate({**decode_blobs(body), "modelId": "x"}, shape)
    assert not report.has_errors(), report.generate_report()


def decode_blobs(value: Any, key: str = "") -> Any:
    """The body as boto3 takes it, with bytes for base64."""
    if isinstance(value, dict):
        return {name: decode_blobs(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [decode_blobs(item) for item in value]
    return b64decode(value, validate=True) if key in {"bytes", "redactedContent"} else value


def render(case: RecordedCase) -> dict[str, Any]:
    assert case.request is not None
    target = make_target("bedrock", model_of(case))
    body = chat_format("bedrock").render_chat(to_chat_request(case.request), target, stream=case.is_stream)
    rendered = json.loads(body)
    assert isinstance(rendered, dict)
    return rendered


@pytest.mark.parametrize("case", ASKED, ids=str)
def test_what_is_sent_means_what_was_recorded(case: RecordedCase) -> None:
    assert case.request is not None
    body = render(case)

    assert chat_meaning(body) == chat_meaning(case.request)
    validate("ConverseStream" if case.is_stream else "Converse", body)


def test_each_difference_between_sent_and_recorded_is_known() -> None:
    notes: Counter[str] = Counter()
    for case in ASKED:
        assert case.request is not None
        chat_meaning(case.request, notes)

    assert notes.keys() <= DIFFERENCES.keys()
    assert +notes == EXPECTED_DIFFERENCES


EXPECTED_DIFFERENCES = Counter(
    {"empty object or list": 104, "status of a success": 16, "neighbours of one role": 2}
)


def events_of(case: RecordedCase) -> list[dict[str, Any]]:
    """The events of a stream, by botocore's own reading."""
    buffer: Any = EventStreamBuffer()  # its published types are wrong
    buffer.add_data(case.body)
    return [{message.headers[":event-type"]: json.loads(message.payload)} for message in buffer]


def read(case: RecordedCase, model: str) -> ChatCompletion:
    target = make_target("bedrock", model)
    if case.is_stream:
        return fold_stream([case.body], target)
    return chat_format("bedrock").parse_chat(case.body, target)


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_an_answer_says_what_a_plain_reading_says(case: RecordedCase) -> None:
    model = model_of(case)
    expected = read_events(events_of(case), model) if case.is_stream else read_whole(case.json, model)

    completion = read(case, model)

    said = read_completion(completion)
    for choice in said["choices"]:
        choice["calls"] = [
            (call_id, name, json.dumps(json.loads(arguments))) for call_id, name, arguments in choice["calls"]
        ]
    assert said == expected
    assert ChatCompletion.FromString(completion.SerializeToString()) == completion


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_an_answer_comes_back_unchanged_in_the_next_turn(case: RecordedCase) -> None:
    """What the model said, given back to it: all but empty texts, which it does not take."""
    model = model_of(case)
    message = read(case, model).choices[0].message
    request = CreateChatCompletionRequest(model="any")
    request.messages.add(role=Role.ROLE_USER).parts.add().text.text = "Hello"
    request.messages.append(message)
    calls = [part.tool_call for part in message.parts if part.HasField("tool_call")]
    for call in calls:
        result = request.messages.add(role=Role.ROLE_TOOL).parts.add().tool_result
        result.tool_call_id = call.tool_call_id
        result.parts.add().text.text = "done"
        request.tools.add().function.function_name = call.tool_name

    body = json.loads(
        chat_format("bedrock").render_chat(request, make_target("bedrock", model), stream=False)
    )

    validate("Converse", body)
    if not case.is_stream and len(body["messages"]) > 1:
        content = [spell(block) for block in case.json["output"]["message"]["content"]]
        assert body["messages"][1]["content"] == [block for block in content if block != {"text": ""}]


def spell(block: dict[str, Any]) -> dict[str, Any]:
    """A block as requests have it: only calls of the provider's own tools tell their type."""
    call = block.get("toolUse")
    if call is None or call.get("type") == "server_tool_use":
        return block
    return {"toolUse": {key: value for key, value in call.items() if key != "type"}}


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_stream_says_the_same_wherever_it_is_cut_in_pieces(case: RecordedCase) -> None:
    whole = fold_stream([case.body], CLAUDE)

    assert fold_stream(one_byte_pieces(case.body), CLAUDE) == whole
    for seed in range(5):
        assert fold_stream(random_pieces(case.body, Random(seed)), CLAUDE) == whole


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_stream_that_stops_early_is_an_error(case: RecordedCase) -> None:
    """Everywhere but between two messages after the stop reason, where only the usage is lost."""
    random = Random(case.name)
    stop = case.body.index(b"stopReason")
    for length in {random.randrange(len(case.body)) for _ in range(60)} | {0, stop, len(case.body) - 1}:
        events, failure = read_until_failure(chat_format("bedrock").chat_stream(CLAUDE), [case.body[:length]])
        if failure is None:
            assert length > stop
            assert not fold_events(events).HasField("usage")
        else:
            assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_damaged_byte_anywhere_is_an_error(case: RecordedCase) -> None:
    random = Random(case.name)
    for place in sorted(random.sample(range(len(case.body)), 25)):
        damaged = bytearray(case.body)
        damaged[place] ^= 1 << random.randrange(8)
        _, failure = read_until_failure(chat_format("bedrock").chat_stream(CLAUDE), [bytes(damaged)])
        assert failure is not None
        assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_a_whole_answer_that_stops_early_is_an_error(case: RecordedCase) -> None:
    random = Random(case.name)
    for length in {random.randrange(len(case.body)) for _ in range(20)} | {0, len(case.body) - 1}:
        with pytest.raises(GatewayError) as caught:
            chat_format("bedrock").parse_chat(case.body[:length], CLAUDE)
        assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("case", COUNTS, ids=str)
def test_counts(case: RecordedCase) -> None:
    assert case.request is not None
    endpoint, target = make_endpoint("bedrock"), make_target("bedrock", model_of(case))
    assert isinstance(endpoint, CountTokensEndpoint)

    body = json.loads(endpoint.count_format.render_count(to_count_request(case.request), target))

    asked = case.request["input"]["converse"]
    assert chat_meaning(body["input"]["converse"]) == chat_meaning(asked)
    validate("CountTokens", body)
    assert endpoint.count_format.parse_count(case.body, target).input_tokens == case.json["inputTokens"]


@pytest.mark.parametrize("case", EMBEDDINGS, ids=str)
def test_embeddings(case: RecordedCase) -> None:
    assert case.request is not None
    wire_format = make_endpoint("bedrock").embeddings_format
    assert wire_format is not None
    request = to_embeddings_request(case.request)
    target = make_target("bedrock", model_of(case))

    body = json.loads(wire_format.render_embeddings(request, target))
    response = wire_format.parse_embeddings(case.body, request, target, headers=case.headers)

    assert body == case.request
    recorded = case.json.get("embeddings", [case.json.get("embedding")])
    vectors = recorded["float"] if isinstance(recorded, dict) else recorded
    assert [list(embedding.float_vector.values) for embedding in response.embeddings] == [
        pytest.approx(vector, rel=1e-6) for vector in vectors
    ]
    tokens = int(case.headers["x-amzn-bedrock-input-token-count"])
    assert read_usage(response.usage) == {
        "input": tokens,
        "output": 0,
        "total": tokens,
        "cached": 0,
        "reasoning": 0,
    }


@pytest.mark.parametrize("case", FAILED, ids=str)
def test_failures(case: RecordedCase) -> None:
    failure = chat_format("bedrock").parse_error(case.status, case.headers, case.body, CLAUDE)

    if case.api == "count_tokens":
        # Told of a profile, which the gateway does not ask about: it asks about the model behind it.
        assert (failure.reason_name, failure.metadata["feature"]) == (
            "FEATURE_NOT_SUPPORTED",
            "counting tokens",
        )
        return
    assert (failure.reason_name, failure.retryable) == ("UPSTREAM_REJECTED", False)
    is_unknown_model = "identifier" in case.json["message"]
    assert failure.metadata.get("provider_code") == ("model_not_found" if is_unknown_model else None)
    assert case.json["message"] not in failure.message
