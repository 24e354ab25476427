"""Measures what the formats themselves take: rendering, parsing, and reading one delta of a stream.

CPU time of this process alone, no sockets. The formats take turns in every round, so that noise meets all
alike; the best round of each counts. Run as ``python -m bench.formats``, with --write to put it where it is
marked in a document.
"""

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any, Final
from zlib import crc32

import orjson

from aigateway import messages
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.model_pb2 import Model
from bench.report import write_block
from gateway_server.providers.base import ChatFormat, Target
from gateway_server.providers.registry import build_endpoint, provider_types

#: What is measured: the name of the format, and a type of provider that speaks it. The first is the measure.
FORMATS: Final = {
    "openai_chat": "openai",
    "anthropic_messages": "anthropic",
    "bedrock_converse": "bedrock",
    "gemini": "google",
}
BLOCK: Final = "formats"
MODELS: Final = {
    "anthropic": "claude-sonnet-4-5",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "google": "gemini-3-flash",
}
CONFIG: Final[dict[str, dict[str, str]]] = {"bedrock": {"region": "us-east-1"}}

_SCHEMA: Final = '{"type":"object","properties":{"city":{"type":"string"}}}'
_ARGUMENTS: Final = {"city": "Graz", "unit": "celsius"}
_TEXT: Final = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 3
_DELTA: Final = "twelve chars"
_DELTAS: Final = 200

Work = Callable[[], object]


def known_formats() -> dict[str, str]:
    """Those whose type of provider is in the registry."""
    return {name: value for name, value in FORMATS.items() if value in provider_types()}


def stream_pieces(provider_type: str, count: int) -> list[bytes]:
    """A streamed answer of ``count`` deltas of text: what opens it, a piece for each delta, what ends it."""
    return _STREAMS.get(provider_type, _openai_stream)(count)


def _openai_stream(count: int) -> list[bytes]:
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
    return [chunk({"role": "assistant", "content": ""}), *[chunk({"content": _DELTA})] * count, end]


def _anthropic_stream(count: int) -> list[bytes]:
    def event(kind: str, **fields: object) -> bytes:
        return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"

    usage = {"input_tokens": 9, "output_tokens": 1}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    start = event("message_start", message={**head, "stop_reason": None, "stop_sequence": None})
    start += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    delta = event("content_block_delta", index=0, delta={"type": "text_delta", "text": _DELTA})
    end = event("content_block_stop", index=0)
    end += event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
    return [start, *[delta] * count, end + event("message_stop")]


def _gemini_stream(count: int) -> list[bytes]:
    def event(parts: list[dict[str, Any]], **fields: str) -> bytes:
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, **fields}
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
        body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}
        return b"data: " + orjson.dumps(body) + b"\r\n\r\n"

    return [event([{"text": "Hi"}]), *[event([{"text": _DELTA}])] * count, event([], finishReason="STOP")]


def _openai_answer() -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": orjson.dumps(_ARGUMENTS).decode()}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    message = {"role": "assistant", "content": _TEXT, "refusal": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 90, "completion_tokens": 60, "total_tokens": 150}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


def _anthropic_answer() -> dict[str, Any]:
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": _ARGUMENTS}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m"}
    finish = {"stop_reason": "tool_use", "stop_sequence": None}
    usage = {"input_tokens": 90, "output_tokens": 60}
    return {**head, "content": [{"type": "text", "text": _TEXT}, call], **finish, "usage": usage}


def _gemini_answer() -> dict[str, Any]:
    parts = [{"text": _TEXT}, {"functionCall": {"name": "get_weather", "args": _ARGUMENTS}}]
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 90, "candidatesTokenCount": 60, "totalTokenCount": 150}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}


def _bedrock_stream(count: int) -> list[bytes]:
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

    delta = event("contentBlockDelta", contentBlockIndex=0, delta={"text": _DELTA})
    end = event("contentBlockStop", contentBlockIndex=0) + event("messageStop", stopReason="end_turn")
    usage = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
    end += event("metadata", usage=usage, metrics={"latencyMs": 5})
    return [event("messageStart", role="assistant"), *[delta] * count, end]


def _bedrock_answer() -> dict[str, Any]:
    call = {"toolUse": {"toolUseId": "tooluse_1", "name": "get_weather", "input": _ARGUMENTS}}
    message = {"role": "assistant", "content": [{"text": _TEXT}, call]}
    usage = {"inputTokens": 90, "outputTokens": 60, "totalTokens": 150}
    return {"output": {"message": message}, "stopReason": "tool_use", "usage": usage}


