"""Every recorded exchange with Google: what we send means the same, what we read says the same."""

import json
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import jsonschema
import pytest

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from tests.shared_wire.gemini_cases import (
    DIFFERENCE_COUNTS,
    IN_SCOPE,
    NO_REQUEST,
    OTHER_SURFACES,
    cases_of,
    model_of,
)
from tests.support import completion_reading, openai_meaning, openai_requests
from tests.support.completion_reading import read_usage
from tests.support.gemini_meaning import DIFFERENCES, chat_meaning, count_meaning
from tests.support.gemini_reading import read_completion, read_stream, read_whole
from tests.support.gemini_requests import to_chat_request, to_count_request, to_embeddings_request
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

CHAT = cases_of("generateContent", "streamGenerateContent")
ASKED = [case for case in CHAT if case.name not in NO_REQUEST]
ANSWERED = [case for case in CHAT if case.status == 200]
STREAMS = [case for case in ANSWERED if case.is_stream]
WHOLE = [case for case in ANSWERED if not case.is_stream]
FAILED = [case for case in CHAT if case.status != 200]
COUNTS = cases_of("count_tokens")
EMBEDDINGS = cases_of("embeddings")


def test_no_recording_is_left_out_silently() -> None:
    counted = Counter(case.api for case in recorded_cases("gemini"))

    assert counted == IN_SCOPE | {api: count for api, (count, _) in OTHER_SURFACES.items()}
    assert {case.name for case in CHAT if case.request is None} == NO_REQUEST
    assert (len(STREAMS), len(WHOLE), len(FAILED)) == (49, 83, 4)


#: What the published description does not have and the server takes.
UNDESCRIBED = {
    "FunctionResponsePart": {"fileData"},
    "ToolConfig": {"includeServerSideToolInvocations"},
}


@cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    """The published description of a message, which the server takes no other keys in than those."""
    spec = json.loads((require_shared_dir() / "specs" / "gemini-v1beta.openapi.json").read_text())
    for name, described in spec["components"]["schemas"].items():
        if "properties" in described:
            described["additionalProperties"] = False
            described["properties"] |= {key: {} for key in UNDESCRIBED.get(name, ())}
    return jsonschema.Draft202012Validator({**spec, "$ref": f"#/components/schemas/{schema}"})


def render(case: RecordedCase) -> dict[str, Any]:
    assert case.request is not None
    target = make_target("google", model_of(case))
    request = to_chat_request(case.request, model_of(case))
    rendered = json.loads(chat_format("google").render_chat(request, target, stream=case.is_stream))
    assert isinstance(rendered, dict)
    return rendered


@pytest.mark.parametrize("case", ASKED, ids=str)
def test_what_is_sent_means_what_was_recorded(case: RecordedCase) -> None:
    assert case.request is not None

    body = render(case)

    assert chat_meaning(body) == chat_meaning(case.request)
    validator("GenerateContentRequest").validate(body)


def test_each_difference_between_sent_and_recorded_is_known() -> None:
    notes: Counter[str] = Counter()
    for case in ASKED:
        assert case.request is not None
        chat_meaning(case.request, notes)
    for case in COUNTS:
        assert case.request is not None
        count_meaning(case.request, notes)

    assert +notes == DIFFERENCE_COUNTS
    assert DIFFERENCES.keys() == DIFFERENCE_COUNTS.keys()


def parse(case: RecordedCase) -> ChatCompletion:
    target = make_target("google", model_of(case))
    if case.is_stream:
        return fold_stream([case.body], target)
    return chat_format("google").parse_chat(case.body, target)


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_an_answer_says_what_a_plain_reading_says(case: RecordedCase) -> None:
    completion = parse(case)

    expected = read_stream(case.body.decode()) if case.is_stream else read_whole(case.json)
    assert read_completion(completion) == expected
    assert ChatCompletion.FromString(completion.SerializeToString()) == completion
    call_ids = [
        part.tool_call.tool_call_id
        for part in completion.choices[0].message.parts
        if part.HasField("tool_call")
    ]
    assert len(set(call_ids)) == len(call_ids)
    assert all(0 < len(call_id) <= 40 for call_id in call_ids)


