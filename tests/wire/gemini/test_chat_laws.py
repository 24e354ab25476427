"""Laws of the format: a stream folds to what the whole body gives; an answer goes back as it came."""

from base64 import b64encode
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from gateway_server.errors import GatewayError
from tests.support.laws import clip, examples, json_values, mutate, readable, requests
from tests.support.wire import (
    chat_format,
    fold_stream,
    make_endpoint,
    make_target,
    random_pieces,
    read_until_failure,
)

TARGET = make_target("google", "gemini-3-test")
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
seeds = st.integers(0, 2**32)
counts = st.integers(0, 1000)
signatures = st.from_regex(r"[A-Za-z0-9+/]{1,8}", fullmatch=True)
objects = st.dictionaries(words, json_values.map(clip), max_size=3)
blobs = st.fixed_dictionaries(
    {
        "mimeType": st.sampled_from(["image/png", "audio/wav", "video/mp4", "application/pdf"]),
        "data": st.binary(min_size=1, max_size=9).map(lambda data: b64encode(data).decode()),
    }
)


def part(
    required: dict[str, st.SearchStrategy], optional: dict[str, st.SearchStrategy] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional={"thoughtSignature": signatures} | (optional or {}))


#: Every kind of part; blocks that have no kind in the contract among them.
parts = st.one_of(
    part({"text": words}),
    part({"text": words, "thought": st.just(True)}),
    st.fixed_dictionaries({"text": st.just(""), "thoughtSignature": signatures}),
    part(
        {
            "functionCall": st.fixed_dictionaries(
                {"name": words, "args": objects},
                optional={"id": st.just("fc")},
            )
        }
    ),
    part({"inlineData": blobs}),
    part({"executableCode": objects}),
    part({"somethingNew": json_values.map(clip).filter(lambda value: value is not None)}),
)


@st.composite
def candidates(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """A candidate without neighbouring texts that a stream could not tell from one."""
    drawn: list[dict[str, Any]] = []
    for each in draw(st.lists(parts, max_size=5)):
        if not (drawn and is_plain(each) and is_plain(drawn[-1]) and each.keys() == drawn[-1].keys()):
            drawn.append(numbered(each, len(drawn)))
    candidate: dict[str, Any] = {
        "content": {"parts": drawn, "role": "model"},
        "finishReason": draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "ODD"])),
        "index": index,
    }
    if draw(st.booleans()):
        token = {"token": draw(words), "logProbability": draw(st.floats(-100, 0))}
        candidate["logprobsResult"] = {"chosenCandidates": [token]}
    if draw(st.booleans()):
        candidate["safetyRatings"] = [{"category": draw(words), "blocked": draw(st.booleans())}]
    return candidate


def numbered(each: dict[str, Any], place: int) -> dict[str, Any]:
    """The part with an id of its own, if it is a call that has one."""
    if "id" not in each.get("functionCall", {}):
        return each
    return {**each, "functionCall": {**each["functionCall"], "id": f"fc-{place}"}}


def is_plain(each: dict[str, Any]) -> bool:
    """Whether it is a text or a thought that more of the same may follow."""
    return "text" in each and "thoughtSignature" not in each


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    usage = st.fixed_dictionaries(
        {"promptTokenCount": counts},
        optional={
            "candidatesTokenCount": counts,
            "thoughtsTokenCount": counts,
            "cachedContentTokenCount": counts,
            "toolUsePromptTokenCount": counts,
            "serviceTier": words,
        },
    )
    answer: dict[str, Any] = {
        "candidates": [draw(candidates(index)) for index in range(draw(st.integers(1, 3)))],
        "modelVersion": "gemini-test-1",
        "responseId": "r1",
        "usageMetadata": draw(usage),
    }
    if draw(st.booleans()):
        answer["modelStatus"] = {"stage": draw(words)}
    return answer


def stream_of(answer: dict[str, Any], random: Random) -> bytes:
    """The same answer as Google would stream it: parts whole, texts in pieces, candidates in any order."""
    head = {"modelVersion": answer["modelVersion"], "responseId": answer["responseId"]}
    queues = [pieces_of(candidate, random) for candidate in answer["candidates"]]
    chunks: list[dict[str, Any]] = []
    while queues:
        queue = random.choice(queues)
        chunks.append({"candidates": [queue.pop(0)], "usageMetadata": {"promptTokenCount": 1}, **head})
        queues = [queue for queue in queues if queue]
    chunks[-1] |= {key: value for key, value in answer.items() if key != "candidates"}
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\r\n\r\n" for chunk in chunks)


def pieces_of(candidate: dict[str, Any], random: Random) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for each in candidate["content"]["parts"]:
        said += cut(each, random) if is_plain(each) else [each]
    chunks = [{"content": {"parts": [each]}, "index": candidate["index"]} for each in said]
    rest = {key: value for key, value in candidate.items() if key != "content"}
    return [*chunks, rest] if random.random() < 0.5 or not chunks else [*chunks[:-1], chunks[-1] | rest]


