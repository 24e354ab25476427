"""Reads any bytes as what comes back on a connection to a provider, without a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway_server.providers.transport.encoding import DecodedBody, is_identity
from gateway_server.providers.transport.errors import TransportError
from gateway_server.providers.transport.http1 import Connection, Exchange
from gateway_server.providers.transport.messages import BodySource, Timeouts

_TIMEOUTS = Timeouts(connect=30, first_byte=30, idle=30, total=30)
_MAX_BYTES = 32 * 1024


@dataclass(frozen=True)
class Outcome:
    """What a reader got: status, headers, what it read of the body, and the kind of failure if any."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    failure: str
    #: Whether another request could be sent on the connection.
    is_reusable: bool


class _Wire(asyncio.Transport):
    """The other end of a connection: does what it is told, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False
        self._is_closing = False
        self._socket, self._other = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self._is_closing

    def abort(self) -> None:
        self._is_closing = True

    def release(self) -> None:
        self._socket.close()
        self._other.close()


class _Owner:
    def __init__(self) -> None:
        self.is_idle = False

    def on_idle(self, connection: Connection) -> float:
        self.is_idle = True
        return 30

    def on_closed(self, connection: Connection) -> None:
        self.is_idle = False

    def on_lost(self, connection: Connection) -> None:
        pass


async def read_response(pieces: Iterable[bytes]) -> Outcome:
    """One response that comes in these pieces, after which the provider closes the connection."""
    loop = asyncio.get_running_loop()
    wire, owner = _Wire(), _Owner()
    connection = Connection(owner, loop)
    connection.connection_made(wire)
    exchange = Exchange(
        connection, timeouts=_TIMEOUTS, total_at=loop.time() + 30, max_response_bytes=_MAX_BYTES
    )
    reading = asyncio.create_task(_read(exchange))
    try:
        await asyncio.sleep(0)
        for piece in pieces:
            if wire.is_closing() or owner.is_idle:
                break
            if piece:
                connection.data_received(piece)
            await asyncio.sleep(0)
            while wire.is_paused and not wire.is_closing():
                await asyncio.sleep(0)
        is_reusable = owner.is_idle
        if not wire.is_closing():
            connection.eof_received()
        connection.connection_lost(None)
        body, failure = await reading
    finally:
        wire.release()
    headers = tuple(sorted((exchange.headers or {}).items()))
    return Outcome(exchange.status, headers, body, failure, is_reusable)


async def _read(exchange: Exchange) -> tuple[bytes, str]:
    read = bytearray()
    try:
        headers = await exchange.begin(b"")
        encoding = headers.get(b"content-encoding", b"")
        source: BodySource = exchange
        if not is_identity(encoding):
            source = DecodedBody(exchange, encoding, max_bytes=_MAX_BYTES)
        while piece := await source.next():
            read += piece
    except TransportError as error:
        return bytes(read), error.kind.value
    return bytes(read), ""
