"""Laws of Bedrock's format: whole and streamed say the same, and nothing crashes on what anybody sends."""

from base64 import b64encode
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from gateway_server.errors import GatewayError
from tests.support.event_stream import encode_message, event, to_event_stream
from tests.support.laws import clip, examples, json_values, mutate, readable, requests
from tests.support.wire import chat_format, fold_stream, make_target, random_pieces, read_until_failure

CLAUDE = make_target("bedrock", "anthropic.claude-sonnet-4-5-v1:0")
seeds = st.integers(0, 2**32)
words = st.text(max_size=8)
some_bytes = st.binary(min_size=1).map(lambda data: b64encode(data).decode())
numbers = st.integers(0, 9)


def thought(text: str, signature: str) -> dict[str, Any]:
    signed = {"signature": signature} if signature else {}
    return {"reasoningContent": {"reasoningText": {"text": text, **signed}}}


blocks = st.one_of(
    st.builds(lambda text: {"text": text}, words),
    st.builds(thought, words, words),
    st.builds(lambda data: {"reasoningContent": {"redactedContent": data}}, some_bytes),
    st.builds(lambda number: {"toolUse": {"name": "f", "input": {"a": number}}}, numbers),
    st.builds(lambda data: {"image": {"format": "png", "source": {"bytes": data}}}, some_bytes),
    st.builds(lambda number: {"hologram": {"depth": number}}, numbers),
)
reasons = st.sampled_from(["end_turn", "tool_use", "max_tokens", "guardrail_intervened", "new"])


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    content = draw(st.lists(blocks, max_size=4))
    for number, block in enumerate(content):
        if "toolUse" in block:
            block["toolUse"]["toolUseId"] = f"t{number}"
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": draw(reasons),
        "usage": {
            "inputTokens": draw(st.integers(0, 99)),
            "outputTokens": draw(st.integers(0, 99)),
            "cacheReadInputTokens": draw(st.integers(0, 99)),
        },
        "metrics": {"latencyMs": draw(st.integers(0, 99))},
    }


def cut(text: str, random: Random) -> list[str]:
    """The text in pieces; at least one."""
    pieces = []
    while len(text) > 3:
        length = random.randint(1, 3)
        pieces.append(text[:length])
        text = text[length:]
    return [*pieces, text]


def events_of(answer: dict[str, Any], random: Random) -> list[dict[str, Any]]:
    """A stream that says what the answer says."""
    events: list[dict[str, Any]] = [{"messageStart": {"role": "assistant"}}]
    for index, block in enumerate(answer["output"]["message"]["content"]):
        starts, deltas = _announce(block, random)
        at = {"contentBlockIndex": index}
        events += [{"contentBlockStart": {**at, "start": start}} for start in starts]
        events += [{"contentBlockDelta": {**at, "delta": delta}} for delta in deltas]
        events.append({"contentBlockStop": at})
    events.append({"messageStop": {"stopReason": answer["stopReason"]}})
    events.append({"metadata": {"usage": answer["usage"], "metrics": answer["metrics"]}})
    return events


def _announce(block: dict[str, Any], random: Random) -> tuple[list[Any], list[Any]]:
    """What announces a block, and its deltas."""
    [(kind, value)] = block.items()
    match kind:
        case "text":
            return [], [{"text": piece} for piece in cut(value, random)]
        case "toolUse":
            text = orjson.dumps(value["input"]).decode()
            start = {"toolUse": {"toolUseId": value["toolUseId"], "name": value["name"]}}
            return [start], [{"toolUse": {"input": piece}} for piece in cut(text, random)]
        case "image":
            return [{"image": {"format": "png"}}], [{"image": {"source": value["source"]}}]
        case "reasoningContent" if "redactedContent" in value:
            return [], [{"reasoningContent": value}]
        case "reasoningContent":
            thought = value["reasoningText"]
            pieces = [{"text": piece} for piece in cut(thought["text"], random)]
            pieces += [{"signature": piece} for piece in cut(thought.get("signature", ""), random)]
            return [], [{"reasoningContent": piece} for piece in pieces]
        case _:
            return [block], []


