"""An OpenAI-compatible provider on a real socket that behaves as badly as its script says.

It counts connections and requests, and sees the moment at which the gateway closes a connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.support.wire import to_sse

MODEL: Final = "test-model"

Script = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request and what the script makes of it.

    A script that returns without ``finish`` cuts the response off: the connection is closed.
    """

    def __init__(self, connection: _Connection, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.sent_bytes = 0
        self.is_finished = False
        #: Set once the script has said all it has to say and waits for the gateway to leave.
        self.is_quiet = asyncio.Event()
        self._connection = connection
        self._chunked = False

    @property
    def json(self) -> dict[str, Any]:
        """The request's body."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def streams(self) -> bool:
        """Whether a streamed answer is asked for."""
        return bool(self.json.get("stream"))

    @property
    def is_gone(self) -> bool:
        """Whether the gateway has closed the connection."""
        return self._connection.gone.is_set()

    async def gone(self) -> float:
        """Waits until the gateway has closed the connection; gives that time on the monotonic clock."""
        self.is_quiet.set()
        await self._connection.gone.wait()
        return self._connection.gone_at

    async def head_of(
        self,
        status: int = 200,
        content_type: str = "text/event-stream",
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends status and headers; without a length the body is chunked."""
        self._chunked = length is None
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += ["transfer-encoding: chunked" if length is None else f"content-length: {length}", "", ""]
        await self.raw("\r\n".join(lines).encode())

    async def send(self, data: bytes) -> None:
        """Sends a piece of the body; waits while the gateway does not read."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def events(self, *chunks: object) -> None:
        """Sends chunks as server-sent events, without [DONE]."""
        await self.send(to_sse(chunks, done=False))

    async def finish(self) -> None:
        """Completes the response; the connection can be used again."""
        if self._chunked:
            await self.raw(b"0\r\n\r\n")
        self.is_finished = True

    async def raw(self, data: bytes) -> None:
        """Sends bytes as they are; raises ConnectionError when the gateway has left."""
        if self._connection.writer.is_closing():
            raise ConnectionResetError  # uvloop says it in other words
        self._connection.writer.write(data)
        self.sent_bytes += len(data)
        await self._connection.writer.drain()

    def reset(self) -> None:
        """Ends the connection the rude way, with RST."""
        raw = self._connection.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.writer.transport.abort()


class _Connection:
    """One connection: a task reads requests and sees the end, another serves them in turn."""

    def __init__(
        self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.writer = writer
        self.gone = asyncio.Event()
        self.gone_at = 0.0
        self.exchange: Exchange | None = None
        self._upstream = upstream
        self._reader = reader
        self._requests: asyncio.Queue[Exchange] = asyncio.Queue()

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait([reading, serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            self.writer.close()
            await asyncio.gather(reading, serving, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                body = await self._reader.readexactly(length)
                self._requests.put_nowait(Exchange(self, head, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone_at = time.monotonic()
            self.gone.set()

    async def _serve(self) -> None:
        while True:
            self.exchange = await self._requests.get()
            if self.exchange.head.startswith(b"GET "):
                await _list_models(self.exchange)
                continue
            self._upstream.exchanges.append(self.exchange)
            self._upstream.arrived.put_nowait(self.exchange)
            try:
                await self._upstream.script(self.exchange)
            except ConnectionError:
                return  # the gateway left: what it should do is asserted by the tests
            except Exception as error:  # noqa: BLE001 -- told at the end of the test
                self._upstream.errors.append(error)
                return
            if not self.exchange.is_finished:
                return
            self.exchange = None


class Upstream:
    """The provider. ``script`` serves every POST; GET is answered with the list of models."""

    def __init__(self) -> None:
        self.script: Script = answer_well
        self.port = 0
        self.connections = 0
        self.open = 0
        self.exchanges: list[Exchange] = []
        self.arrived: asyncio.Queue[Exchange] = asyncio.Queue()
        self.errors: list[Exception] = []
        self._live: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """What a provider resource says."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def busy(self) -> int:
        """Connections that are open in the middle of a response."""
        return sum(each.exchange is not None and not each.gone.is_set() for each in self._live)

    async def next(self) -> Exchange:
        """The next request, waited for."""
        async with asyncio.timeout(10):
            return await self.arrived.get()

    async def settled(self, seconds: float = 20) -> None:
        """Returns once no connection hangs in the middle of a response."""
        async with asyncio.timeout(seconds):
            while self.busy:
                await asyncio.sleep(0.002)

    def reset(self) -> None:
        """Forgets what was seen and behaves well again."""
        self.script = answer_well
        self.exchanges.clear()
        self.arrived = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self, reader, writer)
        self._tasks.add(task)
        self._live.add(connection)
        self.connections += 1
        self.open += 1
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass  # the upstream stops
        finally:
            self._tasks.discard(task)
            self._live.discard(connection)
            self.open -= 1

    async def stop(self) -> None:
        """Ends all connections."""
        for task in self._tasks.copy():
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def running_upstream() -> AsyncIterator[Upstream]:
    """A provider on a free port; a fault of a script fails the test that used it."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=2**20)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        await upstream.stop()
        await server.wait_closed()
    assert upstream.errors == []


async def _list_models(exchange: Exchange) -> None:
    data = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
    await exchange.head_of(content_type="application/json", length=len(data))
    await exchange.send(data)
    await exchange.finish()


# Bodies.


def completion(text: str = "Hello there", **fields: Any) -> dict[str, Any]:
    """A whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        **fields,
    }


