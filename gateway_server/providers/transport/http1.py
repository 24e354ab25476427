"""HTTP/1.1 on one socket: writes a request, reads its response with llhttp, keeps time and bounds.

``Connection`` owns the socket, ``Exchange`` one request and its response. They part as soon as the response
is complete, so that the socket serves the next call while somebody still reads what this one brought.
"""

import asyncio
import math
import re
import select
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.providers.transport.messages import Timeouts

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 256
#: Bytes kept for a reader that is slower than the provider; beyond it the socket is not read.
MAX_BUFFERED_BYTES: Final = 256 * 1024

_CONTENT_LENGTH: Final = b"content-length"
_TRANSFER_ENCODING: Final = b"transfer-encoding"

_KEEP_ALIVE: Final = b"keep-alive"
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"\btimeout=(\d{1,9})\b", re.IGNORECASE)

_MESSAGES: Final = {
    TransportErrorKind.FIRST_BYTE_TIMEOUT: "no response from the provider in time",
    TransportErrorKind.IDLE_TIMEOUT: "the provider's response paused for too long",
    TransportErrorKind.TOTAL_TIMEOUT: "the call to the provider took too long",
    TransportErrorKind.RESET: "the provider closed the connection without a response",
    TransportErrorKind.CUT: "the provider's response ended too early",
    TransportErrorKind.CLOSED: "the connection to the provider was closed by the gateway",
}


class ConnectionOwner(Protocol):
    """Who is told what becomes of a connection."""

    def on_idle(self, connection: "Connection") -> float:
        """The connection can take another request; gives the seconds it may wait for one."""
        ...

    def on_closed(self, connection: "Connection") -> None:
        """The connection takes no more requests; told once, at once."""
        ...

    def on_lost(self, connection: "Connection") -> None:
        """The socket is gone."""
        ...


class _Want(IntEnum):
    """What the waiter of an exchange waits for."""

    HEAD = 0
    SOME = 1
    ALL = 2


class Exchange:
    """One request and its response: the body source of the response."""

    __slots__ = (
        "_buffered",
        "_connection",
        "_error",
        "_is_complete",
        "_pieces",
        "_received_bytes",
        "_timeouts",
        "_total_at",
        "_waiter",
        "_want",
        "headers",
        "is_received",
        "max_response_bytes",
        "status",
    )

    def __init__(
        self, connection: "Connection", *, timeouts: Timeouts, total_at: float, max_response_bytes: int
    ) -> None:
        """``total_at`` is when ``timeouts.total`` is over, on the loop's clock."""
        self._connection = connection
        self._timeouts = timeouts
        self._total_at = total_at
        self.max_response_bytes = max_response_bytes
        self.status = 0
        self.headers: dict[bytes, bytes] | None = None  # once they are complete
        self.is_received = False
        self._error: TransportError | None = None
        self._is_complete = False
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._received_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._want = _Want.HEAD

    async def begin(self, request: bytes) -> dict[bytes, bytes]:
        """Sends the request; gives the headers of the response, names in lower case."""
        self._expect_within(self._timeouts.first_byte, TransportErrorKind.FIRST_BYTE_TIMEOUT)
        self._connection.begin(self, request)
        await self._wait(_Want.HEAD)
        if self.headers is not None:
            return self.headers
        raise self._error or AssertionError("woken without headers")

    @property
    def is_ended(self) -> bool:
        """As in BodySource."""
        return self._is_complete and not self._pieces

    @property
    def reads_ahead(self) -> bool:
        """As in BodySource."""
        return True

    def take(self) -> bytes:
        """As in BodySource."""
        pieces = self._pieces
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._buffered = 0
            if not self._is_complete:
                self._connection.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        return b""

    async def next(self) -> bytes:
        """As in BodySource."""
        if not self._pieces and not self._is_complete and self._error is None:
            self._expect_within(self._timeouts.idle, TransportErrorKind.IDLE_TIMEOUT)
            await self._wait(_Want.SOME)
        return self.take()

    async def read_all(self) -> bytes:
        """As in BodySource."""
        if not self._is_complete and self._error is None:
            self._connection.resume_reading()
            self._expect_within(self._timeouts.idle, TransportErrorKind.IDLE_TIMEOUT)
            await self._wait(_Want.ALL)
        if self._error is not None:
            raise self._error
        return self.take()

    async def aclose(self) -> None:
        """As in BodySource."""
        self.abort()

    def abort(self) -> None:
        """Closes the connection at once, unless the response is complete and the connection has moved on."""
        if not self._is_complete and self._error is None:
            self._connection.fail(TransportErrorKind.CLOSED)

    def add(self, piece: bytes) -> None:
        """Takes a piece of the body, from the connection."""
        self._pieces.append(piece)
        self._buffered += len(piece)
        self._received_bytes += len(piece)

    @property
    def is_too_large(self) -> bool:
        """Whether more of the body has come than may."""
        return self._received_bytes > self.max_response_bytes

    def on_progress(self) -> None:
        """Some of the response has come, and more is to come."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            if self._want is _Want.ALL:
                self._expect_within(self._timeouts.idle, TransportErrorKind.IDLE_TIMEOUT)
                return
            if self._pieces or (self._want is _Want.HEAD and self.headers is not None):
                waiter.set_result(None)
                # Until the reader asks again only the limit for the whole call runs.
                self._connection.expect_by(self._total_at, TransportErrorKind.TOTAL_TIMEOUT)
        if self._buffered > MAX_BUFFERED_BYTES:
            self._connection.pause_reading()

    def on_complete(self) -> None:
        """All of the response has come, and the connection is no longer this exchange's."""
        self._is_complete = True
        self._wake()

    def on_failure(self, error: TransportError) -> None:
        """Nothing more will come."""
        self._error = error
        self._wake()

    async def _wait(self, want: _Want) -> None:
        self._want = want
        waiter = self._waiter = self._connection.loop.create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _expect_within(self, seconds: float, kind: TransportErrorKind) -> None:
        at = self._connection.loop.time() + seconds
        if at < self._total_at:
            self._connection.expect_by(at, kind)
        else:
            self._connection.expect_by(self._total_at, TransportErrorKind.TOTAL_TIMEOUT)


