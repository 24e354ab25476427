"""Changes JSON, and streams of it, so that what comes out mostly still is JSON and means something.

A fuzzer that flips bytes rarely gets past the JSON parser; these changes do, and leave some to the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import orjson

#: Words of the format that a change may bring in, as keys and as values.
WORDS: Final = (
    *("id", "object", "created", "model", "choices", "usage", "error", "index", "message", "delta", "data"),
    *(
        "finish_reason",
        "stop_reason",
        "logprobs",
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
    ),
    *("annotations", "audio", "reasoning", "reasoning_content", "transcript", "type", "text", "function"),
    *("custom", "name", "arguments", "input", "url_citation", "url", "title", "start_index", "end_index"),
    *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens"),
    *("cache_write_tokens", "completion_tokens_details", "reasoning_tokens", "audio_tokens", "token"),
    *("logprob", "bytes", "top_logprobs", "code", "param", "detail", "embedding", "service_tier", "stop"),
    *("message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "ping"),
    *("content_block_stop", "content_block", "text_delta", "input_json_delta", "partial_json", "thinking"),
    *(
        "thinking_delta",
        "signature_delta",
        "signature",
        "citations",
        "citations_delta",
        "citation",
        "tool_use",
    ),
    *(
        "redacted_thinking",
        "server_tool_use",
        "cited_text",
        "char_location",
        "document_index",
        "stop_sequence",
    ),
    *("stop_details", "explanation", "category", "input_tokens", "output_tokens", "cache_read_input_tokens"),
    *(
        "candidates",
        "parts",
        "functionCall",
        "functionResponse",
        "args",
        "thought",
        "thoughtSignature",
        "role",
    ),
    *("finishReason", "usageMetadata", "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    *(
        "cachedContentTokenCount",
        "inlineData",
        "mimeType",
        "fileData",
        "fileUri",
        "executableCode",
        "safetyRatings",
    ),
    *(
        "groundingMetadata",
        "groundingChunks",
        "groundingSupports",
        "citationMetadata",
        "promptFeedback",
        "model",
    ),
    *(
        "blockReason",
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "modelVersion",
        "responseId",
        "willContinue",
        "partialArgs",
    ),
    *("cache_creation", "ephemeral_1h_input_tokens", "caller", "direct", "end_turn", "max_tokens"),
    *("length", "tool_calls", "content_filter", "other", "assistant", "call_1", "call_2", "image_url"),
)
_JUNK: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 7, 127, 128, 2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1),
    *(-(2**63), 0.0, -0.0, 0.5, 1e308, 5e-324, 1.0, "", " ", "0", "1", "429", "é", "\U0001f600", "\x00"),
    *(
        "A" * 300,
        "AAAA",
        "AAA",
        "UklGRg==",
        "SUQz",
        "\ufeff",
        "a\nb\r\n\r\nc",
        [],
        {},
        [[]],
        [{}],
        [None],
        {"": ""},
    ),
)
_NESTING: Final = (2, 17, 101, 130, 260, 600, 1000)
_DEEP: Final = "\x01deep"


def mutate_json(data: bytes, random: Random) -> bytes:
    """The JSON text with some places changed; bytes that are no JSON have some of them changed."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return mutate_bytes(data, random)
    if random.random() < 0.05:
        return mutate_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        value = _mutate_value(value, random)
    try:
        text = orjson.dumps(value)
    except TypeError:  # nested deeper than it writes
        return mutate_bytes(data, random)
    return _dig(text, random)


def mutate_stream(data: bytes, random: Random) -> bytes:
    """A stream of events with some events, or the bytes between them, changed."""
    if random.random() < 0.1:
        return mutate_bytes(data, random)
    ends = [b"\n\n"] * 20 + [b"\r\n\r\n", b"\r\r", b"\n", b"\n\r\n", b"\r\n\n", b""]
    events = [event for event in data.split(b"\n\n") if event]
    for _ in range(random.choice((1, 1, 2, 4))):
        events = _mutate_events(events, random)
    return b"".join(event + random.choice(ends) for event in events)


