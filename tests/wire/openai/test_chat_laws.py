"""Laws of the format: a stream folds to what the whole body gives; no body and no request crashes it."""

from base64 import b64encode
from collections.abc import Iterator
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
from tests.support.laws import clip, examples, json_values, mutate, readable, requests
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_target,
    random_pieces,
    read_until_failure,
    to_sse,
)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
seeds = st.integers(0, 2**32)
logprob_lists = st.lists(
    st.fixed_dictionaries(
        {
            "token": words,
            "logprob": st.floats(-100, 0),
            "bytes": st.none() | st.lists(st.integers(0, 255), max_size=3),
        }
    ),
    min_size=1,
    max_size=3,
)
usages = st.none() | st.fixed_dictionaries(
    {
        "prompt_tokens": st.integers(0, 1000),
        "completion_tokens": st.integers(0, 1000),
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({"cached_tokens": st.integers(0, 9)}),
    }
)


@st.composite
def choices(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """A choice of a whole answer, with its fields in the order in which a stream brings them."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if draw(st.booleans()):
        message["reasoning"] = draw(words)
    if draw(st.booleans()):
        message["content"] = draw(words)
        if draw(st.booleans()):
            message["annotations"] = [
                {"type": "url_citation", "url_citation": {"url": draw(words), "start_index": 1}}
            ]
    if draw(st.booleans()):
        message["refusal"] = draw(words)
    if draw(st.integers(0, 3)) == 0:
        data = b64encode(draw(st.binary(max_size=20))).decode()
        message["audio"] = {"id": "audio_1", "data": data, "transcript": draw(words)}
    calls = draw(st.lists(st.tuples(words, words, st.booleans(), st.booleans()), max_size=3))
    if calls:
        message["tool_calls"] = [make_call(number, *call) for number, call in enumerate(calls)]
    choice = {
        "index": index,
        "message": message,
        "finish_reason": draw(st.sampled_from(["stop", "length", "tool_calls", "odd"])),
    }
    if draw(st.booleans()):
        choice["logprobs"] = {"content": draw(logprob_lists), "refusal": None}
    if draw(st.booleans()):
        choice["content_filter_results"] = {"hate": {"filtered": draw(st.booleans())}}
    return choice


def make_call(number: int, name: str, arguments: str, custom: bool, with_id: bool) -> dict[str, Any]:
    call: dict[str, Any] = {"id": f"id_{number}"} if with_id else {}
    if custom:
        return {**call, "type": "custom", "custom": {"name": name, "input": arguments}}
    return {**call, "type": "function", "function": {"name": name, "arguments": arguments}}


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 3))
    return {
        "id": "chatcmpl-1",
        "model": "gpt-test-1",
        "choices": [draw(choices(index)) for index in range(count)],
        "usage": draw(usages),
        "service_tier": draw(st.none() | words),
    }


def stream_of(answer: dict[str, Any], random: Random) -> bytes:
    """The same answer as a server would stream it, cut and interleaved at random."""
    head = {"id": answer["id"], "model": answer["model"], "object": "chat.completion.chunk"}
    queues = [list(pieces_of(choice, random)) for choice in answer["choices"]]
    chunks: list[dict[str, Any]] = []
    while queues:
        queue = random.choice(queues)
        chunks.append({**head, "choices": [queue.pop(0)], "service_tier": answer["service_tier"]})
        queues = [queue for queue in queues if queue]
    if random.random() < 0.5:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    else:
        chunks[-1]["usage"] = answer["usage"]
    return to_sse(chunks, done=random.random() < 0.8)


def pieces_of(choice: dict[str, Any], random: Random) -> Iterator[dict[str, Any]]:
    message = choice["message"]
    extras = {key: choice[key] for key in ("content_filter_results",) if key in choice}
    tokens = choice.get("logprobs", {}).get("content", [])

    def piece(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
        return {"index": choice["index"], "delta": delta, "finish_reason": reason, **more}

    yield piece({"role": "assistant", "content": random.choice(["", None]), "refusal": None})
    for token in tokens:
        yield piece({"content": ""}, logprobs={"content": [token], "refusal": None})
    for key in ("reasoning", "content", "refusal"):
        for part in cut(message.get(key), random):
            yield piece({key: part})
        if key == "content" and "annotations" in message:
            yield piece({"annotations": message["annotations"]})
    if "audio" in message:
        # Its type is known by its first bytes, so they come together.
        yield piece({"audio": {"id": message["audio"]["id"], "data": message["audio"]["data"]}})
        for part in cut(message["audio"]["transcript"], random):
            yield piece({"audio": {"transcript": part}})
    yield from (piece({"tool_calls": calls}) for calls in call_pieces(message.get("tool_calls", []), random))
    yield piece({}, choice["finish_reason"], **extras)


def call_pieces(calls: list[dict[str, Any]], random: Random) -> Iterator[list[dict[str, Any]]]:
    """Calls begin in order; their arguments may then alternate."""
    rest: list[list[dict[str, Any]]] = []
    for index, call in enumerate(calls):
        kind = call["type"]
        key = "input" if kind == "custom" else "arguments"
        yield [{**call, "index": index, kind: {"name": call[kind]["name"], key: ""}}]
        rest.append([{"index": index, kind: {key: part}} for part in cut(call[kind][key], random)])
    while rest := [queue for queue in rest if queue]:
        yield [random.choice(rest).pop(0)]


def cut(text: str | None, random: Random) -> Iterator[str]:
    position = 0
    while text and position < len(text):
        length = random.randint(1, 3)
        yield text[position : position + length]
        position += length


@settings(max_examples=examples(150), deadline=None)
@given(answer=answers(), seed=seeds)
def test_a_stream_folds_to_what_the_whole_body_gives(answer: dict[str, Any], seed: int) -> None:
    random = Random(seed)
    body = stream_of(answer, random)

    whole = chat_format().parse_chat(orjson.dumps(answer), make_target())

    assert fold_stream([body]) == whole
    assert fold_stream(random_pieces(body, random)) == whole


@settings(max_examples=examples(400), deadline=None)
@given(answer=answers(), seed=seeds, junk=json_values)
def test_no_answer_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    body = orjson.dumps(mutate(answer, Random(seed), clip(junk)))

    try:
        completion = chat_format().parse_chat(body, make_target())
    except GatewayError as error:
        named = error.metadata["provider"]
    else:
        readable(completion)
        named = "providers/my-openai"
    assert named == "providers/my-openai"


@settings(max_examples=examples(400), deadline=None)
@given(answer=answers(), seed=seeds, junk=json_values)
def test_no_stream_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    random = Random(seed)
    lines = stream_of(answer, random).split(b"\n\n")
    place = random.randrange(len(lines))
    if lines[place].startswith(b"data: {"):
        changed = mutate(orjson.loads(lines[place][6:]), random, clip(junk))
        lines[place] = b"data: " + orjson.dumps(changed)
    body = b"\n\n".join(lines)
    pieces = list(random_pieces(body, random))

    assert run([body]) == run(pieces)


@settings(max_examples=examples(200), deadline=None)
@given(junk=json_values | st.binary(max_size=60))
def test_no_bytes_crash_the_parser(junk: Any) -> None:
    body = junk if isinstance(junk, bytes) else orjson.dumps(clip(junk))

    run([b"data: " + body + b"\n\n"])
    with pytest.raises(GatewayError):
        chat_format().parse_chat(body, make_target())


def run(pieces: list[bytes]) -> tuple[bytes, str]:
    """What came of a stream: the answer if it is whole, and the failure if there is one."""
    events, failure = read_until_failure(chat_format().chat_stream(make_target()), pieces)
    if failure is not None:
        return b"", failure.message
    completion = fold_events(events)
    readable(completion)
    return completion.SerializeToString(deterministic=True), ""


@settings(max_examples=examples(300), deadline=None)
@given(request=requests(), provider_type=st.sampled_from(["openai", "vllm"]))
def test_no_request_crashes_the_renderer(request: CreateChatCompletionRequest, provider_type: str) -> None:
    try:
        body = chat_format(provider_type).render_chat(request, make_target(provider_type), stream=True)
    except GatewayError as error:
        reason = error.reason_name
    else:
        reason = ""
        rendered = orjson.loads(body)
        assert rendered["model"] == "gpt-test"
        # No turn is lost, and a tool turn is as many messages as it has results.
        turns = [max(len(turn.parts), 1) if turn.role == Role.ROLE_TOOL else 1 for turn in request.messages]
        assert len(rendered["messages"]) == sum(turns)
    assert reason in {"", "INVALID_REQUEST", "FEATURE_NOT_SUPPORTED"}