class Connection(asyncio.Protocol):
    """One socket to a provider. Serves one exchange at a time."""

    __slots__ = (
        "_deadline",
        "_deadline_kind",
        "_exchange",
        "_has_excess",
        "_has_informational_body",
        "_header_count",
        "_headers",
        "_is_head_complete",
        "_is_informational",
        "_is_message_complete",
        "_is_paused",
        "_keep_alive",
        "_owner",
        "_parser",
        "_poll",
        "_timer",
        "_timer_at",
        "_transport",
        "_unproductive_bytes",
        "is_closed",
        "loop",
    )

    def __init__(self, owner: ConnectionOwner, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.is_closed = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._poll: Callable[[int], object] | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._deadline_kind = TransportErrorKind.CLOSED
        self._is_paused = False
        self._reset()

    def _reset(self) -> None:
        """Forgets the response before."""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._unproductive_bytes = 0
        self._is_informational = False
        self._has_informational_body = False
        self._is_head_complete = False
        self._is_message_complete = False
        self._has_excess = False
        self._keep_alive = False

    # What the owner and the exchange use.

    @property
    def is_open(self) -> bool:
        """Whether, as far as the loop has seen, a request can be sent."""
        return not self.is_closed and self._transport is not None and not self._transport.is_closing()

    @property
    def is_fresh(self) -> bool:
        """Whether it is open, and nothing has arrived meanwhile that the loop has not yet seen.

        Looks at the socket itself. A provider that closed an idle connection a moment ago is noticed here,
        before anything is sent, so that taking another connection is safe. What it closes later cannot be
        told from a request that was worked on, and is reported, not retried.
        """
        return self.is_open and (self._poll is None or not self._poll(0))

    def begin(self, exchange: Exchange, request: bytes) -> None:
        """Sends a request; its exchange is told of the response."""
        if self.is_closed or self._transport is None or self._exchange is not None:
            raise AssertionError("a request on a connection that is not free")
        self._reset()
        self._exchange = exchange
        self._transport.write(request)

    def fail(self, kind: TransportErrorKind, message: str | None = None) -> None:
        """Closes the connection at once; the exchange on it, if there is one, ends with an error."""
        exchange, self._exchange = self._exchange, None
        self.close()
        if exchange is not None:
            text = message or _MESSAGES[kind]
            exchange.on_failure(TransportError(kind, text, sent=True, received=exchange.is_received))

    def close(self) -> None:
        """Closes the connection at once."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._owner.on_closed(self)

    def expect_by(self, at: float, kind: TransportErrorKind) -> None:
        """Sets the time, on the loop's clock, by which something else must have been expected.

        Costs a timer only when the time comes before that of the timer that already runs; a timer that
        finds itself early starts again.
        """
        if self.is_closed:
            return
        self._deadline = at
        self._deadline_kind = kind
        if self._timer is None:
            self._timer = self.loop.call_at(at, self._on_timer)
            self._timer_at = at
        elif at < self._timer_at:
            self._timer.cancel()
            self._timer = self.loop.call_at(at, self._on_timer)
            self._timer_at = at

    def pause_reading(self) -> None:
        """Lets the provider wait."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Ends a pause."""
        if self._is_paused and self._transport is not None and not self.is_closed:
            self._is_paused = False
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected, for https with the handshake behind it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        if self.is_closed:
            self._transport.abort()
        elif hasattr(select, "poll"):
            poll = select.poll()
            poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
            self._poll = poll.poll

    def data_received(self, data: bytes) -> None:
        """Reads some of a response."""
        exchange = self._exchange
        parser = self._parser
        if exchange is None or parser is None:
            self.close()  # nobody asked: what would follow could be taken for the next answer
            return
        exchange.is_received = True
        was_head_complete = self._is_head_complete
        self._unproductive_bytes += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._has_excess = True
            if not self._is_message_complete:
                self.fail(TransportErrorKind.PROTOCOL, "the provider's response is not valid HTTP/1.1")
                return
        is_head_new = self._is_head_complete and not was_head_complete
        if fault := self._find_fault(exchange, is_head_new=is_head_new):
            self.fail(*fault)
        elif self._is_message_complete:
            self._finish(exchange)
        else:
            exchange.on_progress()

    def eof_received(self) -> None:
        """The provider sends no more."""
        self._on_peer_closed(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._on_peer_closed(exc)
        self._parser = None  # it and this refer to each other
        self._transport = None
        self._owner.on_lost(self)

    # What the parser calls. An informational response (1xx) runs through them before the real one.

    def on_message_begin(self) -> None:
        """Another status line begins."""
        if self._is_message_complete:
            self._has_excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; those behind the body mean nothing here."""
        if self._is_head_complete:
            return
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            return
        name = name.lower()
        before = self._headers.get(name)
        self._headers[name] = value if before is None else before.rstrip() + b", " + value

    def on_headers_complete(self) -> None:
        """The headers are complete."""
        if self._is_head_complete or self._parser is None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._is_informational = True
            return
        self._is_head_complete = True
        self._keep_alive = self._parser.should_keep_alive()
        if self._exchange is not None:
            self._exchange.status = status
            self._exchange.headers = self._headers

    def on_body(self, piece: bytes) -> None:
        """Takes a piece of the body."""
        if self._is_informational:
            self._has_informational_body = True
        elif not self._is_message_complete and self._exchange is not None:
            self._unproductive_bytes = 0
            self._exchange.add(piece)

    def on_message_complete(self) -> None:
        """The body is complete."""
        if self._is_informational:
            self._is_informational = False
            self._headers = {}
        else:
            self._is_message_complete = True

    # Within.

    def _find_fault(self, exchange: Exchange, *, is_head_new: bool) -> tuple[TransportErrorKind, str] | None:
        """What is wrong with a response that the parser accepts."""
        if self._has_informational_body:
            return TransportErrorKind.PROTOCOL, "an informational response has a body"
        if self._unproductive_bytes > MAX_HEAD_BYTES and not self._is_message_complete:
            # Headers before the body without end, or chunk extensions and trailers within it.
            return TransportErrorKind.TOO_LARGE, "the headers of the provider's response are too large"
        if is_head_new:
            if exchange.status < 100:
                return TransportErrorKind.PROTOCOL, "the response has a status that does not exist"
            size = sum(map(len, self._headers)) + sum(map(len, self._headers.values()))
            if size > MAX_HEAD_BYTES or self._header_count > MAX_HEADERS:
                return TransportErrorKind.TOO_LARGE, "the headers of the provider's response are too large"
            if self._headers.get(_TRANSFER_ENCODING, b"chunked").strip().lower() != b"chunked":
                return (
                    TransportErrorKind.PROTOCOL,
                    "the response has a transfer encoding that was not asked for",
                )
            if int(self._headers.get(_CONTENT_LENGTH, 0)) > exchange.max_response_bytes:
                return TransportErrorKind.TOO_LARGE, _too_large(exchange)
        if exchange.is_too_large:
            return TransportErrorKind.TOO_LARGE, _too_large(exchange)
        return None

    def _finish(self, exchange: Exchange) -> None:
        """Lets the exchange go, and offers the connection for the next one if it can serve it."""
        transport = self._transport
        self._exchange = None
        self.resume_reading()
        exchange.on_complete()
        if (
            self._keep_alive
            and not self._has_excess
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            idle_seconds = min(self._owner.on_idle(self), self._announced_idle_seconds)
            self.expect_by(self.loop.time() + idle_seconds, TransportErrorKind.CLOSED)
        else:
            self.close()

    def _on_peer_closed(self, exc: Exception | None) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()
        elif exc is None and self._ends_with_connection:
            self._keep_alive = False
            self._finish(exchange)
        else:
            self.fail(TransportErrorKind.CUT if exchange.is_received else TransportErrorKind.RESET)

    @property
    def _announced_idle_seconds(self) -> float:
        """How long the provider says that it keeps the connection, less a second for the way there."""
        announced = self._headers.get(_KEEP_ALIVE)
        if announced is None:
            return math.inf
        match = _KEEP_ALIVE_TIMEOUT.search(announced)
        return math.inf if match is None else max(0, int(match[1]) - 1)

    @property
    def _ends_with_connection(self) -> bool:
        """Whether the end of the connection is how the response says that its body is complete."""
        return self._is_head_complete and self._headers.keys().isdisjoint(
            (_CONTENT_LENGTH, _TRANSFER_ENCODING)
        )

    def _on_timer(self) -> None:
        self._timer = None
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
            self._timer_at = self._deadline
        elif self._exchange is None:
            self.close()  # not needed for long enough
        else:
            self.fail(self._deadline_kind)


def _too_large(exchange: Exchange) -> str:
    return f"the provider's response is larger than {exchange.max_response_bytes} bytes"