def _mutate_events(events: list[bytes], random: Random) -> list[bytes]:
    if not events:
        return [b"data: {}"]
    place = random.randrange(len(events))
    match random.randrange(8):
        case 0:
            return events[:place] + events[place + 1 :]
        case 1:
            return [*events[: place + 1], *events[place:]]
        case 2:
            other = random.randrange(len(events))
            events = events.copy()
            events[place], events[other] = events[other], events[place]
            return events
        case 3:
            extra = random.choice((b"data: [DONE]", b": note", b"event: x\ndata: {}", b"data:", b"id: 1"))
            return [*events[:place], extra, *events[place:]]
        case _:
            head, colon, payload = events[place].partition(b"data: ")
            changed = head + colon + mutate_json(payload, random)
            if random.random() < 0.05:
                changed = changed.replace(b",", b",\ndata: ", 1)
            return [*events[:place], changed, *events[place + 1 :]]


def _mutate_value(value: Any, random: Random) -> Any:
    """Goes down to some place and changes what is there."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        return {**value, key: _mutate_value(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        return [*value[:place], _mutate_value(value[place], random), *value[place + 1 :]]
    return random.choice(_CHANGES)(value, random)


def _replace(value: Any, random: Random) -> Any:
    return random.choice((*_JUNK, random.choice(WORDS)))


def _alter(value: Any, random: Random) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return random.choice((value + 1, value - 1, -value, value * 2**16)) % 2**63
        case float():
            return value * random.choice((-1, 0.5, 1e300))
        case str():
            return _alter_text(value, random)
        case list() if value:
            return random.choice((value[1:], value[::-1], value + value[:1], value * random.choice((2, 9))))
        case dict() if value:
            key = random.choice(list(value))
            others = {name: item for name, item in value.items() if name != key}
            return random.choice((others, {**others, random.choice(WORDS): value[key]}))
        case _:
            return _replace(value, random)


def _alter_text(text: str, random: Random) -> str:
    place = random.randint(0, len(text))
    piece = random.choice(("", "é", "\U0001f600", "\x00", "=", "A", '"', "{", "\\", random.choice(WORDS)))
    return text[:place] + piece + text[place + random.randint(0, 3) :]


def _add(value: Any, random: Random) -> Any:
    item = random.choice((*_JUNK, random.choice(WORDS)))
    if isinstance(value, list):
        return [*value, item]
    key = random.choice(WORDS)
    return {**value, key: item} if isinstance(value, dict) else {key: value}


def _wrap(value: Any, random: Random) -> Any:
    return random.choice(([value], {random.choice(WORDS): value}))


def _nest(value: Any, random: Random) -> Any:
    return _DEEP


_CHANGES: Final[tuple[Callable[[Any, Random], Any], ...]] = (
    _replace,
    _replace,
    _alter,
    _alter,
    _add,
    _add,
    _wrap,
    _nest,
)


def _dig(text: bytes, random: Random) -> bytes:
    """Puts deep values where marks stand, since no writer of JSON would write them."""
    mark = orjson.dumps(_DEEP)
    while mark in text:
        depth = random.choice(_NESTING)
        opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"a":[', b"]}")))
        text = text.replace(mark, opening * depth + b"1" + closing * depth, 1)
    return text


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Some bytes dropped, doubled, changed or put in."""
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randint(0, len(data))
        length = random.choice((1, 1, 2, 4, 16))
        rest = data[place + length :]
        piece = random.choice(
            (
                b"",
                random.randbytes(length),
                data[place : place + length] * 2,
                b"\n\n",
                b"\r",
                b"\xff",
                b'"',
                b"{",
                b"0",
            )
        )
        data = data[:place] + piece + rest
    return data
