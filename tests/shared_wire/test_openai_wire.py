"""Every recorded exchange with OpenAI and vLLM: what we send means the same, what we read says the same."""

import json
import struct
from base64 import b64decode
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import jsonschema
import pytest

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion
from gateway_server.errors import GatewayError
from tests.shared_wire.openai_cases import (
    DIFFERENCE_COUNTS,
    IN_SCOPE,
    NO_REQUEST,
    OTHER_SURFACES,
    PROVIDERS,
    cases_of,
    config_of,
    name_of,
)
from tests.support.completion_reading import read_completion, read_usage
from tests.support.openai_meaning import DIFFERENCES, chat_meaning, embeddings_meaning
from tests.support.openai_reading import read_stream, read_whole
from tests.support.openai_requests import to_chat_request, to_embeddings_request
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

CHAT = cases_of("chat")
EMBEDDINGS = cases_of("embeddings")
ANSWERED_CHAT = [(provider, case) for provider, case in CHAT if case.status == 200]
FAILED = [(provider, case) for provider, case in CHAT + EMBEDDINGS if case.status != 200]

each_chat = pytest.mark.parametrize(("provider", "case"), CHAT, ids=name_of)
each_answered_chat = pytest.mark.parametrize(("provider", "case"), ANSWERED_CHAT, ids=name_of)
each_embeddings = pytest.mark.parametrize(("provider", "case"), EMBEDDINGS, ids=name_of)
each_failed = pytest.mark.parametrize(("provider", "case"), FAILED, ids=name_of)


def test_no_recording_is_left_out_silently() -> None:
    counted = Counter(
        (provider, case.api) for provider, folder in PROVIDERS.items() for case in recorded_cases(folder)
    )

    assert counted == IN_SCOPE | {key: count for key, (count, _) in OTHER_SURFACES.items()}
    names = {case.name for _, case in CHAT}
    assert names >= NO_REQUEST.keys()


@cache
def spec() -> dict[str, Any]:
    """OpenAI's published description."""
    read = json.loads((require_shared_dir() / "specs" / "openai.openapi.json").read_text())
    assert isinstance(read, dict)
    return read


@cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**spec(), "$ref": f"#/components/schemas/{schema}"})


@cache
def known_keys(schema: str) -> frozenset[str]:
    """The top-level keys of a request, which the published schema does not close."""
    schemas = json.loads((require_shared_dir() / "specs" / "openai.openapi.json").read_text())["components"][
        "schemas"
    ]

    def keys(part: dict[str, Any]) -> set[str]:
        found = set(part.get("properties", {}))
        if "$ref" in part:
            found |= keys(schemas[part["$ref"].rpartition("/")[2]])
        for branch in part.get("allOf", []):
            found |= keys(branch)
        return found

    return frozenset(keys(schemas[schema]))


def check_against_the_spec(provider: str, body: dict[str, Any], schema: str) -> None:
    validator(schema).validate(body)
    # vLLM takes keys that OpenAI does not have.
    if provider != "vllm":
        assert body.keys() <= known_keys(schema)


def render_chat(provider: str, case: RecordedCase, *, stream: bool) -> dict[str, Any]:
    assert case.request is not None
    target = make_target(provider, case.request["model"])
    request = to_chat_request(case.request, provider)
    body = chat_format(provider, **config_of(provider, case)).render_chat(request, target, stream=stream)
    rendered = json.loads(body)
    assert isinstance(rendered, dict)
    return rendered


def recorded_meaning(provider: str, case: RecordedCase, notes: Counter[str]) -> dict[str, Any]:
    assert case.request is not None
    meaning = chat_meaning(case.request, notes, old_limit=provider == "openai")
    if provider == "vllm" and "max_completion_tokens" in meaning:
        notes["max_completion_tokens"] += 1
        meaning["max_tokens"] = meaning.pop("max_completion_tokens")
    if meaning.get("stream") and "include_usage" not in meaning.get("stream_options", {}):
        notes["usage of streams"] += 1
        meaning["stream_options"] = {**meaning.get("stream_options", {}), "include_usage": True}
    return meaning


@each_chat
def test_what_is_sent_for_chat_means_what_was_recorded(provider: str, case: RecordedCase) -> None:
    if case.name in NO_REQUEST:
        assert not case.request or "messages" not in case.request
        return
    assert case.request is not None
    stream = bool(case.request.get("stream"))

    body = render_chat(provider, case, stream=stream)

    assert chat_meaning(body) == recorded_meaning(provider, case, Counter())
    if case.name != "chat__error_bad_temperature":
        check_against_the_spec(provider, body, "CreateChatCompletionRequest")


def test_each_difference_between_sent_and_recorded_is_known() -> None:
    notes: Counter[str] = Counter()
    for provider, case in CHAT:
        if case.name not in NO_REQUEST:
            recorded_meaning(provider, case, notes)
    for _, case in EMBEDDINGS:
        assert case.request is not None
        embeddings_meaning(case.request, notes)

    assert +notes == DIFFERENCE_COUNTS
    assert DIFFERENCES.keys() >= DIFFERENCE_COUNTS.keys()


@each_answered_chat
def test_an_answer_says_what_a_plain_reading_says(provider: str, case: RecordedCase) -> None:
    target = make_target(provider)
    if case.is_stream:
        completion = fold_stream([case.body], target)
        expected = read_stream(case.body.decode())
    else:
        completion = chat_format(provider).parse_chat(case.body, target)
        expected = read_whole(case.json)

    assert read_completion(completion) == expected
    assert ChatCompletion.FromString(completion.SerializeToString()) == completion


