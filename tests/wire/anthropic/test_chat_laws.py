"""Laws of the format: a stream folds to what the whole body gives; an answer goes back as it came."""

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from gateway_server.errors import GatewayError
from tests.support.anthropic_events import events_of, to_events
from tests.support.laws import clip, examples, json_values, mutate, readable, requests
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_target,
    random_pieces,
    read_until_failure,
)

TARGET = make_target("anthropic", "claude-test")
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
counts = st.integers(0, 1000)
objects = st.dictionaries(words, json_values.map(clip), max_size=3)


def place(kind: str, start: str, end: str) -> st.SearchStrategy[dict[str, Any]]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "type": st.just(kind),
        "cited_text": words,
        "document_index": counts,
        "document_title": st.none() | words,
        start: counts,
        end: counts,
    }
    return st.fixed_dictionaries(fields)


places = (
    place("char_location", "start_char_index", "end_char_index")
    | place("page_location", "start_page_number", "end_page_number")
    | place("content_block_location", "start_block_index", "end_block_index")
)
web_places = st.fixed_dictionaries(
    {
        "type": st.just("web_search_result_location"),
        "cited_text": words,
        "url": words,
        "title": st.none() | words,
        "encrypted_index": words,
    }
)
search_places = st.fixed_dictionaries(
    {
        "type": st.just("search_result_location"),
        "cited_text": words,
        "source": words,
        "title": st.none() | words,
        "search_result_index": counts,
        "start_block_index": counts,
        "end_block_index": counts,
    }
)
citations = st.lists(places | web_places | search_places, min_size=1, max_size=2)


def block(kind: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy:
    return st.fixed_dictionaries({"type": st.just(kind), **required}, optional=optional or {})


blocks = st.one_of(
    block("text", {"text": words}, {"citations": citations}),
    block(
        "thinking",
        {"thinking": words | st.just(""), "signature": st.from_regex(r"[A-Za-z0-9+/]+", fullmatch=True)},
    ),
    block("redacted_thinking", {"data": st.from_regex(r"[A-Za-z0-9+/]+", fullmatch=True)}),
    block(
        "tool_use",
        {"id": st.from_regex(r"toolu_[a-zA-Z0-9]{8}", fullmatch=True), "name": words, "input": objects},
        {"caller": st.fixed_dictionaries({"type": st.just("code_execution_20260120"), "tool_id": words})},
    ),
    block("server_tool_use", {"id": words, "name": words, "input": objects}),
    block("web_search_tool_result", {"tool_use_id": words, "content": json_values.map(clip)}),
)
usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": st.integers(1, 1000)},
    optional={
        "cache_creation_input_tokens": st.none() | counts,
        "cache_read_input_tokens": st.none() | counts,
        "cache_creation": st.fixed_dictionaries(
            {"ephemeral_5m_input_tokens": counts, "ephemeral_1h_input_tokens": counts}
        ),
        "output_tokens_details": st.fixed_dictionaries({"thinking_tokens": counts}),
        "service_tier": words,
    },
)
refusals = st.fixed_dictionaries(
    {"type": st.just("refusal"), "category": st.none() | words, "explanation": st.none() | words}
)
stop_reasons = st.sampled_from(["end_turn", "tool_use", "max_tokens", "stop_sequence", "pause_turn", "odd"])


def call_ids(content: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in content if each["type"] == "tool_use"]


answers = st.fixed_dictionaries(
    {
        "id": words,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": words,
        "content": st.lists(blocks, max_size=5, unique_by=lambda each: each.get("id", id(each))),
        "stop_reason": stop_reasons,
        "stop_sequence": st.none() | words,
        "usage": usages,
    },
    optional={"container": objects, "stop_details": refusals},
)
seeds = st.integers(0, 2**32)


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers, seed=seeds)
def test_a_stream_folds_to_what_the_whole_body_gives(answer: dict[str, Any], seed: int) -> None:
    random = Random(seed)
    body = to_events(events_of(answer, random), random)

    whole = chat_format("anthropic").parse_chat(orjson.dumps(answer), TARGET)

    assert fold_stream([body], TARGET) == whole
    assert fold_stream(random_pieces(body, random), TARGET) == whole


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers)
def test_an_answer_goes_back_as_it_came(answer: dict[str, Any]) -> None:
    """Refusals apart, which go back as what they say."""
    answer.pop("stop_details", None)
    completion = chat_format("anthropic").parse_chat(orjson.dumps(answer), TARGET)
    request = CreateChatCompletionRequest(model="any")
    request.messages.add(role=Role.ROLE_USER).parts.add().text.text = "Hello"
    request.messages.append(completion.choices[0].message)

    rendered = orjson.loads(chat_format("anthropic").render_chat(request, TARGET, stream=False))

    content = rendered["messages"][1]["content"] if answer["content"] else []
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    assert content == answer["content"]


@settings(max_examples=examples(400), deadline=None)
@given(answer=answers, seed=seeds, junk=json_values)
def test_no_answer_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    body = orjson.dumps(mutate(answer, Random(seed), clip(junk)))

    try:
        completion = chat_format("anthropic").parse_chat(body, TARGET)
    except GatewayError as error:
        named = error.metadata["provider"]
    else:
        readable(completion)
        named = "providers/my-anthropic"
    assert named == "providers/my-anthropic"


@settings(max_examples=examples(400), deadline=None)
@given(answer=answers, seed=seeds, junk=json_values)
def test_no_stream_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    random = Random(seed)
    events = events_of(answer, random)
    place = random.randrange(len(events))
    change: Callable[[], Any] = random.choice(
        [lambda: mutate(events[place], random, clip(junk)), lambda: random.choice(events)]
    )
    changed = change()
    framed = [to_events([event]) for event in events]
    framed[place] = b"data: " + orjson.dumps(changed) + b"\n\n"
    body = b"".join(framed)

    assert run([body]) == run(list(random_pieces(body, random)))


@settings(max_examples=examples(200), deadline=None)
@given(junk=json_values | st.binary(max_size=60))
def test_no_bytes_crash_the_parser(junk: Any) -> None:
    body = junk if isinstance(junk, bytes) else orjson.dumps(clip(junk))

    run([b"event: message_start\ndata: " + body + b"\n\n"])
    with pytest.raises(GatewayError):
        chat_format("anthropic").parse_chat(body, TARGET)


def run(pieces: list[bytes]) -> tuple[bytes, str]:
    """What came of a stream: the answer if it is whole, and the failure if there is one."""
    events, failure = read_until_failure(chat_format("anthropic").chat_stream(TARGET), pieces)
    if failure is not None:
        return b"", failure.message
    completion = fold_events(events)
    readable(completion)
    return completion.SerializeToString(deterministic=True), ""


@settings(max_examples=examples(400), deadline=None)
@given(request=requests(), model=st.sampled_from(["claude-test", "claude-opus-4-8", "claude-sonnet-4-5"]))
def test_no_request_crashes_the_renderer(request: CreateChatCompletionRequest, model: str) -> None:
    try:
        target = make_target("anthropic", model)
        body = chat_format("anthropic").render_chat(request, target, stream=True)
    except GatewayError as error:
        reason = error.reason_name
    else:
        reason = ""
        rendered = orjson.loads(body)
        assert rendered["model"] == model
        assert rendered["max_tokens"] > 0
        roles = [message["role"] for message in rendered["messages"]]
        assert roles
        assert all(first != second for first, second in pairwise(roles))
        assert all(message["content"] for message in rendered["messages"])
    assert reason in {"", "INVALID_REQUEST", "FEATURE_NOT_SUPPORTED"}
