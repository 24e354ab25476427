"""What providers answer, in each format: streams of some deltas, and whole answers."""

from collections.abc import Sequence
from struct import pack
from typing import Any, Final
from zlib import crc32

import orjson

#: What is measured: the name of the format, and a type of provider that speaks it. The first is the measure.
FORMATS: Final = {
    "openai_chat": "openai",
    "anthropic_messages": "anthropic",
    "bedrock_converse": "bedrock",
    "gemini": "google",
}
CONFIG: Final[dict[str, dict[str, str]]] = {"bedrock": {"region": "us-east-1"}}


ARGUMENTS: Final = {"city": "Graz", "unit": "celsius"}


def stream_pieces(provider_type: str, deltas: Sequence[str]) -> list[bytes]:
    """A streamed answer of some deltas of text: what opens it, a piece for each delta, what ends it."""
    return _STREAMS.get(provider_type, _openai_stream)(deltas)


def _openai_stream(deltas: Sequence[str]) -> list[bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        body = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return b"data: " + orjson.dumps(body) + b"\n\n"

    end = chunk({}, "stop") + b"data: [DONE]\n\n"
    return [chunk({"role": "assistant", "content": ""}), *[chunk({"content": text}) for text in deltas], end]


def _anthropic_stream(deltas: Sequence[str]) -> list[bytes]:
    def event(kind: str, **fields: object) -> bytes:
        return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"

    usage = {"input_tokens": 9, "output_tokens": 1}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    start = event("message_start", message={**head, "stop_reason": None, "stop_sequence": None})
    start += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    end = event("content_block_stop", index=0)
    end += event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
    pieces = [
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in deltas
    ]
    return [start, *pieces, end + event("message_stop")]


def _gemini_stream(deltas: Sequence[str]) -> list[bytes]:
    def event(parts: list[dict[str, Any]], **fields: str) -> bytes:
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, **fields}
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
        body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}
        return b"data: " + orjson.dumps(body) + b"\r\n\r\n"

    # Google's first event holds the first words already.
    first, *others = deltas
    pieces = [event([{"text": text}]) for text in others]
    return [b"", event([{"text": first}]), *pieces, event([], finishReason="STOP")]


def _openai_answer(text: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": orjson.dumps(ARGUMENTS).decode()}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    message = {"role": "assistant", "content": text, "refusal": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 90, "completion_tokens": 60, "total_tokens": 150}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


def _anthropic_answer(text: str) -> dict[str, Any]:
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": ARGUMENTS}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m"}
    finish = {"stop_reason": "tool_use", "stop_sequence": None}
    usage = {"input_tokens": 90, "output_tokens": 60}
    return {**head, "content": [{"type": "text", "text": text}, call], **finish, "usage": usage}


def _gemini_answer(text: str) -> dict[str, Any]:
    parts = [{"text": text}, {"functionCall": {"name": "get_weather", "args": ARGUMENTS}}]
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 90, "candidatesTokenCount": 60, "totalTokenCount": 150}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}


def _bedrock_stream(deltas: Sequence[str]) -> list[bytes]:
    def event(kind: str, **fields: object) -> bytes:
        named = ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event"))
        headers = b"".join(
            pack(f"!B{len(name)}sBH", len(name), name.encode(), 7, len(value)) + value.encode()
            for name, value in named
        )
        payload = orjson.dumps(fields)
        prelude = pack("!II", len(headers) + len(payload) + 16, len(headers))
        message = prelude + pack("!I", crc32(prelude)) + headers + payload
        return message + pack("!I", crc32(message))

    pieces = [event("contentBlockDelta", contentBlockIndex=0, delta={"text": text}) for text in deltas]
    end = event("contentBlockStop", contentBlockIndex=0) + event("messageStop", stopReason="end_turn")
    usage = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
    end += event("metadata", usage=usage, metrics={"latencyMs": 5})
    return [event("messageStart", role="assistant"), *pieces, end]


def _bedrock_answer(text: str) -> dict[str, Any]:
    call = {"toolUse": {"toolUseId": "tooluse_1", "name": "get_weather", "input": ARGUMENTS}}
    message = {"role": "assistant", "content": [{"text": text}, call]}
    usage = {"inputTokens": 90, "outputTokens": 60, "totalTokens": 150}
    return {"output": {"message": message}, "stopReason": "tool_use", "usage": usage}


_STREAMS: Final = {"anthropic": _anthropic_stream, "bedrock": _bedrock_stream, "google": _gemini_stream}
_ANSWERS: Final = {
    "anthropic": _anthropic_answer,
    "bedrock": _bedrock_answer,
    "google": _gemini_answer,
    "openai": _openai_answer,
}


def whole_answer(provider_type: str, text: str) -> bytes:
    """An answer of a text and a call."""
    return orjson.dumps(_ANSWERS[provider_type](text))
