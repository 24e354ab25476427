"""Whatever a provider sends: a clear error with a reason, a settled row, no leaked connection, and on."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from aigateway.v1.chat_service_pb2 import ChatCompletion
from aigateway.v1.usage_pb2 import UsageState
from tests.gateway.callers import Caller
from tests.support.gateway import Gateway
from tests.support.upstream import (
    FIRST,
    STOP,
    Exchange,
    Script,
    Upstream,
    answer_well,
    chunk,
    completion,
    send_body,
    send_json,
    send_stream,
    silent,
    text_chunk,
    usage_chunk,
)
from tests.support.wire import to_sse

#: Stands in every bad body; no caller may see it.
MARK = "prv8secret"
MB = 2**20

PROTOCOL = ("INTERNAL", "UPSTREAM_PROTOCOL_ERROR")
UNAVAILABLE = ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
TIMEOUT = ("DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT")
REJECTED = ("INVALID_ARGUMENT", "UPSTREAM_REJECTED")
LIMITED = ("RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED")

NONE = UsageState.USAGE_STATE_UNSPECIFIED
PARTIAL = UsageState.USAGE_STATE_PARTIAL


@dataclass(frozen=True)
class Bad:
    """What a provider does, and what caller and ledger get of it."""

    script: Script
    expected: tuple[str, str] = PROTOCOL
    metadata: dict[str, str] = field(default_factory=dict)
    #: How the row's tokens are known: partial when the provider may bill for what it began.
    usage: int = PARTIAL
    text: str = ""


def body(data: bytes, content_type: str = "", *, status: int = 200, **headers: str) -> Script:
    """A complete body, whether whole or streamed was asked for."""

    async def script(exchange: Exchange) -> None:
        kind = content_type or ("text/event-stream" if exchange.streams else "application/json")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await send_body(exchange, data, status=status, content_type=kind, headers=named)

    return script


def either(whole: object, *chunks: object) -> Script:
    """One bad answer in both of its shapes."""

    async def script(exchange: Exchange) -> None:
        if exchange.streams:
            await send_stream(exchange, chunks)
        else:
            await send_json(exchange, whole)

    return script


def raw(data: bytes, *, then_wait: bool = False) -> Script:
    """Bytes in place of HTTP; then the connection is closed."""

    async def script(exchange: Exchange) -> None:
        await exchange.raw(data)
        if then_wait:
            await exchange.gone()

    return script


async def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


async def close_at_once(exchange: Exchange) -> None:
    pass


async def reset_after_head(exchange: Exchange) -> None:
    await exchange.head_of()
    await asyncio.sleep(0.02)
    exchange.reset()


async def close_after_head(exchange: Exchange) -> None:
    await exchange.head_of(length=None)


async def cut_in_the_body(exchange: Exchange) -> None:
    text = json.dumps(completion(MARK)).encode()
    if exchange.streams:
        await exchange.head_of()
        await exchange.send(
            to_sse([FIRST, text_chunk("Hel")], done=False) + b'data: {"id": "' + MARK.encode()
        )
    else:
        await exchange.head_of(content_type="application/json", length=len(text))
        await exchange.send(text[:-10])


async def mislabelled(exchange: Exchange) -> None:
    data = to_sse(GOOD_CHUNKS) if exchange.streams else json.dumps(completion()).encode()
    await send_body(exchange, data, content_type="text/html")


async def gzipped(exchange: Exchange) -> None:
    data = to_sse(GOOD_CHUNKS) if exchange.streams else json.dumps(completion()).encode()
    await send_body(exchange, gzip.compress(data), headers={"content-encoding": "gzip"})


async def finished_without_finish_reason(exchange: Exchange) -> None:
    if exchange.streams:
        await exchange.head_of()
        await exchange.events(FIRST, text_chunk("Hel"))
        await exchange.finish()
    else:
        await cut_in_the_body(exchange)


async def stall_in_the_body(exchange: Exchange) -> None:
    await exchange.head_of()
    await exchange.send(to_sse([FIRST, text_chunk("Hel")], done=False) if exchange.streams else b'{"id": "')
    await silent(exchange)


async def endless_headers(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\n")
    while True:
        await exchange.raw(b"x-more: " + b"y" * 8000 + b"\r\n")


async def endless_body(exchange: Exchange) -> None:
    await exchange.head_of()
    if not exchange.streams:
        await exchange.send(b'{"a": "')
    while True:
        await exchange.send(b"x" * MB)


async def endless_line(exchange: Exchange) -> None:
    await exchange.head_of()
    while True:
        await exchange.send(b"data: " if exchange.sent_bytes < 1000 else b"x" * MB)


def call(index: int, call_id: str, name: str = "f") -> dict[str, Any]:
    function = {"name": name, "arguments": "{}"}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def answer_with(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return completion(**{"choices": [choice], **fields})


def with_usage(usage: object) -> Script:
    last = {**usage_chunk(), "usage": usage}
    return either(completion(usage=usage), FIRST, text_chunk("Hello"), STOP, last)


TWICE = [call(0, "same"), call(1, "same")]
NEGATIVE = {"prompt_tokens": -5, "completion_tokens": 2, "total_tokens": -3}
HUGE = {"prompt_tokens": 2**62, "completion_tokens": 2, "total_tokens": 2**62 + 2}
OOPS = {"error": {"message": MARK, "code": 500}}
BOMB = gzip.compress(b"[" * 200 * MB)
HTML = f"<html><body>{MARK} login</body></html>".encode()
DEEP = "[" * 100_000 + "]" * 100_000
GOOD_CHUNKS = [FIRST, text_chunk("Hello "), text_chunk("there"), STOP, usage_chunk()]

BAD = {
    "an HTML page": Bad(body(HTML, "text/html")),
    "an HTML page under the right content type": Bad(body(HTML)),
    "an HTML page with status 502": Bad(
        body(HTML, "text/html", status=502), UNAVAILABLE, {"http_status": "502"}, NONE
    ),
    "nothing": Bad(body(b"")),
    "an answer without choices": Bad(either(completion(choices=[]), {**chunk(), "choices": []})),
    "no object": Bad(either([MARK], [MARK])),
    "JSON for another question": Bad(either({"ok": MARK}, {"ok": MARK})),
    "bytes that are no HTTP": Bad(raw(b"\x00\xff\x00\xffSSH-2.0-" + MARK.encode() + b"\r\n\r\n"), usage=NONE),
    "another protocol's greeting": Bad(raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", then_wait=True), usage=NONE),
    "a switch to another protocol": Bad(
        raw(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", then_wait=True),
        usage=NONE,
    ),
    "two content lengths": Bad(
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}", then_wait=True),
        usage=NONE,
    ),
    "a length and chunks": Bad(
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        usage=NONE,
    ),
    "a chunk larger than any number": Bad(
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"F" * 32 + b"\r\n", then_wait=True)
    ),
    "a body of garbage": Bad(body(b"\x80\x81\x82\x00" * 1000)),
    "invalid UTF-8": Bad(
        body(
            to_sse([FIRST, text_chunk("@@")]).replace(b"@@", b"\xff\xfe")
            + json.dumps(completion("@@")).encode().replace(b"@@", b"\xff\xfe")
        )
    ),
    "half of a surrogate pair": Bad(
        body(to_sse([FIRST, text_chunk("@@"), STOP]).replace(b"@@", b"\\ud800"), "text/event-stream")
    ),
    "JSON nested 100,000 deep": Bad(body(b"data: " + DEEP.encode() + b"\n\n")),
    "20 MB of one line without a meaning": Bad(body(b"data: " + b"x" * (20 * MB))),
    "a line without end": Bad(endless_line),
    "a body without end": Bad(endless_body),
    "a body announced larger than allowed": Bad(
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", then_wait=True),
        metadata={"cause": "too_large"},
    ),
    "a gzip bomb": Bad(body(BOMB, content_encoding="gzip")),
    "a damaged gzip": Bad(body(BOMB[:50] + b"\0" * 50, content_encoding="gzip")),
    "an encoding that nobody asked for": Bad(body(b"\x1b\x00\x00", content_encoding="br"), usage=NONE),
    "headers without end": Bad(endless_headers, metadata={"cause": "too_large"}, usage=NONE),
    "two tool calls with one id": Bad(
        either(
            answer_with({"tool_calls": TWICE}),
            FIRST,
            chunk({"tool_calls": [TWICE[0]]}),
            chunk({"tool_calls": [TWICE[1]]}),
            STOP,
        )
    ),
    "negative token counts": Bad(
        either(
            completion(usage=NEGATIVE), FIRST, text_chunk("Hello"), STOP, {**usage_chunk(), "usage": NEGATIVE}
        ),
        text="Hello",
    ),
    "token counts beyond reason": Bad(
        with_usage(HUGE),
        text="Hello",
    ),
    "usage that is text": Bad(
        either(
            completion(usage="many"), FIRST, text_chunk("Hello"), STOP, {**usage_chunk(), "usage": "many"}
        ),
        text="Hello",
    ),
    "content that is a number": Bad(either(answer_with({"content": 7}), FIRST, chunk({"content": 7}))),
    "a reset before the headers": Bad(reset_at_once, UNAVAILABLE, {"cause": "reset"}, NONE),
    "a close before the headers": Bad(close_at_once, UNAVAILABLE, {"cause": "reset"}, NONE),
    "a reset after the headers": Bad(reset_after_head, metadata={"cause": "cut"}),
    "a close after the headers": Bad(close_after_head, metadata={"cause": "cut"}),
    "a close in the body": Bad(cut_in_the_body, metadata={"cause": "cut"}, text="Hel"),
    "an end before the answer is finished": Bad(finished_without_finish_reason, text="Hel"),
    "silence": Bad(silent, TIMEOUT, {"phase": "first_byte"}),
    "silence in the body": Bad(stall_in_the_body, TIMEOUT, {"phase": "idle"}, text="Hel"),
    "a redirect": Bad(body(b"", status=307, location="http://127.0.0.1:1/"), usage=NONE),
    "status 204": Bad(raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "status 400": Bad(
        body(json.dumps({"error": {"code": "bad_thing", "message": MARK}}).encode(), status=400),
        REJECTED,
        {"http_status": "400", "provider_code": "bad_thing"},
        NONE,
    ),
    "status 401": Bad(
        body(json.dumps({"error": {"message": MARK}}).encode(), status=401),
        ("FAILED_PRECONDITION", "UPSTREAM_CREDENTIAL_REJECTED"),
        {"http_status": "401"},
        NONE,
    ),
    "status 429": Bad(body(b"slow down", status=429, retry_after="7"), LIMITED, usage=NONE),
    "status 429 and half a body": Bad(
        raw(b"HTTP/1.1 429 No\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nshort"), LIMITED, usage=NONE
    ),
    "status 500 and half a body, then silence": Bad(
        raw(b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\nshort", then_wait=True),
        UNAVAILABLE,
        {"http_status": "500"},
        NONE,
    ),
    "more after the end": Bad(
        body(to_sse([*GOOD_CHUNKS]) + to_sse([text_chunk(MARK)]) + json.dumps(completion(MARK)).encode()),
        text="Hello there",
    ),
    "two answers": Bad(
        body(2 * json.dumps(completion()).encode() + b"\n\n" + 2 * to_sse(GOOD_CHUNKS)), text="Hello there"
    ),
    "an error in place of an answer": Bad(
        either({"error": {"message": MARK, "code": 500}}, {"error": {"message": MARK, "code": 500}}),
        UNAVAILABLE,
    ),
}


@pytest.fixture(params=["unary", "stream"])
def caller(request: pytest.FixtureRequest, gateway: Gateway) -> Caller:
    return Caller(gateway.client, streams=request.param == "stream")


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_is_an_error_with_a_reason_and_a_settled_row(
    gateway: Gateway, upstream: Upstream, caller: Caller, name: str
) -> None:
    bad = BAD[name]
    upstream.script = bad.script

    outcome = await caller.call()

    failure = outcome.failure
    assert failure is not None, f"served {outcome.answer}"
    assert (failure.code.name, failure.reason) == bad.expected, failure
    assert failure.metadata.items() >= bad.metadata.items()
    assert failure.metadata["provider"] == "providers/vllm"
    assert failure.metadata["attempts"].startswith(f"vllm/test-model={bad.expected[1]}/")
    assert MARK.encode() not in failure.raw
    assert MARK not in failure.message
    if caller.streams:
        assert outcome.text == bad.text
    assert not outcome.has_end
    await upstream.settled()

    row = await gateway.ledger.wait_one(outcome.end_user_id)
    assert (row.status_code, row.error_reason) == (failure.code.value[0], failure.reason)
    assert row.name.endswith(failure.request_id)
    [attempt] = row.attempts
    assert (attempt.status_code, attempt.error_reason) == (row.status_code, row.error_reason)
    assert row.usage.state == attempt.usage.state == bad.usage
    assert row.usage.total_tokens == row.usage.input_tokens + row.usage.output_tokens

    await assert_serves(caller, upstream)


async def test_an_error_within_a_stream_that_stays_open_is_told_at_once(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        await exchange.events(FIRST, text_chunk("Hel"), {"error": {"message": MARK, "code": 503}})
        asked_at.set_result(time.monotonic())
        await silent(exchange)

    asked_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    upstream.script = script

    outcome = await Caller(gateway.client, streams=True).call()

    assert time.monotonic() - asked_at.result() < 0.3, "it waited for the provider's next bytes"
    assert outcome.failure is not None
    assert (outcome.failure.code.name, outcome.failure.reason) == UNAVAILABLE
    assert outcome.text == "Hel"
    await upstream.settled()


async def drip(exchange: Exchange) -> None:
    data = to_sse(GOOD_CHUNKS) if exchange.streams else json.dumps(completion()).encode()
    await exchange.head_of()
    for index, byte in enumerate(data):
        await exchange.send(bytes([byte]))
        if index % 40 == 0:
            await asyncio.sleep(0)
    await exchange.finish()


async def close_after_the_answer(exchange: Exchange) -> None:
    data = to_sse(GOOD_CHUNKS) if exchange.streams else json.dumps(completion()).encode()
    await exchange.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + data)


async def more_bytes_than_announced(exchange: Exchange) -> None:
    data = to_sse(GOOD_CHUNKS) if exchange.streams else json.dumps(completion()).encode()
    await exchange.head_of(length=len(data))
    await exchange.raw(data + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    await exchange.gone()


async def hints_first(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 3)
    await answer_well(exchange)


async def comments_in_between(exchange: Exchange) -> None:
    if not exchange.streams:
        return await answer_well(exchange)
    await exchange.head_of()
    for each in GOOD_CHUNKS:
        await exchange.send(b": ping\r\n\r\n\r\n" + to_sse([each], done=False).replace(b"\n", b"\r\n"))
    return await exchange.finish()  # and no [DONE]


#: Odd, but an answer: what it does, and how its usage is known.
ODD = {
    "one byte at a time": (drip, "PROVIDER_REPORTED"),
    "a connection closed after the answer": (close_after_the_answer, "PROVIDER_REPORTED"),
    "more bytes than announced": (more_bytes_than_announced, "PROVIDER_REPORTED"),
    "informational responses first": (hints_first, "PROVIDER_REPORTED"),
    "comments, CRLF and no [DONE]": (comments_in_between, "PROVIDER_REPORTED"),
    "the wrong content type": (mislabelled, "PROVIDER_REPORTED"),
    "no usage": (either({**completion(), "usage": None}, *GOOD_CHUNKS[:-1]), "ESTIMATED"),
    "gzip, although nobody asked": (gzipped, "PROVIDER_REPORTED"),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_is_an_answer(
    gateway: Gateway, upstream: Upstream, caller: Caller, name: str
) -> None:
    upstream.script, state = ODD[name]

    outcome = await caller.call("x" * 80)

    assert outcome.failure is None
    assert text_of(outcome.answer) == "Hello there"
    await upstream.settled()
    row = await gateway.ledger.wait_one(outcome.end_user_id)
    assert (row.status_code, row.error_reason) == (0, "")
    assert UsageState.Name(row.usage.state) == f"USAGE_STATE_{state}"
    assert outcome.answer is not None
    assert outcome.answer.usage == row.usage
    # 80 characters asked and 11 answered are 20 and 3 tokens at four characters each.
    expected = (20, 3) if state == "ESTIMATED" else (5, 2)
    assert (row.usage.input_tokens, row.usage.output_tokens) == expected
    await assert_serves(caller, upstream)


async def test_a_provider_that_closes_idle_connections_costs_no_call(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    async def script(exchange: Exchange) -> None:
        await answer_well(exchange)
        exchange.is_finished = False  # closes without having said so

    upstream.script = script
    for _ in range(20):
        outcome = await caller.call()
        assert outcome.failure is None


async def test_ten_megabytes_of_text_in_one_line_arrive(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    text = "ab" * (5 * MB)
    upstream.script = either(completion(text), FIRST, text_chunk(text), STOP, usage_chunk())

    outcome = await caller.call()

    assert outcome.failure is None
    assert text_of(outcome.answer) == text


async def assert_serves(caller: Caller, upstream: Upstream) -> None:
    """The next call is answered as if nothing had been."""
    upstream.reset()
    outcome = await caller.call()
    assert outcome.failure is None
    assert text_of(outcome.answer) == "Hello there"


def text_of(answer: ChatCompletion | None) -> str:
    assert answer is not None
    return "".join(part.text.text for part in answer.choices[0].message.parts)
