"""What the demo provider said, in the shapes of OpenAI's answers: whole, in chunks, and counted."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from gateway_server.providers.demo.commands import JsonObject
from gateway_server.providers.demo.text import split_tokens, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One choice: text as tokens, or calls."""

    tokens: list[str] = field(default_factory=list)
    calls: list[JsonObject] = field(default_factory=list)
    finish_reason: str = "stop"


def render_whole(head: JsonObject, said: list[Said], usage: JsonObject) -> JsonObject:
    """The answer to a request without ``stream``."""
    choices: list[JsonObject] = []
    for index, choice in enumerate(said):
        message: JsonObject = {"role": "assistant", "content": "".join(choice.tokens), "refusal": None}
        if choice.calls:
            message |= {"content": None, "tool_calls": choice.calls}
        choices.append({"index": index, "message": message, "finish_reason": choice.finish_reason})
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage}


def render_chunks(head: JsonObject, said: list[Said], usage: JsonObject | None) -> Iterator[JsonObject]:
    """The chunks of a streamed answer, one token each; the last has the usage where it is wanted."""
    head = {**head, "object": "chat.completion.chunk"}
    for index, choice in enumerate(said):
        for delta in _deltas(choice):
            yield {**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": index, "delta": {}, "finish_reason": choice.finish_reason}]}
    if usage is not None:
        yield {**head, "choices": [], "usage": usage}


def count_usage(request: JsonObject, said: list[Said]) -> JsonObject:
    """Counts what was really read and written, in the demo provider's own tokens."""
    messages = request["messages"]
    read = [text_of(message.get("content")) for message in messages]
    asides = [call for message in messages for call in _items(message.get("tool_calls"))]
    read += [orjson.dumps(aside).decode() for aside in asides + _items(request.get("tools"))]
    prompt = sum(len(split_tokens(text)) for text in read)
    completion = sum(len(choice.tokens) for choice in said)
    completion += sum(1 + len(_argument_tokens(call)) for choice in said for call in choice.calls)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _deltas(choice: Said) -> Iterator[JsonObject]:
    yield {"role": "assistant", "content": None if choice.calls else ""}
    for token in choice.tokens:
        yield {"content": token}
    for number, call in enumerate(choice.calls):
        kind, key = call["type"], _arguments_key(call)
        first = {"name": call[kind]["name"], key: ""}
        yield {"tool_calls": [{"index": number, "id": call["id"], "type": kind, kind: first}]}
        for token in _argument_tokens(call):
            yield {"tool_calls": [{"index": number, kind: {key: token}}]}


def _arguments_key(call: JsonObject) -> str:
    return "input" if call["type"] == "custom" else "arguments"


def _argument_tokens(call: JsonObject) -> list[str]:
    return split_tokens(call[call["type"]][_arguments_key(call)])
