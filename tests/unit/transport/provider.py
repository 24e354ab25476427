"""A provider on a real socket that says whatever its script says, and sees when the gateway leaves."""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from gateway_server.providers.base import HttpCall

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class SeenRequest:
    head: bytes
    body: bytes


class Peer:
    """One connection as the provider has it."""

    def __init__(
        self, provider: "Provider", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.provider = provider
        self.reader = reader
        self.writer = writer

    async def request(self) -> SeenRequest:
        """Reads one request; raises IncompleteReadError when the connection ends instead."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        seen = SeenRequest(head, await self.reader.readexactly(length))
        self.provider.requests.append(seen)
        self.provider.on_request.set()
        return seen

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionAbortedError  # which uvloop calls a RuntimeError
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> float:
        """Waits until the gateway has closed the connection; gives the time on the monotonic clock."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return time.monotonic()

    def reset(self) -> None:
        """Ends the connection the rude way, with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class Provider:
    """What the server saw; ``open`` counts the connections that exist now."""

    scheme: str
    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[SeenRequest] = field(default_factory=list)
    on_request: asyncio.Event = field(default_factory=asyncio.Event)
    all_gone: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[BaseException] = field(default_factory=list)

    def call(self, path: str = "/v1/chat", body: bytes = b"{}", *, host: str = "127.0.0.1") -> HttpCall:
        return HttpCall(
            httpx.URL(f"{self.scheme}://{host}:{self.port}{path}"),
            [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")],
            body,
        )


@asynccontextmanager
async def providing(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Provider]:
    """Runs the script for every connection; a fault of the script itself fails the test."""
    provider = Provider("http" if tls is None else "https")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        provider.connections += 1
        provider.open += 1
        provider.all_gone.clear()
        try:
            await script(Peer(provider, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway left: what it should do is asserted by the tests
        except asyncio.CancelledError:
            pass  # the test is over
        except Exception as error:  # noqa: BLE001 -- told by the test that runs the script
            provider.errors.append(error)
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            provider.open -= 1
            if not provider.open:
                provider.all_gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()
        for task in tasks.copy():
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
    assert provider.errors == []


def answering(*answers: bytes) -> Script:
    """Answers each request of a connection with the next of the answers, then closes."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    return script


async def keep_answering(peer: Peer) -> None:
    """Answers every request, for as long as the gateway likes."""
    while True:
        await peer.request()
        await peer.send(OK)
