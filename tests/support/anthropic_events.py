"""Streams as Anthropic frames them, made from whole answers."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import orjson

JsonObject = dict[str, Any]

#: Kinds of blocks whose beginning is empty, and the delta and field that bring the rest.
_GROWING = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


def to_events(events: Iterable[JsonObject], random: Random | None = None) -> bytes:
    """Events with their names, padded with spaces before the last brace as the provider pads them."""
    framed = []
    for event in events:
        data = orjson.dumps(event)
        padding = b" " * random.randrange(12) if random else b""
        framed.append(b"event: " + event["type"].encode() + b"\ndata: " + data[:-1] + padding + b"}\n\n")
    return b"".join(framed)


def events_of(answer: JsonObject, random: Random | None = None) -> list[JsonObject]:
    """The events of a whole answer: texts and inputs in pieces, pings between them where random."""
    random = random or Random(0)
    usage = {**answer["usage"], "output_tokens": 1}
    start = {**answer, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    start.pop("stop_details", None)
    events: list[JsonObject] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(answer["content"]):
        begun, deltas = _split(block, random)
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        if random.random() < 0.3:
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {key: answer[key] for key in ("stop_reason", "stop_sequence", "stop_details") if key in answer}
    told = {key: value for key, value in answer["usage"].items() if not isinstance(value, dict | str)}
    if random.random() < 0.5:
        told = {"output_tokens": told["output_tokens"]}
    told |= {key: value for key, value in answer["usage"].items() if key == "output_tokens_details" and value}
    events.append({"type": "message_delta", "delta": end, "usage": told})
    events.append({"type": "message_stop"})
    return events


def _split(block: JsonObject, random: Random) -> tuple[JsonObject, list[JsonObject]]:
    """How a block begins, and how it grows."""
    kind = block["type"]
    if kind in _GROWING:
        delta, field = _GROWING[kind]
        deltas = [{"type": delta, field: piece} for piece in _cut(block[field], random)]
        begun = {**block, field: ""}
        if "signature" in block:
            begun["signature"] = ""
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        if block.get("citations"):
            begun["citations"] = []
            cited = [{"type": "citations_delta", "citation": each} for each in block["citations"]]
            deltas = cited + deltas if random.random() < 0.5 else deltas + cited
        return begun, deltas
    if kind in {"tool_use", "server_tool_use"}:
        text = orjson.dumps(block["input"]).decode() if block["input"] else ""
        pieces = ["", *_cut(text, random)]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": p} for p in pieces]
    return block, []


def _cut(text: str, random: Random) -> Iterator[str]:
    position = 0
    while position < len(text):
        length = random.randint(1, 9)
        yield text[position : position + length]
        position += length