def chunk(delta: object = None, **choice: Any) -> dict[str, Any]:
    """A chunk of a streamed answer with one choice."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": None, **choice}],
    }


def text_chunk(text: str) -> dict[str, Any]:
    """A chunk that adds text."""
    return chunk({"content": text})


FIRST: Final = chunk({"role": "assistant", "content": ""})
STOP: Final = chunk(finish_reason="stop")


def usage_chunk(prompt: int = 5, output: int = 2) -> dict[str, Any]:
    """The chunk that carries usage and no choice."""
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return {**chunk(), "choices": [], "usage": usage}


def running_usage(prompt: int, output: int, text: str) -> dict[str, Any]:
    """A chunk that adds text and tells what was used until then, as vLLM does when it is asked to."""
    return {**text_chunk(text), "usage": usage_chunk(prompt, output)["usage"]}


# Scripts.


async def answer_well(exchange: Exchange) -> None:
    """Answers properly, whole or streamed."""
    if exchange.streams:
        await send_stream(exchange, [FIRST, text_chunk("Hello "), text_chunk("there"), STOP, usage_chunk()])
    else:
        await send_json(exchange, completion())


async def send_stream(exchange: Exchange, chunks: Iterable[object]) -> None:
    """A streamed answer in one piece, with [DONE]."""
    await exchange.head_of()
    await exchange.send(to_sse(chunks))
    await exchange.finish()


async def send_json(exchange: Exchange, value: object, *, status: int = 200) -> None:
    """A whole JSON body."""
    await send_body(exchange, json.dumps(value).encode(), status=status)


async def send_body(
    exchange: Exchange,
    body: bytes,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> None:
    """A whole body of any kind."""
    await exchange.head_of(status, content_type, length=len(body), headers=headers)
    await exchange.send(body)
    await exchange.finish()


def talking(*texts: str, pause: float = 0.0, then: Script | None = None) -> Script:
    """Streams some texts; then goes on with another script, or says nothing more and waits."""

    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        await exchange.events(FIRST)
        for text in texts:
            await exchange.events(text_chunk(text))
            await asyncio.sleep(pause)
        await (then or silent)(exchange)

    return script


async def silent(exchange: Exchange) -> None:
    """Says nothing more until the gateway leaves."""
    await exchange.gone()
