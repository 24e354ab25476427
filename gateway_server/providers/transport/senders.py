"""The two ways to an origin: this package's own HTTP/1.1, and any httpx transport."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import httpx

from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport.encoding import DecodedBody, is_identity
from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.providers.transport.http1 import Exchange
from gateway_server.providers.transport.messages import BodySource, Headers, HttpResponse, Timeouts
from gateway_server.providers.transport.pool import Pool
from gateway_server.providers.transport.requests import (
    OWN_HEADERS,
    check_headers,
    check_method,
    render_request,
    render_start,
)


class Sender(Protocol):
    """Sends calls to one URL."""

    async def send(self, call: HttpCall, *, timeouts: Timeouts, max_response_bytes: int) -> HttpResponse:
        """As in Transport."""
        ...


class DirectSender:
    """Over a connection of a pool, without an httpx object on the way: those cost more than the sending."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._starts: dict[str, bytes] = {}

    async def send(self, call: HttpCall, *, timeouts: Timeouts, max_response_bytes: int) -> HttpResponse:
        """As in Transport."""
        start = self._starts.get(call.method)
        if start is None:
            start = self._starts[call.method] = render_start(call.method, call.url)
        request = render_request(start, call.headers, call.body)
        pool = self._pool
        total_at = asyncio.get_running_loop().time() + timeouts.total
        connection = pool.take_idle() or await pool.acquire(timeouts, total_at=total_at)
        exchange = Exchange(
            connection, timeouts=timeouts, total_at=total_at, max_response_bytes=max_response_bytes
        )
        headers = await exchange.begin(request)
        return await _respond(exchange.status, headers, exchange, max_response_bytes=max_response_bytes)


class HttpxSender:
    """Through an httpx transport: proxies, and providers that live in this process.

    What httpx does not tell is taken at its worst: a request counts as sent once a connection may exist,
    and the limit for the first byte begins with the call, since connecting cannot be told from waiting.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, call: HttpCall, *, timeouts: Timeouts, max_response_bytes: int) -> HttpResponse:
        """As in Transport."""
        check_method(call.method)
        check_headers(call.headers)
        request = httpx.Request(
            call.method,
            call.url,
            headers=[*OWN_HEADERS, *call.headers],
            content=call.body,
            extensions={"timeout": {"connect": timeouts.connect, "pool": timeouts.pool}},
        )
        now = asyncio.get_running_loop().time()
        total_at = now + timeouts.total
        head_at = min(total_at, now + timeouts.connect + timeouts.first_byte)
        try:
            async with asyncio.timeout_at(head_at):
                response = await self._transport.handle_async_request(request)
        except TimeoutError:
            kind = TransportErrorKind.FIRST_BYTE_TIMEOUT
            kind = kind if head_at < total_at else TransportErrorKind.TOTAL_TIMEOUT
            raise TransportError(kind, "no response in time", sent=True, received=False) from None
        except httpx.TransportError as error:
            raise _explain(error) from error
        headers: dict[bytes, bytes] = {}
        for raw_name, value in response.headers.raw:
            name = raw_name.lower()
            headers[name] = value if name not in headers else headers[name] + b", " + value
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous transport gave a response with a synchronous body")
        body = HttpxBody(response.stream, idle=timeouts.idle, total_at=total_at, max_bytes=max_response_bytes)
        return await _respond(response.status_code, headers, body, max_response_bytes=max_response_bytes)


class HttpxBody:
    """The body source of a response that came through an httpx transport."""

    def __init__(
        self, stream: httpx.AsyncByteStream, *, idle: float, total_at: float, max_bytes: int
    ) -> None:
        self._stream = stream
        self._pieces = aiter(stream)
        self._idle = idle
        self._total_at = total_at
        self._max_bytes = max_bytes
        self._bytes = 0
        self._error: TransportError | None = None
        self._is_ended = False
        self._is_closed = False

    @property
    def is_ended(self) -> bool:
        """As in BodySource."""
        return self._is_ended

    @property
    def reads_ahead(self) -> bool:
        """As in BodySource; an httpx transport reads only when asked."""
        return False

    def take(self) -> bytes:
        """As in BodySource; an httpx transport does not tell what has arrived."""
        if self._error is not None:
            raise self._error
        return b""

    async def next(self) -> bytes:
        """As in BodySource."""
        if self._error is not None:
            raise self._error
        if self._is_ended:
            return b""
        try:
            piece = await self._next_piece()
        except TransportError as error:
            await self.aclose()
            self._error = error
            raise
        except BaseException:
            await self.aclose()
            raise
        if not piece:
            self._is_ended = True
            await self.aclose()
        return piece

    async def read_all(self) -> bytes:
        """As in BodySource."""
        pieces = []
        while piece := await self.next():
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """As in BodySource."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_ended and self._error is None:
            self._error = _failure(TransportErrorKind.CLOSED, "the response was closed before its end")
        try:
            if isinstance(self._pieces, AsyncGenerator):
                await self._pieces.aclose()
        finally:
            await self._stream.aclose()

    async def _next_piece(self) -> bytes:
        """The next piece with something in it; empty at the end."""
        idle_at = asyncio.get_running_loop().time() + self._idle
        try:
            async with asyncio.timeout_at(min(idle_at, self._total_at)):
                piece = b""
                while not piece:
                    piece = await anext(self._pieces)
        except StopAsyncIteration:
            return b""
        except TimeoutError:
            if idle_at < self._total_at:
                raise _failure(TransportErrorKind.IDLE_TIMEOUT, "the response paused for too long") from None
            raise _failure(TransportErrorKind.TOTAL_TIMEOUT, "the call took too long") from None
        except httpx.TransportError as error:
            raise _failure(TransportErrorKind.CUT, "the response ended too early") from error
        self._bytes += len(piece)
        if self._bytes > self._max_bytes:
            text = f"the response is larger than {self._max_bytes} bytes"
            raise _failure(TransportErrorKind.TOO_LARGE, text)
        return piece


