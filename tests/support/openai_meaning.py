"""What a request in OpenAI's format means: two that differ only in spelling are equal here.

Each difference that is taken away is counted under its name, so that a test can say how often it occurred.
"""

from collections import Counter
from typing import Any

JsonObject = dict[str, Any]

#: The differences, and why they change nothing.
DIFFERENCES = {
    "null for an absent key": "the server takes null as absent; we leave such keys out",
    "stream or logprobs false": "is the default; we leave it out",
    "empty description": "is as none; we leave it out",
    "empty list of tools": "is as none; we leave it out",
    "content as one text block": "is the same as a string; we send the string",
    "stop as one string": "is the same as a list of one",
    "functions": "the old name of tools; we send tools",
    "max_tokens": "the old name of max_completion_tokens, which we send to OpenAI",
    "fields of an answer sent back": "clients send whole answers back; servers ignore the rest",
    "a single input": "is the same as a list of one",
    "encoding_format": "we always ask for base64 and read both",
    "assistant content null": "with tool calls or a refusal it is the same as absent",
    "max_completion_tokens": "to vLLM we send its own name, max_tokens",
    "usage of streams": "we always ask for the usage of a stream",
    "spelling of arguments": "an empty text of arguments is sent as an empty object",
}
#: Keys that only an answer has.
_ANSWER_KEYS = {"annotations", "parsed", "function_call", "audio", "refusal", "reasoning"}


def chat_meaning(
    body: JsonObject, notes: Counter[str] | None = None, *, old_limit: bool = False
) -> JsonObject:
    """The meaning of a chat request. ``old_limit``: ``max_tokens`` means ``max_completion_tokens``."""
    notes = Counter() if notes is None else notes
    meaning = _without_nulls(body, notes)
    for key in ("stream", "logprobs"):
        if meaning.get(key) is False:
            notes["stream or logprobs false"] += 1
            del meaning[key]
    if meaning.get("tools") == []:
        notes["empty list of tools"] += 1
        del meaning["tools"]
    if "functions" in meaning:
        notes["functions"] += 1
        functions = meaning.pop("functions")
        meaning["tools"] = [{"type": "function", "function": function} for function in functions]
    if old_limit and "max_tokens" in meaning:
        notes["max_tokens"] += 1
        meaning["max_completion_tokens"] = meaning.pop("max_tokens")
    if isinstance(meaning.get("stop"), str):
        notes["stop as one string"] += 1
        meaning["stop"] = [meaning["stop"]]
    if "tools" in meaning:
        meaning["tools"] = [_tool(tool, notes) for tool in meaning["tools"]]
    meaning["messages"] = [_message(message, notes) for message in meaning["messages"]]
    return meaning


def embeddings_meaning(body: JsonObject, notes: Counter[str] | None = None) -> JsonObject:
    """The meaning of an embeddings request; in which encoding the vectors come is not part of it."""
    notes = Counter() if notes is None else notes
    meaning = _without_nulls(body, notes)
    inputs = meaning["input"]
    if isinstance(inputs, str) or (inputs and isinstance(inputs[0], int)):
        notes["a single input"] += 1
        meaning["input"] = [inputs]
    if meaning.pop("encoding_format", None) != "base64":
        notes["encoding_format"] += 1
    return meaning


def _without_nulls(body: JsonObject, notes: Counter[str]) -> JsonObject:
    notes["null for an absent key"] += sum(value is None for value in body.values())
    return {key: value for key, value in body.items() if value is not None}


def _tool(tool: JsonObject, notes: Counter[str]) -> JsonObject:
    function = tool.get("function")
    if not function or function.get("description") != "":
        return tool
    notes["empty description"] += 1
    return {**tool, "function": {key: value for key, value in function.items() if key != "description"}}


def _message(message: JsonObject, notes: Counter[str]) -> JsonObject:
    meaning = dict(message)
    for key in list(meaning):
        if meaning[key] is None and key in {"content", "tool_calls"}:
            notes["assistant content null"] += 1
            del meaning[key]
        elif meaning[key] is None and key in _ANSWER_KEYS:
            notes["fields of an answer sent back"] += 1
            del meaning[key]
    content = meaning.get("content")
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
        notes["content as one text block"] += 1
        meaning["content"] = content[0]["text"]
    if "tool_calls" in meaning:
        meaning["tool_calls"] = [_call(call, notes) for call in meaning["tool_calls"]]
    return meaning


def _call(call: JsonObject, notes: Counter[str]) -> JsonObject:
    function = dict(call.get("function", {}))
    meaning = {key: value for key, value in call.items() if key not in {"index", "function"}}
    if "index" in call or "parsed_arguments" in function:
        notes["fields of an answer sent back"] += 1
        function.pop("parsed_arguments", None)
    if function.get("arguments") == "":
        notes["spelling of arguments"] += 1
        function["arguments"] = "{}"
    return {**meaning, "function": function} if function else meaning
