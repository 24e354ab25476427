"""What a provider sends costs time in proportion to its length, however it is cut into pieces."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway_server.errors import GatewayError
from gateway_server.providers.wire.retry_after import read_retry_after
from tests.support.wire import chat_format, fold_stream, make_target, to_sse

#: Far more than it takes, far less than if it grew with the square.
SECONDS = 4.0


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def calls(make_call: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk({"tool_calls": [make_call(number) for number in range(20_000)]})]


def named(number: int) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "arguments": "{}"}}


CHUNKS = {
    "calls": calls(lambda number: {**named(number), "index": number, "id": f"c{number}"}),
    "calls without index": calls(lambda number: {**named(number), "id": f"c{number}"}),
    "calls without id": calls(lambda number: {**named(number), "index": number}),
    "calls that share an index": calls(lambda number: {**named(number), "index": 0, "id": f"c{number}"}),
    "pieces of an unknown call": [chunk({"tool_calls": [{"index": 0, "id": "c", "odd": "x" * 50}]})]
    * 100_000,
    "pieces of an unknown field": [chunk({"odd": "x" * 50})] * 100_000,
    "pieces of text": [chunk({"content": "x" * 50})] * 100_000,
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_stream_of_many_pieces_takes_linear_time(name: str) -> None:
    body = to_sse([*CHUNKS[name], chunk({"content": "x"}, "stop")])
    began = time.process_time()

    fold_stream([body])

    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize("words", ["the model ", "maximum context ", "context"])
def test_the_words_of_an_error_are_not_searched_to_their_end(words: str) -> None:
    body = b'{"error": {"message": "' + words.encode() * 3_000_000 + b'"}}'
    began = time.process_time()

    chat_format().parse_error(400, {}, body, make_target())

    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"])
@pytest.mark.parametrize("value", ["1", "1h", "1.1", "0 "])
def test_a_long_header_is_no_wait(name: str, value: str) -> None:
    began = time.process_time()

    assert read_retry_after({name: value * 30_000}) is None

    assert time.process_time() - began < SECONDS


def test_pieces_of_a_deep_unknown_call_are_refused() -> None:
    deep = b'{"odd":' * 1000 + b"1" + b"}" * 1000
    piece = to_sse([chunk({"tool_calls": [{"index": 0, "odd": "@"}]})], done=False).replace(b'"@"', deep)
    parser = chat_format().chat_stream(make_target())
    parser.feed(piece * 2 + to_sse([chunk({}, "tool_calls")]))

    with pytest.raises(GatewayError, match="nested too deeply"):
        parser.close()


def test_a_made_up_id_is_not_one_that_the_provider_uses() -> None:
    parser = chat_format().chat_stream(make_target())
    first = chunk({"tool_calls": [{**named(0), "id": "call_0_1"}]})
    parser.feed(to_sse([first, chunk({"tool_calls": [{**named(1), "index": 1}]})]))

    with pytest.raises(GatewayError, match="two tool calls have the same id"):
        parser.close()
