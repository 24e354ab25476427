"""Bytes to begin with: for each parser a few inputs that together use all of its format."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from random import Random
from struct import pack
from typing import Any, Final

import orjson

from gateway_server.storage.paging import encode_page_token
from tests.fuzz.message_mutation import make_message
from tests.fuzz.properties import METHODS, PAGED
from tests.support.wire import to_sse

_HEAD: Final[dict[str, Any]] = {"id": "chatcmpl-1", "created": 1, "model": "gpt-test-1"}
_LOGPROB: Final[dict[str, Any]] = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105]}
_LOGPROBS: Final[dict[str, Any]] = {"content": [{**_LOGPROB, "top_logprobs": [_LOGPROB]}], "refusal": None}
_CITATION: Final[dict[str, Any]] = {
    "type": "url_citation",
    "url_citation": {"url": "https://example.com", "title": "t", "start_index": 0, "end_index": 2},
}
_SOUND: Final = b64encode(b"RIFF0000WAVE").decode()
_USAGE: Final[dict[str, Any]] = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1, "audio_tokens": 1, "odd": 3},
    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 1, "accepted_prediction_tokens": 0},
    "cost": 0.5,
}
_ERROR: Final[dict[str, Any]] = {
    "error": {
        "message": "too long",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "rate_limit_exceeded",
    }
}


def _function(name: str | None, arguments: str, **call: Any) -> dict[str, Any]:
    named = {"name": name} if name else {}
    return {"type": "function", "function": {**named, "arguments": arguments}, **call}


def _answer(message: dict[str, Any], *, reason: str = "stop", **choice: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason, **choice}


def chat_answers() -> list[bytes]:
    answers: list[dict[str, Any]] = [
        {
            **_HEAD,
            "choices": [_answer({"content": "Hi", "refusal": None}, logprobs=_LOGPROBS)],
            "usage": _USAGE,
        },
        {
            **_HEAD,
            "choices": [
                _answer(
                    {
                        "content": None,
                        "tool_calls": [
                            _function("f", '{"a": 1}', id="call_1"),
                            {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "x"}},
                            {"id": "call_3", "type": "odd", "odd": {"a": 1}},
                        ],
                    },
                    reason="tool_calls",
                ),
                _answer({"refusal": "No."}, index=1, content_filter_results={"hate": {"filtered": False}}),
            ],
            "service_tier": "default",
        },
        {
            **_HEAD,
            "choices": [
                _answer(
                    {"content": "Hi", "reasoning_content": "Hm", "annotations": [_CITATION]},
                    stop_reason="END",
                ),
                _answer(
                    {"audio": {"id": "audio_1", "data": _SOUND, "transcript": "Hi", "expires_at": 1}}, index=1
                ),
                _answer(
                    {"content": [{"type": "text", "text": "Hi"}, {"type": "odd"}], "extra": "x"}, index=2
                ),
                _answer({"function_call": {"name": "f", "arguments": "{}"}}, index=3, reason="function_call"),
            ],
        },
        _ERROR,
    ]
    return [orjson.dumps(answer) for answer in answers]


def _chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {**_HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}


def _calls(*calls: dict[str, Any]) -> dict[str, Any]:
    return _chunk({"tool_calls": list(calls)})


def chat_streams() -> list[bytes]:
    first = _chunk({"role": "assistant", "content": ""})
    stop = _chunk({}, finish_reason="stop")
    usage = {**_HEAD, "choices": [], "usage": _USAGE}
    return [
        to_sse(
            [first, _chunk({"content": "He"}, logprobs=_LOGPROBS), _chunk({"content": "llo"}), stop, usage]
        ),
        to_sse(
            [
                first,
                _calls(_function("f", "", index=0, id="call_1")),
                _calls(_function(None, '{"a', index=0), _function("g", "", index=1, id="call_2")),
                _calls(
                    _function(None, '": 1}', index=0),
                    {"index": 2, "id": "call_3", "type": "odd", "odd": {"a": "b"}},
                ),
                _calls(
                    {"index": 2, "odd": {"a": "c"}},
                    {"index": 3, "type": "custom", "custom": {"name": "h", "input": "x"}},
                ),
                _chunk({}, finish_reason="tool_calls"),
                usage,
            ]
        ),
        to_sse(
            [
                _chunk({"reasoning": "Hm", "extra": "a"}),
                _chunk({"content": "Hi", "annotations": [_CITATION], "extra": "b"}),
                _chunk({"refusal": "No"}, index=1),
                _chunk({"audio": {"id": "audio_1", "data": _SOUND[:5]}}, index=2),
                _chunk({"audio": {"data": _SOUND[5:], "transcript": "Hi"}}, index=2),
                _chunk({"content": [{"type": "text", "text": "Hi"}, {"type": "odd"}]}, index=3),
                _chunk({"function_call": {"name": "f", "arguments": "{"}}, index=4),
                _chunk(
                    {"function_call": {"arguments": "}"}}, index=4, content_filter_results={"a": {"b": 1}}
                ),
                *(_chunk({}, index=index, finish_reason="stop", stop_reason="END") for index in range(5)),
            ],
            done=False,
        ),
        to_sse([first, _chunk({"content": "Hi"}), _ERROR]),
        b"\xef\xbb\xbf: hello\r\n\r\n" + to_sse([first, stop]).replace(b"\n", b"\r\n"),
    ]


_ANTHROPIC_USAGE: Final[dict[str, Any]] = {
    "input_tokens": 9,
    "output_tokens": 5,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3},
    "output_tokens_details": {"thinking_tokens": 2},
    "service_tier": "standard",
}
_PLACE: Final[dict[str, Any]] = {
    "type": "char_location",
    "cited_text": "Hi",
    "document_index": 0,
    "document_title": "t",
    "start_char_index": 0,
    "end_char_index": 2,
}
_ANTHROPIC_ERROR: Final[dict[str, Any]] = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "prompt is too long"},
    "request_id": "req_1",
}
_BLOCKS: Final[list[dict[str, Any]]] = [
    {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "c2VhbGVk"},
    {"type": "text", "text": "Hi", "citations": [_PLACE]},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1.0, "b": [None]}},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
]


def anthropic_answers() -> list[bytes]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test"}
    answers: list[dict[str, Any]] = [
        {
            **message,
            "content": _BLOCKS,
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": _ANTHROPIC_USAGE,
        },
        {
            **message,
            "content": [],
            "stop_reason": "stop_sequence",
            "stop_sequence": "END",
            "container": {"id": "c"},
        },
        {
            **message,
            "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "refusal",
            "stop_details": {"type": "refusal", "category": "cyber", "explanation": "No."},
        },
        _ANTHROPIC_ERROR,
    ]
    return [orjson.dumps(answer) for answer in answers]


def _typed(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n" for event in events
    )


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def anthropic_streams() -> list[bytes]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-test"}
    start = {"type": "message_start", "message": {**message, "usage": _ANTHROPIC_USAGE}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
    stop = {"type": "message_stop"}
    thought = _block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "c2ln"},
    )
    words = _block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "H"},
        {"type": "citations_delta", "citation": _PLACE},
        {"type": "text_delta", "text": "i"},
    )
    call = _block(
        2,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {"type": "direct"}},
        {"type": "input_json_delta", "partial_json": '{"a"'},
        {"type": "input_json_delta", "partial_json": ": 1}"},
    )
    search = _block(
        3,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"query": "x"}'},
    )
    odd = _block(
        4, {"type": "odd", "text": "a", "list": [1]}, {"type": "odd_delta", "text": "b", "list": [2]}
    )
    return [
        _typed(start, {"type": "ping"}, *thought, *words, *call, end, stop),
        _typed(start, *_block(0, _BLOCKS[1]), *search, *odd, end, stop),
        _typed(start, *_block(0, _BLOCKS[3]), *_block(1, _BLOCKS[2]), end, stop),
        _typed(start, *words, _ANTHROPIC_ERROR),
    ]


def anthropic_errors() -> list[bytes]:
    return [
        b"529\nretry-after: 5\n\n" + orjson.dumps(_ANTHROPIC_ERROR),
        b"429\nanthropic-ratelimit-requests-reset: 2026-10-21T07:28:00Z\n\n{}",
        b"400\n\n"
        + orjson.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "a"}}),
        b"401\n\n<html>",
    ]


_GOOGLE_USAGE: Final[dict[str, Any]] = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 5,
    "totalTokenCount": 17,
    "thoughtsTokenCount": 3,
    "cachedContentTokenCount": 2,
    "toolUsePromptTokenCount": 1,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
}
_GROUNDING: Final[dict[str, Any]] = {
    "groundingChunks": [{"web": {"uri": "https://example.com", "title": "t"}}],
    "groundingSupports": [
        {"segment": {"startIndex": 0, "endIndex": 2, "text": "Hi"}, "groundingChunkIndices": [0]}
    ],
    "webSearchQueries": ["x"],
}
_GOOGLE_PARTS: Final[list[dict[str, Any]]] = [
    {"text": "Hm", "thought": True},
    {"text": "Hi", "thoughtSignature": "c2ln"},
    {"functionCall": {"id": "call_1", "name": "f", "args": {"a": 1.0}}, "thoughtSignature": "c2ln"},
    {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
    {"executableCode": {"language": "PYTHON", "code": "1"}},
]
_GOOGLE_ERROR: Final[dict[str, Any]] = {
    "error": {
        "code": 429,
        "message": "Quota",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"}],
    }
}


def _candidate(parts: list[dict[str, Any]], **candidate: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": parts}, "index": 0, **candidate}


def google_answers() -> list[bytes]:
    head = {"responseId": "r-1", "modelVersion": "gemini-test"}
    answers: list[dict[str, Any]] = [
        {
            **head,
            "candidates": [_candidate(_GOOGLE_PARTS, finishReason="STOP", groundingMetadata=_GROUNDING)],
            "usageMetadata": _GOOGLE_USAGE,
        },
        {**head, "candidates": [_candidate([{"text": "Hi"}], finishReason="MAX_TOKENS", avgLogprobs=-0.1)]},
        {**head, "promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": _GOOGLE_USAGE},
        _GOOGLE_ERROR,
    ]
    return [orjson.dumps(answer) for answer in answers]


def google_streams() -> list[bytes]:
    head = {"responseId": "r-1", "modelVersion": "gemini-test"}
    pieces = [{**head, "candidates": [_candidate([part])]} for part in _GOOGLE_PARTS]
    more = {**head, "candidates": [_candidate([{"text": " there"}])]}
    end = {
        **head,
        "candidates": [_candidate([{"text": ""}], finishReason="STOP", groundingMetadata=_GROUNDING)],
        "usageMetadata": _GOOGLE_USAGE,
    }
    return [
        to_sse([*pieces, more, more, end], done=False),
        to_sse([pieces[1], more, end], done=False),
        to_sse([pieces[1], _GOOGLE_ERROR], done=False),
        to_sse([{**head, "promptFeedback": {"blockReason": "OTHER"}}], done=False),
    ]


def google_errors() -> list[bytes]:
    return [
        b"429\n\n" + orjson.dumps(_GOOGLE_ERROR),
        b"400\n\n" + orjson.dumps([{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "a"}}]),
        b"503\nretry-after: 3\n\nnothing",
    ]


def queries() -> list[bytes]:
    return [
        b'model = "a b" AND status_code != 5 AND labels.team = x AND labels."a b"=c',
        b"api_key = 'tenants/a/apiKeys/b' AND provider = providers/p AND end_user_id = 'it\\'s'",
        encode_page_token((5, "a"), PAGED).encode(),
    ]


def responses() -> list[bytes]:
    def of(*lines: str, body: bytes = b"") -> bytes:
        return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + body

    packed = gzip.compress(b'{"a": 1}' * 20, mtime=0)
    return [
        of("content-length: 2", "connection: keep-alive", "keep-alive: timeout=5", body=b"{}"),
        of(
            "Transfer-Encoding: chunked", "a: b", "a: c", body=b"2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\nt: u\r\n\r\n"
        ),
        of("connection: close", body=b"until the end"),
        of(f"content-length: {len(packed)}", "content-encoding: gzip", body=packed),
        of("content-encoding: deflate", "transfer-encoding: chunked", body=b"8\r\n" + zlib.compress(b"")),
        of("content-encoding: gzip", body=packed + packed),
        b"HTTP/1.1 100 Continue\r\n\r\n" + of("content-length: 2", body=b"{}HTTP/1.1 200 OK\r\n\r\n"),
        b"HTTP/1.0 429 Slow\nretry-after: 5\n\nslow",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]


def sse_streams() -> list[bytes]:
    return [
        b"data: a\n\ndata: b\n\n",
        b"\xef\xbb\xbfevent: x\r\ndata: a\r\ndata: b\r\n\r\n: note\r\rdata:c\r\r",
        b"data: " + b"x" * 58 + b"\n\ndata: end",
        b"id: 1\nretry: 5\n\ndata\n\n\n\ndata: \n",
    ]


def embeddings() -> list[bytes]:
    def item(index: int, embedding: object) -> dict[str, Any]:
        return {"object": "embedding", "index": index, "embedding": embedding}

    packed = b64encode(pack("<3f", 0.5, -1.0, float("nan"))).decode()
    answers: list[dict[str, Any]] = [
        {"data": [item(0, packed)], "model": "e", "usage": {"prompt_tokens": 3, "total_tokens": 3}},
        {
            "data": [item(1, [0.5, 1]), item(0, [1e300, -0.0])],
            "usage": {"total_tokens": 3},
            "id": "e-1",
            "odd": [1],
        },
        {"data": [item(0, packed), item(1, packed)]},
        _ERROR,
    ]
    return [orjson.dumps(answer) for answer in answers]


def error_answers() -> list[bytes]:
    def of(status: int, body: object, *headers: str) -> bytes:
        lines = [str(status), *headers]
        return "\n".join(lines).encode() + b"\n\n" + (body if isinstance(body, bytes) else orjson.dumps(body))

    return [
        of(429, _ERROR, "retry-after: 5", "retry-after-ms: 250"),
        of(
            429,
            {"error": {"code": "insufficient_quota"}},
            "x-ratelimit-reset-tokens: 6m0s",
            "x-ratelimit-remaining-tokens: 0",
        ),
        of(
            503,
            b"<html>",
            "retry-after: Wed, 21 Oct 2026 07:28:00 GMT",
            "date: Wed, 21 Oct 2026 07:27:00 GMT",
        ),
        of(400, {"error": {"message": "maximum context length is 5", "code": 400, "param": "a[0].b"}}),
        of(401, {"detail": "no"}),
        of(307, b"", "location: /"),
        of(500, {"error": "words", "object": "error"}, "retry-after: 1e300"),
    ]


def event_streams() -> list[bytes]:
    random = Random(1)
    # start, part_start, deltas, part_end, choice_end, end: the second bytes are those that `events` asks for.
    ordered = bytes([7, 1, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 5, 0, 0, 6, 0, 1, 1, 1, 8, 1, 2, 3])
    return [ordered, ordered[:4] + ordered[4:9] * 3 + ordered[9:], random.randbytes(100), b""]


def requests() -> list[bytes]:
    """Some requests for every RPC, more for those that reach a provider."""
    random = Random(2)
    seeds: list[bytes] = []
    for place, method in enumerate(METHODS):
        for _ in range(12 if "Completion" in method.name or "Embeddings" in method.name else 2):
            message = make_message(method.request_type, random)
            seeds.append(bytes([place]) + message.SerializeToString())
    return seeds