@settings(max_examples=examples(150), deadline=None)
@given(answer=answers(), seed=seeds)
def test_a_stream_folds_to_what_the_whole_body_gives(answer: dict[str, Any], seed: int) -> None:
    random = Random(seed)
    body = to_event_stream(events_of(answer, random))

    whole = chat_format("bedrock").parse_chat(orjson.dumps(answer), CLAUDE)

    assert fold_stream([body], CLAUDE) == whole
    assert fold_stream(random_pieces(body, random), CLAUDE) == whole


@settings(max_examples=examples(300), deadline=None)
@given(answer=answers(), seed=seeds, junk=json_values)
def test_no_answer_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    body = orjson.dumps(mutate(answer, Random(seed), clip(junk)))

    try:
        readable(chat_format("bedrock").parse_chat(body, CLAUDE))
    except GatewayError as error:
        named = error.metadata["provider"]
    else:
        named = "providers/my-bedrock"
    assert named == "providers/my-bedrock"


def run(pieces: list[bytes]) -> tuple[bytes, str]:
    """What came of a stream: the answer if it is whole, and the failure if there is one."""
    events, failure = read_until_failure(chat_format("bedrock").chat_stream(CLAUDE), pieces)
    if failure is not None:
        return b"", failure.message
    completion = fold_events(events)
    readable(completion)
    return completion.SerializeToString(deterministic=True), ""


@settings(max_examples=examples(300), deadline=None)
@given(answer=answers(), seed=seeds, junk=json_values)
def test_no_event_crashes_the_parser(answer: dict[str, Any], seed: int, junk: Any) -> None:
    random = Random(seed)
    events = events_of(answer, random)
    place = random.randrange(len(events))
    [(kind, payload)] = events[place].items()
    frames = [to_event_stream([each]) for each in events]
    frames[place] = event(kind, mutate(payload, random, clip(junk)))
    body = b"".join(frames)

    assert run([body]) == run(list(random_pieces(body, random)))


@settings(max_examples=examples(200), deadline=None)
@given(answer=answers(), seed=seeds, junk=st.binary(max_size=12))
def test_no_bytes_crash_the_parser(answer: dict[str, Any], seed: int, junk: bytes) -> None:
    random = Random(seed)
    body = to_event_stream(events_of(answer, random))
    place = random.randrange(len(body))
    damaged = body[:place] + junk + body[place + random.randrange(20) :]

    assert run([damaged]) == run(list(random_pieces(damaged, random)))
    run([junk])
    with pytest.raises(GatewayError):
        chat_format("bedrock").parse_chat(junk, CLAUDE)


@settings(max_examples=examples(100), deadline=None)
@given(
    headers=st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3),
    payload=st.binary(max_size=20),
)
def test_no_message_crashes_the_parser(headers: dict[str, str], payload: bytes) -> None:
    run([encode_message(headers, payload)])
    run([encode_message({**headers, ":message-type": "event", ":event-type": "messageStop"}, payload)])
    run([encode_message({**headers, ":message-type": "exception"}, payload)])


MODELS = ["us.anthropic.claude-opus-4-8-v1:0", "amazon.nova-2-lite-v1:0", "meta.llama3-1-8b-instruct-v1:0"]


@settings(max_examples=examples(300), deadline=None)
@given(request=requests(), model=st.sampled_from(MODELS))
def test_no_request_crashes_the_renderer(request: CreateChatCompletionRequest, model: str) -> None:
    try:
        body = chat_format("bedrock").render_chat(request, make_target("bedrock", model), stream=False)
    except GatewayError as error:
        reason = error.reason_name
    else:
        reason = ""
        rendered = orjson.loads(body)
        assert rendered["messages"][0]["role"] == "user"
        assert all(message["content"] for message in rendered["messages"])
    assert reason in {"", "INVALID_REQUEST", "FEATURE_NOT_SUPPORTED"}
