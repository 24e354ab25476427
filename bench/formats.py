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
from typing import Final

import orjson

from aigateway import messages
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.model_pb2 import Model
from bench.bodies import ARGUMENTS, CONFIG, FORMATS, stream_pieces, whole_answer
from bench.report import write_block
from gateway_server.providers.base import ChatFormat, Target
from gateway_server.providers.registry import build_endpoint, provider_types

BLOCK: Final = "formats"
MODELS: Final = {
    "anthropic": "claude-sonnet-4-5",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "google": "gemini-3-flash",
}
_SCHEMA: Final = '{"type":"object","properties":{"city":{"type":"string"}}}'
_TEXT: Final = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 3
_DELTA: Final = "twelve chars"
_DELTAS: Final = 200

Work = Callable[[], object]


def known_formats() -> dict[str, str]:
    """Those whose type of provider is in the registry."""
    return {name: value for name, value in FORMATS.items() if value in provider_types()}


def make_request(turns: int) -> CreateChatCompletionRequest:
    """A conversation of system prompt, words, and every fourth turn a call and its result, with a tool."""
    conversation = [messages.system("Be brief.")]
    while len(conversation) + 5 <= turns:
        call = messages.assistant(_TEXT)
        part = call.parts.add().tool_call
        part.tool_call_id = f"call_{len(conversation)}"
        part.tool_name = "get_weather"
        part.arguments = orjson.dumps(ARGUMENTS).decode()
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
    answer = whole_answer(provider_type, _TEXT)
    opening, *deltas, end = stream_pieces(provider_type, [_DELTA] * _DELTAS)
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
