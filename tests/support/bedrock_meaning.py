"""What a request in Converse's format means: two that differ only in spelling are equal here.

Each difference that is taken away is counted under its name, so that a test can say how often it occurred.
"""

from collections import Counter
from typing import Any

JsonObject = dict[str, Any]

#: The differences, and why they change nothing.
DIFFERENCES = {
    "empty object or list": "is as none; we leave it out",
    "status of a success": "is the default; we leave it out, since not all models know the key",
    "neighbours of one role": "are one turn to the provider's models; we merge them",
    "empty description": "is refused by the published description, and as none",
}


def chat_meaning(body: JsonObject, notes: Counter[str] | None = None) -> JsonObject:
    """The meaning of the body of Converse, or of that part of a count."""
    notes = Counter() if notes is None else notes
    meaning: JsonObject = {}
    for key, value in body.items():
        if value in ({}, []):
            notes["empty object or list"] += 1
        else:
            meaning[key] = value
    meaning["messages"] = _messages(body["messages"], notes)
    return meaning


def _messages(messages: list[JsonObject], notes: Counter[str]) -> list[JsonObject]:
    merged: list[JsonObject] = []
    for message in messages:
        content = [_block(block, notes) for block in message["content"]]
        if merged and merged[-1]["role"] == message["role"]:
            notes["neighbours of one role"] += 1
            merged[-1]["content"] += content
        else:
            merged.append({"role": message["role"], "content": content})
    return merged


def _block(block: JsonObject, notes: Counter[str]) -> JsonObject:
    result = block.get("toolResult")
    if result is None or result.get("status") != "success" or "type" in result:
        return block
    notes["status of a success"] += 1
    return {"toolResult": {key: value for key, value in result.items() if key != "status"}}