def cut(each: dict[str, Any], random: Random) -> list[dict[str, Any]]:
    text, position, pieces = each["text"], 0, []
    while position < len(text):
        length = random.randint(1, 3)
        pieces.append({**each, "text": text[position : position + length]})
        position += length
    return pieces


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers(), seed=seeds)
def test_a_stream_folds_to_what_the_whole_body_gives(answer: dict[str, Any], seed: int) -> None:
    random = Random(seed)
    body = stream_of(answer, random)

    whole = chat_format("google").parse_chat(orjson.dumps(answer), TARGET)

    assert fold_stream([body], TARGET) == whole
    assert fold_stream(random_pieces(body, random), TARGET) == whole


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers())
def test_an_answer_goes_back_as_it_came(answer: dict[str, Any]) -> None:
    """But for what the gateway adds where a signature is wanted."""
    for candidate in answer["candidates"]:
        said = candidate["content"]["parts"]
        if not said:
            continue
        body = orjson.dumps({**answer, "candidates": [candidate]})
        request = CreateChatCompletionRequest(model="any")
        request.messages.add(role=Role.ROLE_USER).parts.add().text.text = "Hello"
        request.messages.append(chat_format("google").parse_chat(body, TARGET).choices[0].message)

        sent = orjson.loads(chat_format("google").render_chat(request, TARGET, stream=False))

        assert [without_stand_in(each) for each in sent["contents"][1]["parts"]] == said


def without_stand_in(each: dict[str, Any]) -> dict[str, Any]:
    stand_in = each.get("thoughtSignature") == "skip_thought_signature_validator"
    return {key: value for key, value in each.items() if not (stand_in and key == "thoughtSignature")}


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers(), seed=seeds, junk=json_values)
def test_no_answer_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    body = orjson.dumps(mutate(answer, Random(seed), clip(junk)))

    try:
        completion = chat_format("google").parse_chat(body, TARGET)
    except GatewayError as error:
        named = error.metadata["provider"]
    else:
        readable(completion)
        named = TARGET.provider
    assert named == TARGET.provider


def run(pieces: list[bytes]) -> tuple[bytes, str]:
    """What came of a stream: the answer if it is whole, and the failure if there is one."""
    events, failure = read_until_failure(chat_format("google").chat_stream(TARGET), pieces)
    if failure is not None:
        return b"", failure.message
    completion = fold_events(events)
    readable(completion)
    return completion.SerializeToString(deterministic=True), ""


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers(), seed=seeds, junk=json_values)
def test_no_stream_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    random = Random(seed)
    events = stream_of(answer, random).split(b"\r\n\r\n")
    place = random.randrange(len(events) - 1)
    events[place] = b"data: " + orjson.dumps(mutate(orjson.loads(events[place][6:]), random, clip(junk)))
    body = b"\r\n\r\n".join(events)

    assert run([body]) == run(list(random_pieces(body, random)))


@settings(max_examples=examples(200), deadline=None)
@given(junk=json_values | st.binary(max_size=60))
def test_no_bytes_crash_any_parser(junk: Any) -> None:
    body = junk if isinstance(junk, bytes) else orjson.dumps(clip(junk))
    embeddings_format = make_endpoint("google").embeddings_format
    assert embeddings_format is not None
    request = CreateEmbeddingsRequest(model="any")
    request.inputs.add().text = "a"

    run([b"data: " + body + b"\r\n\r\n"])
    error = chat_format("google").parse_error(429, {}, b'{"error": ' + body + b"}", TARGET)
    assert error.reason_name in {"UPSTREAM_RATE_LIMITED", "UPSTREAM_CREDENTIAL_REJECTED"}
    with pytest.raises(GatewayError):
        chat_format("google").parse_chat(body, TARGET)
    with pytest.raises(GatewayError):
        embeddings_format.parse_embeddings(body, request, TARGET)


@settings(max_examples=examples(200), deadline=None)
@given(request=requests(), model=st.sampled_from(["gemini-2.5-flash", "gemini-3-flash-preview", "gemma-3"]))
def test_no_request_crashes_the_renderer(request: CreateChatCompletionRequest, model: str) -> None:
    try:
        body = chat_format("google").render_chat(request, make_target("google", model), stream=True)
    except GatewayError as error:
        reason = error.reason_name
    else:
        reason = ""
        rendered = orjson.loads(body)
        # Nothing is lost: each part of each turn is one, but for thoughts that say nothing.
        asked = [turn for turn in request.messages if turn.role != Role.ROLE_ASSISTANT]
        said = [content for content in rendered["contents"] if content["role"] == "model"]
        others = [content for content in rendered["contents"] if content["role"] == "user"]
        told = rendered.get("systemInstruction", {"parts": []})["parts"]
        assert len(said) == len(request.messages) - len(asked)
        assert sum(len(content["parts"]) for content in others) + len(told) == sum(
            len(turn.parts) for turn in asked
        )
    assert reason in {"", "INVALID_REQUEST", "FEATURE_NOT_SUPPORTED"}
