"""An HTTP server that gives one prepared answer to every request, cut as a test wants it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from tests.support.wire import one_byte_pieces, random_pieces


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer and how it is sent: ``pieces`` are the body in order; ``cut`` ends it without its end."""

    status: int
    headers: dict[str, str]
    pieces: Sequence[bytes]
    cut: bool = False


def whole(status: int, headers: dict[str, str], body: bytes) -> Replay:
    return Replay(status, headers, [body])


def byte_by_byte(status: int, headers: dict[str, str], body: bytes) -> Replay:
    return Replay(status, headers, list(one_byte_pieces(body)))


def at_random(status: int, headers: dict[str, str], body: bytes, random: Random) -> Replay:
    return Replay(status, headers, list(random_pieces(body, random)))


def cut_after(status: int, headers: dict[str, str], body: bytes, length: int) -> Replay:
    return Replay(status, headers, [body[:length]], cut=True)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """What somebody sent. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class ReplayUpstream:
    """A running server; ``replay`` is what it answers next, ``requests`` what it was asked."""

    url: str
    replay: Replay = field(default_factory=lambda: whole(200, {}, b"{}"))
    requests: list[ReceivedRequest] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                replay = self.replay
                await _write(writer, _head(replay))
                for piece in replay.pieces:
                    await _write(writer, b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
                if replay.cut:
                    transport.abort()
                    return
                await _write(writer, b"0\r\n\r\n")
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _head(replay: Replay) -> bytes:
    # The length is never told, so that an answer may be cut: every body is sent in chunks.
    own = {"transfer-encoding": "chunked"}
    told = {
        name: value for name, value in replay.headers.items() if name not in {"content-length", "connection"}
    }
    lines = [f"{name}: {value}" for name, value in {**told, **own}.items()]
    return "\r\n".join([f"HTTP/1.1 {replay.status} Replayed", *lines, "", ""]).encode()


async def _read_request(reader: asyncio.StreamReader) -> ReceivedRequest | None:
    """The next request of the connection, None once the other side has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = dict(_split_header(line) for line in lines)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(method, path, headers, body)


def _split_header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


@asynccontextmanager
async def replay_upstream() -> AsyncIterator[ReplayUpstream]:
    """Runs a server on a free port of the loopback interface."""
    upstream = ReplayUpstream(url="")
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(upstream.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        await _cancel(connections)
        await server.wait_closed()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