STREAMS = [(provider, case) for provider, case in ANSWERED_CHAT if case.is_stream]
WHOLE = [(provider, case) for provider, case in ANSWERED_CHAT if not case.is_stream]
each_stream = pytest.mark.parametrize(("provider", "case"), STREAMS, ids=name_of)
each_whole = pytest.mark.parametrize(("provider", "case"), WHOLE, ids=name_of)


@each_stream
def test_a_stream_says_the_same_wherever_it_is_cut_in_pieces(provider: str, case: RecordedCase) -> None:
    target = make_target(provider)
    whole = fold_stream([case.body], target)

    assert fold_stream(one_byte_pieces(case.body), target) == whole
    for seed in range(5):
        assert fold_stream(random_pieces(case.body, Random(seed)), target) == whole


@each_stream
def test_a_stream_that_stops_early_is_an_error(provider: str, case: RecordedCase) -> None:
    """Up to its last finish reason always; after that unless it stops between two events.

    A stream that stops between two events once every choice is finished is one of a server that sends
    no [DONE]; if its connection dropped, the transport tells.
    """
    random = Random(case.name)
    finished = case.body.rindex(b'"finish_reason":"')
    for length in {random.randrange(len(case.body)) for _ in range(40)} | {0, finished, len(case.body) - 9}:
        body = case.body[:length]
        events, failure = read_until_failure(chat_format(provider).chat_stream(make_target(provider)), [body])
        if failure is None:
            assert fold_events(events).choices
            assert length > finished
            assert body.endswith((b"\n", b"}", b"[DONE]"))
        else:
            assert failure.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@each_whole
def test_a_whole_answer_that_stops_early_is_an_error(provider: str, case: RecordedCase) -> None:
    random = Random(case.name)
    for length in {random.randrange(len(case.body)) for _ in range(20)} | {0, len(case.body) - 1}:
        with pytest.raises(GatewayError) as caught:
            chat_format(provider).parse_chat(case.body[:length], make_target(provider))
        assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@each_embeddings
def test_embeddings(provider: str, case: RecordedCase) -> None:
    wire_format = make_endpoint(provider).embeddings_format
    assert wire_format is not None
    assert case.request is not None
    request = to_embeddings_request(case.request)
    target = make_target(provider, case.request["model"])

    body = json.loads(wire_format.render_embeddings(request, target))

    assert embeddings_meaning(body) == embeddings_meaning(case.request)
    if case.name != "embeddings__error_400_invalid_request__01":
        check_against_the_spec(provider, body, "CreateEmbeddingRequest")
    if case.status != 200:
        return
    response = wire_format.parse_embeddings(case.body, request, target)
    assert response.served_by.provider_model == case.json["model"]
    usage = case.json["usage"]
    assert read_usage(response.usage) == {
        "input": usage["prompt_tokens"],
        "output": 0,
        "total": usage["total_tokens"],
        "cached": 0,
        "reasoning": 0,
    }
    assert [embedding.index for embedding in response.embeddings] == list(range(len(request.inputs)))
    for embedding, recorded in zip(response.embeddings, case.json["data"], strict=True):
        vector = list(embedding.float_vector.values)
        assert vector == pytest.approx(plain_vector(recorded["embedding"]), rel=1e-6)


def plain_vector(recorded: Any) -> list[float]:
    """The numbers of a recorded vector, by a way of its own."""
    if isinstance(recorded, list):
        return recorded
    return [value for (value,) in struct.iter_unpack("<f", b64decode(recorded))]


#: What each recorded failure is, by provider and status: (reason, provider_code).
FAILURES = {
    ("openai", 400, "unsupported_value"): "UPSTREAM_REJECTED",
    ("openai", 400, "invalid_value"): "UPSTREAM_REJECTED",
    ("openai", 400, "invalid_request_error"): "UPSTREAM_REJECTED",
    ("openai", 404, "model_not_found"): "UPSTREAM_REJECTED",
    ("vllm", 400, ""): "UPSTREAM_REJECTED",
    ("vllm", 400, "BadRequestError"): "UPSTREAM_REJECTED",
    ("vllm", 400, "context_length_exceeded"): "UPSTREAM_REJECTED",
    ("vllm", 401, ""): "UPSTREAM_CREDENTIAL_REJECTED",
    ("vllm", 404, ""): "UPSTREAM_REJECTED",
    ("vllm", 404, "model_not_found"): "UPSTREAM_REJECTED",
    ("azure_openai", 401, ""): "UPSTREAM_CREDENTIAL_REJECTED",
    ("azure_openai", 429, "RateLimitReached"): "UPSTREAM_RATE_LIMITED",
}


@each_failed
def test_failures(provider: str, case: RecordedCase) -> None:
    target = make_target(provider)

    failure = chat_format(provider).parse_error(case.status, case.headers, case.body, target)

    code = failure.metadata.get("provider_code", "")
    assert FAILURES[provider, case.status, code] == failure.reason_name
    assert failure.retryable == (case.status == 429)
    # Azure says both to come back at once and in a second.
    assert failure.retry_after == (1 if case.status == 429 else None)
    assert failure.metadata.get("http_status", "429") == str(case.status)
    # Nothing of the provider's own words is passed on.
    said = case.json.get("error", {})
    message = said.get("message") if isinstance(said, dict) else None
    assert not message or message not in failure.message


def test_every_kind_of_recorded_failure_was_seen() -> None:
    seen = {
        (
            provider,
            case.status,
            chat_format(provider)
            .parse_error(case.status, case.headers, case.body, make_target(provider))
            .metadata.get("provider_code", ""),
        )
        for provider, case in FAILED
    }

    assert seen == FAILURES.keys()


@pytest.mark.parametrize(("provider", "case"), cases_of("models"), ids=name_of)
def test_the_list_of_models(provider: str, case: RecordedCase) -> None:
    assert make_endpoint(provider).parse_check(case.body) == [model["id"] for model in case.json["data"]]