def test_usage_is_reported_but_for_prompts_that_were_not_counted() -> None:
    """Google does not tell what it read where it fetched a picture from elsewhere itself."""
    states = Counter(parse(case).usage.state for case in ANSWERED)

    assert states == {
        UsageState.USAGE_STATE_PROVIDER_REPORTED: len(ANSWERED) - 2,
        UsageState.USAGE_STATE_ESTIMATED: 2,
    }


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_an_answer_comes_back_unchanged_in_the_next_turn(case: RecordedCase) -> None:
    """What the model said, given back to it: signatures on the very parts, ids only where it gave any."""
    completion = parse(case)
    if not completion.choices[0].message.parts:
        return
    # A model that asks for signatures gets a stand-in on calls without one; none of these does.
    target = make_target("google", "gemini-2.5-flash")
    request = CreateChatCompletionRequest(model="any")
    request.messages.add(role=Role.ROLE_USER).parts.add().text.text = "Hello"
    request.messages.append(completion.choices[0].message)

    body = json.loads(chat_format("google").render_chat(request, target, stream=False))

    again = read_whole(
        {
            "modelVersion": "",
            "usageMetadata": {},
            "candidates": [{"content": body["contents"][1], "finishReason": "STOP"}],
        }
    )
    expected = read_stream(case.body.decode()) if case.is_stream else read_whole(case.json)
    assert again["choices"][0]["parts"] == expected["choices"][0]["parts"]


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_stream_says_the_same_wherever_it_is_cut_in_pieces(case: RecordedCase) -> None:
    target = make_target("google", model_of(case))
    whole = fold_stream([case.body], target)

    assert fold_stream(one_byte_pieces(case.body), target) == whole
    for seed in range(5):
        assert fold_stream(random_pieces(case.body, Random(seed)), target) == whole


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_a_stream_that_stops_early_is_an_error(case: RecordedCase) -> None:
    """Before its finish reason always. A body without its last blank line has said all that it says."""
    random = Random(case.name)
    size = len(case.body)
    for length in {random.randrange(size) for _ in range(40)} | {0, size - 4, size - 5, size - 1}:
        body = case.body[:length]
        events, failure = read_until_failure(
            chat_format("google").chat_stream(make_target("google", model_of(case))), [body]
        )
        if failure is None:
            assert fold_events(events) == fold_stream([case.body], make_target("google", model_of(case)))
            assert length >= size - 4
        else:
            assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"
            assert length < size - 4


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_a_whole_answer_that_stops_early_is_an_error(case: RecordedCase) -> None:
    random = Random(case.name)
    for length in {random.randrange(len(case.body)) for _ in range(20)} | {0, len(case.body) - 1}:
        with pytest.raises(GatewayError) as caught:
            chat_format("google").parse_chat(case.body[:length], make_target("google"))
        assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize("case", COUNTS, ids=str)
def test_counts(case: RecordedCase) -> None:
    endpoint, target = make_endpoint("google"), make_target("google", model_of(case))
    assert isinstance(endpoint, CountTokensEndpoint)
    assert case.request is not None

    body = json.loads(
        endpoint.count_format.render_count(to_count_request(case.request, model_of(case)), target)
    )

    assert count_meaning(body) == count_meaning(case.request)
    validator("CountTokensRequest").validate(body)
    counted = endpoint.count_format.parse_count(case.body, target)
    assert counted.input_tokens == case.json["totalTokens"]
    assert counted.served_by.provider_model == model_of(case)
    assert not counted.estimated


