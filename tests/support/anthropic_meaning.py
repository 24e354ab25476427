"""What a request in Anthropic's format means: two that differ only in spelling are equal here.

Each difference that is taken away is counted under its name, so that a test can say how often it occurred.
"""

from collections import Counter
from typing import Any

JsonObject = dict[str, Any]

#: The differences, and why they change nothing.
DIFFERENCES = {
    "null or default": "null, false, empty text and empty lists stand for it; we leave such keys out",
    "content as a string": "is the same as one text block",
    "automatic choice": "is the default where there are tools",
    "parallel calls allowed": "is the default of a choice",
    "neighbours of one role": "the provider joins them as we do",
    "called directly": "is the default of who calls a tool",
    "empty texts": "say nothing, and most are refused; we leave them out",
    "custom tools": "is the default type of a tool",
}
_DEFAULTS = {
    "stream": False,
    "description": "",
    "is_error": False,
    "tools": [],
    "citations": {"enabled": False},
}


def chat_meaning(body: JsonObject, notes: Counter[str] | None = None) -> JsonObject:
    """The meaning of a chat request or of a count."""
    notes = Counter() if notes is None else notes
    meaning = _plain(body, notes)
    if "system" in meaning:
        system = _content(meaning.pop("system"), notes)
        meaning |= {"system": system} if system else {}
    messages: list[JsonObject] = []
    for message in meaning["messages"]:
        content = _content(message["content"], notes)
        if messages and messages[-1]["role"] == message["role"]:
            notes["neighbours of one role"] += 1
            messages[-1]["content"] += content
        else:
            messages.append({"role": message["role"], "content": content})
    meaning["messages"] = messages
    for tool in meaning.get("tools", []):
        if tool.get("type") == "custom":
            notes["custom tools"] += 1
            del tool["type"]
    choice = meaning.get("tool_choice")
    if choice is not None:
        if choice.get("disable_parallel_tool_use") is False:
            notes["parallel calls allowed"] += 1
            del choice["disable_parallel_tool_use"]
        if choice == {"type": "auto"}:
            notes["automatic choice"] += 1
            del meaning["tool_choice"]
    return meaning


def _plain(value: Any, notes: Counter[str]) -> Any:
    """The value without what stands for a default. What a tool is called with, or how, is not touched."""
    if isinstance(value, list):
        return [_plain(item, notes) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {}
    for key, item in value.items():
        if item is None or (key in _DEFAULTS and item == _DEFAULTS[key]):
            notes["null or default"] += 1
        elif key in {"input", "input_schema", "schema"}:
            plain[key] = item
        else:
            plain[key] = _plain(item, notes)
    return plain


def _content(content: Any, notes: Counter[str]) -> list[JsonObject]:
    if isinstance(content, str):
        notes["content as a string"] += 1
        content = [{"type": "text", "text": content}]
    blocks = [_block(block, notes) for block in content if block != {"type": "text", "text": ""}]
    notes["empty texts"] += len(content) - len(blocks)
    return blocks


def _block(block: JsonObject, notes: Counter[str]) -> JsonObject:
    if block["type"] == "tool_result" and "content" in block:
        content = _content(block["content"], notes)
        rest = {key: value for key, value in block.items() if key != "content"}
        return {**rest, "content": content} if content else rest
    if block["type"] == "tool_use" and block.get("caller") == {"type": "direct"}:
        notes["called directly"] += 1
        return {key: value for key, value in block.items() if key != "caller"}
    return block
