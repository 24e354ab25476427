"""CPU time of one small unary request to a provider, by transport.

    uv run --frozen --with httpx-aiohttp python bench/transport.py

The upstream answers from memory in a process of its own. The subjects take turns in short rounds, so that a
change in the machine's mood meets all of them. Ratios are medians over the rounds. Ends within a minute.
"""

import argparse
import asyncio
import importlib
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import httpx
import uvloop

from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport import Timeouts, Transport

_BODY: Final = b'{"model":"m","messages":[{"role":"user","content":"Say hello."}]}'
_ANSWER: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,'
    b'"completion_tokens":2,"total_tokens":11}}'
)
_HEADERS: Final = [(b"authorization", b"Bearer " + b"x" * 48), (b"content-type", b"application/json")]
#: As many headers as a public provider sends, rate limits and all.
_ANSWER_HEADERS: Final = b"".join(b"x-header-%d: some value of usual length\r\n" % i for i in range(16))
_TIMEOUTS: Final = Timeouts(connect=5, first_byte=30, idle=30, total=60)

Request = Callable[[], Awaitable[int]]


class _Upstream(asyncio.Protocol):
    """Answers each request at once; counts on a body of known length, as sent by the subjects."""

    _response = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        + _ANSWER_HEADERS
        + b"content-length: %d\r\n\r\n" % len(_ANSWER)
        + _ANSWER
    )

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(_BODY):
            self._received = b""
            self._transport.write(self._response)  # type: ignore[attr-defined]


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class _Exchange(asyncio.Protocol):
    """The least that a request can cost on this loop: one write, one read, nothing understood."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(_ANSWER) and self.answered is not None:
            self.answered.set_result(None)


async def _bare_socket(port: int) -> Request:
    free: list[_Exchange] = []
    loop = asyncio.get_running_loop()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" + _BODY

    async def send() -> int:
        if free:
            exchange = free.pop()
        else:
            _, exchange = await loop.create_connection(_Exchange, "127.0.0.1", port)
        exchange.answered = loop.create_future()
        exchange.transport.write(request)  # type: ignore[attr-defined]
        await exchange.answered
        free.append(exchange)
        return 200

    return send


def _through_httpx(transport: httpx.AsyncBaseTransport, url: httpx.URL) -> Request:
    """One request as leanly as the httpx seam allows: no client, no redirects, no cookies."""

    async def send() -> int:
        request = httpx.Request("POST", url, headers=_HEADERS, content=_BODY)
        response = await transport.handle_async_request(request)
        await response.aread()
        await response.aclose()
        return response.status_code

    return send


async def _subjects(port: int, stack: AsyncExitStack) -> dict[str, Request]:
    url = httpx.URL(f"http://127.0.0.1:{port}/v1/chat/completions")
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    own = Transport()
    stack.push_async_callback(own.aclose)
    call = HttpCall(url, _HEADERS, _BODY)

    async def send_with_client() -> int:
        return (await client.post(url, headers=_HEADERS, content=_BODY)).status_code

    async def send_with_own() -> int:
        async with await own.send(call, timeouts=_TIMEOUTS, max_response_bytes=1 << 20) as response:
            await response.read()
            return response.status

    subjects: dict[str, Request] = {
        "bare socket, nothing parsed": await _bare_socket(port),
        "own transport": send_with_own,
    }
    if importlib.util.find_spec("httpx_aiohttp"):
        # A guest, there for the comparison only.
        guest = await stack.enter_async_context(importlib.import_module("httpx_aiohttp").AiohttpTransport())
        subjects["httpx_aiohttp.AiohttpTransport"] = _through_httpx(guest, url)
    else:
        print("httpx-aiohttp is not installed and left out: see the head of this file", file=sys.stderr)
    default = await stack.enter_async_context(httpx.AsyncHTTPTransport(trust_env=False))
    subjects["httpx.AsyncHTTPTransport"] = _through_httpx(default, url)
    subjects["httpx.AsyncClient"] = send_with_client
    return subjects


async def _run(send: Request, *, requests: int, callers: int) -> float:
    """Microseconds of this process's CPU time for each request."""

    async def call() -> None:
        for _ in range(requests // callers):
            if await send() != 200:
                raise AssertionError("the upstream did not answer 200")

    before = time.process_time()
    await asyncio.gather(*(call() for _ in range(callers)))
    return (time.process_time() - before) / (requests // callers * callers) * 1e6


async def _compare(port: int, *, seconds: float, requests: int) -> None:
    async with AsyncExitStack() as stack:
        subjects = await _subjects(port, stack)
        for callers in (1, 16):
            rounds: dict[str, list[float]] = {name: [] for name in subjects}
            end = time.monotonic() + seconds / 2
            while time.monotonic() < end or not rounds["own transport"]:
                for name, send in subjects.items():
                    rounds[name].append(await _run(send, requests=requests, callers=callers))
            _print(rounds, callers=callers)


def _print(rounds: dict[str, list[float]], *, callers: int) -> None:
    own = rounds["own transport"]
    print(f"\n{callers} caller(s), {len(own)} rounds")
    print(f"{'':32}{'us CPU/request':>16}{'min':>8}{'ratio to own':>14}")
    for name, times in rounds.items():
        ratio = statistics.median(time / mine for time, mine in zip(times, own, strict=True))
        print(f"{name:32}{statistics.median(times):16.0f}{min(times):8.0f}{ratio:14.2f}")


def main() -> None:
    """Runs the comparison, or the upstream of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--seconds", type=float, default=30, help="for the whole run, at most 50")
    parser.add_argument("--requests", type=int, default=320, help="in a row, for each subject and round")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(_serve())
        return
    run = uvloop.run if arguments.loop == "uvloop" else asyncio.run
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as upstream:
        if upstream.stdout is None:
            raise AssertionError("the upstream has a pipe")
        port = int(upstream.stdout.readline())
        try:
            run(_compare(port, seconds=min(arguments.seconds, 50), requests=arguments.requests))
        finally:
            upstream.communicate()  # closes its stdin, at which it ends


if __name__ == "__main__":
    main()