@pytest.mark.parametrize("case", EMBEDDINGS, ids=str)
def test_embeddings(case: RecordedCase) -> None:
    wire_format, target = make_endpoint("google").embeddings_format, make_target("google", model_of(case))
    assert wire_format is not None
    assert case.request is not None
    request = to_embeddings_request(case.request, model_of(case))

    body = json.loads(wire_format.render_embeddings(request, target))

    assert body == case.request
    validator("BatchEmbedContentsRequest").validate(body)
    response = wire_format.parse_embeddings(case.body, request, target)
    recorded = case.json["embeddings"]
    assert [embedding.index for embedding in response.embeddings] == list(range(len(recorded)))
    for embedding, vector in zip(response.embeddings, recorded, strict=True):
        assert list(embedding.float_vector.values) == pytest.approx(vector["values"], rel=1e-6)
    if "usageMetadata" not in case.json:
        assert not response.HasField("usage")
        return
    tokens = case.json["usageMetadata"]["promptTokenCount"]
    expected = {"input": tokens, "output": 0, "total": tokens, "cached": 0, "reasoning": 0}
    assert read_usage(response.usage) == expected


#: What each recorded failure is: reason, code, seconds to wait.
FAILURES = {
    "generateContent__error_404_model_not_found__01": ("UPSTREAM_REJECTED", "model_not_found", None),
    "generateContent__error_404_model_not_found__02": ("UPSTREAM_REJECTED", "model_not_found", None),
    "generateContent__error_429_rate_limit__01": ("UPSTREAM_RATE_LIMITED", "RESOURCE_EXHAUSTED", 48),
    "generatecontent__response_only_google_429_retry_info": (
        "UPSTREAM_RATE_LIMITED",
        "RESOURCE_EXHAUSTED",
        34.4,
    ),
}


@pytest.mark.parametrize("case", FAILED, ids=str)
def test_failures(case: RecordedCase) -> None:
    failure = chat_format("google").parse_error(case.status, case.headers, case.body, make_target("google"))

    told = (failure.reason_name, failure.metadata["provider_code"], failure.retry_after)
    assert told == FAILURES[case.name]
    assert failure.retryable == (case.status == 429)
    # Nothing of the provider's own words is passed on.
    assert case.json["error"]["message"] not in failure.message


def test_every_recorded_failure_is_listed() -> None:
    assert {case.name for case in FAILED} == FAILURES.keys()


#: What the answers of Google's copy of OpenAI's API say. Its calls may have an empty id, its streams none.
COMPATIBLE = {
    "chat__stream_tools_offered_text_answer_tool_choice_named_no_parallel__01": (
        ("call_0_0", "return_bool", '{"value":true}'),
        "FINISH_REASON_TOOL_CALLS",
    ),
    "chat__stream_tools_offered_text_answer_tool_choice_named_no_parallel__02": (
        ("call_0_0", "return_list_of_str", '{"value":["apple","banana","orange"]}'),
        "FINISH_REASON_TOOL_CALLS",
    ),
    "chat__tool_result_turn_reasoning__01": ("The current time is Noon.", "FINISH_REASON_STOP"),
    "chat__tools_offered_text_answer_reasoning__01": (
        ("call_0_0", "get_current_time", "{}"),
        "FINISH_REASON_TOOL_CALLS",
    ),
}


@pytest.mark.parametrize("case", cases_of("chat"), ids=str)
def test_the_copy_of_openais_api_is_spoken_by_the_type_for_such_servers(case: RecordedCase) -> None:
    assert case.request is not None
    wire_format, target = chat_format("vllm"), make_target("vllm", case.request["model"])
    request = openai_requests.to_chat_request(case.request, "vllm")

    body = json.loads(wire_format.render_chat(request, target, stream=case.is_stream))

    assert openai_meaning.chat_meaning(body) == openai_meaning.chat_meaning(case.request)
    completion = (
        fold_stream([case.body], target) if case.is_stream else wire_format.parse_chat(case.body, target)
    )
    [choice] = completion_reading.read_completion(completion)["choices"]
    said = choice["calls"][0] if choice["calls"] else choice["text"]
    assert (said, choice["finish"]) == COMPATIBLE[case.name]