async def _respond(
    status: int, headers: Mapping[bytes, bytes], source: BodySource, *, max_response_bytes: int
) -> HttpResponse:
    encoding = headers.get(b"content-encoding")
    if encoding is not None and not is_identity(encoding):
        try:
            source = DecodedBody(source, encoding, max_bytes=max_response_bytes)
        except TransportError:
            await source.aclose()
            raise
    return HttpResponse(status, Headers(headers), source)


def _failure(kind: TransportErrorKind, message: str) -> TransportError:
    """A failure within a response."""
    return TransportError(kind, message, sent=True, received=True)


def _explain(error: httpx.TransportError) -> TransportError:
    """The failure of a request that got no response, without httpx's words, which may hold addresses."""
    kind, message, sent = TransportErrorKind.PROTOCOL, "the response is not valid HTTP/1.1", True
    match error:
        case httpx.PoolTimeout():
            kind, message, sent = TransportErrorKind.POOL_TIMEOUT, "all connections stayed busy", False
        case httpx.ConnectTimeout():
            kind, message, sent = TransportErrorKind.CONNECT_TIMEOUT, "no connection in time", False
        case httpx.ConnectError() if isinstance(_root(error), socket.gaierror):
            kind, message, sent = TransportErrorKind.DNS, "the host cannot be found", False
        case httpx.ConnectError() if isinstance(_root(error), ssl.SSLError):
            kind, message, sent = TransportErrorKind.TLS, "the TLS handshake failed", False
        case httpx.ConnectError() | httpx.ProxyError():
            kind, message, sent = TransportErrorKind.CONNECT_REFUSED, "no connection could be made", False
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            kind, message, sent = TransportErrorKind.INVALID_REQUEST, "the request cannot be sent", False
        case httpx.TimeoutException():
            kind, message = TransportErrorKind.FIRST_BYTE_TIMEOUT, "no response in time"
        case httpx.NetworkError():
            kind, message = TransportErrorKind.RESET, "the connection was closed without a response"
        case _:
            pass  # httpx.RemoteProtocolError
    return TransportError(kind, message, sent=sent, received=kind is TransportErrorKind.PROTOCOL)


def _root(error: BaseException) -> BaseException:
    """The first cause of an error: httpx wraps what httpcore wrapped."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