_STREAMS: Final = {"anthropic": _anthropic_stream, "bedrock": _bedrock_stream, "google": _gemini_stream}
_ANSWERS: Final = {
    "anthropic": _anthropic_answer,
    "bedrock": _bedrock_answer,
    "google": _gemini_answer,
    "openai": _openai_answer,
}


def make_request(turns: int) -> CreateChatCompletionRequest:
    """A conversation of system prompt, words, and every fourth turn a call and its result, with a tool."""
    conversation = [messages.system("Be brief.")]
    while len(conversation) + 5 <= turns:
        call = messages.assistant(_TEXT)
        part = call.parts.add().tool_call
        part.tool_call_id = f"call_{len(conversation)}"
        part.tool_name = "get_weather"
        part.arguments = orjson.dumps(_ARGUMENTS).decode()
        result = messages.tool_result(part, "Sunny")
        conversation += [messages.user(_TEXT), call, result, messages.assistant("Ok")]
    while len(conversation) + 3 <= turns:
        conversation += [messages.user(_TEXT), messages.assistant("Ok")]
    conversation.append(messages.user(_TEXT))
    tool = messages.function_tool("get_weather", description="The weather", parameters=_SCHEMA)
    request = CreateChatCompletionRequest(model="any", messages=conversation, tools=[tool])
    request.generation_config.max_output_tokens = 100
    return request


def make_work(chat: ChatFormat, target: Target, provider_type: str) -> dict[str, tuple[Work, int]]:
    """What is measured of a format: the work, and by how much its time is divided."""
    answer = orjson.dumps(_ANSWERS[provider_type]())
    opening, *deltas, end = stream_pieces(provider_type, _DELTAS)
    small, large = make_request(2), make_request(60)

    def read_stream() -> None:
        parser = chat.chat_stream(target)
        parser.feed(opening)
        for delta in deltas:
            parser.feed(delta)
        parser.feed(end)
        parser.close()

    return {
        "render, 2 messages": (lambda: chat.render_chat(small, target, stream=False), 1),
        "render, 60 messages": (lambda: chat.render_chat(large, target, stream=False), 1),
        "parse, text and a call": (lambda: chat.parse_chat(answer, target), 1),
        "feed, one delta": (read_stream, _DELTAS),
    }


def measure(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Microseconds of CPU by kind of work and by format; each measurement lasts about ``seconds``."""
    works = {}
    for name, provider_type in known_formats().items():
        chat = build_endpoint(provider_type, "", lambda: "none", CONFIG.get(provider_type, {})).chat_format
        if chat is None:
            raise ValueError(f"{provider_type} serves no chat")
        model = MODELS.get(provider_type, "gpt-4o")
        target = Target(
            provider_id=provider_type, provider_type=provider_type, provider_model=model, model=Model()
        )
        works[name] = make_work(chat, target, provider_type)
    kinds = list(next(iter(works.values())))
    best: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    gc.disable()
    for _ in range(rounds):
        for kind in kinds:
            for name, work in works.items():
                run, divisor = work[kind]
                found = _time(run, seconds) / divisor
                best[kind][name] = min(found, best[kind].get(name, found))
        gc.collect()
    gc.enable()
    return best


def _time(run: Work, seconds: float) -> float:
    """Microseconds of CPU for one run, over about ``seconds``."""
    run()
    begin = time.process_time_ns()
    run()
    count = max(1, int(seconds * 1e9 / max(1, time.process_time_ns() - begin)))
    begin = time.process_time_ns()
    for _ in range(count):
        run()
    return (time.process_time_ns() - begin) / count / 1e3


def report(best: dict[str, dict[str, float]]) -> str:
    """A row for each kind of work: microseconds, and in brackets how many times the first format's."""
    names = list(known_formats())
    lines = [f"| CPU, us | {' | '.join(f'`{name}`' for name in names)} |", "| --- |" + " --- |" * len(names)]
    for kind, found in best.items():
        measure_of_all = found[names[0]]
        cells = [f"{found[name]:.1f} ({found[name] / measure_of_all:.2f})" for name in names]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints; about 15 seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into its marked place")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each measurement")
    arguments = parser.parse_args()
    table = report(measure(arguments.rounds, arguments.seconds))
    print(table)
    if arguments.write:
        write_block(arguments.write, BLOCK, table)


if __name__ == "__main__":
    main()
