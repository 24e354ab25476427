"""Just enough of HTTP/2 to send a gRPC server what no gRPC client would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
GOAWAY: Final = 7

END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4


@dataclass(frozen=True)
class Frame:
    """One frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame to send."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers_block(headers: Sequence[tuple[str, str]]) -> bytes:
    """Headers as literals, which need neither tables nor Huffman codes."""
    block = b""
    for name, value in headers:
        assert len(name) < 127
        assert len(value) < 127
        block += b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block


def call_headers(path: str, *more: tuple[str, str]) -> bytes:
    """The headers of a call to a gRPC method."""
    return headers_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *more,
        ]
    )


def message(data: bytes, *, compressed: bool = False) -> bytes:
    """A message as gRPC frames it."""
    return bytes([compressed]) + len(data).to_bytes(4, "big") + data


class RawConnection:
    """A connection that sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Sends; a server that has closed already is what some tests want."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            pass

    async def shake_hands(self) -> None:
        """Begins HTTP/2."""
        await self.send(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    async def frames(self) -> AsyncIterator[Frame]:
        """Frames until the server closes."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                yield Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def end_of(self, stream: int) -> bytes:
        """All header bytes of a stream until it has ended; empty when the connection ends before."""
        block = b""
        async for each in self.frames():
            if each.stream == stream and each.kind == HEADERS:
                block += each.payload
            if each.stream == stream and (each.kind == RST_STREAM or each.flags & END_STREAM):
                return block
        return b""

    async def closed(self) -> None:
        """Waits until the server has closed."""
        async for _ in self.frames():
            pass


@asynccontextmanager
async def raw_connection(address: str) -> AsyncIterator[RawConnection]:
    """A TCP connection to an address."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()
