"""The connections to one origin: made, kept, limited, and handed out in the order they were asked for."""

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass

import httpx

from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.providers.transport.http1 import Connection
from gateway_server.providers.transport.messages import Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """``max_connections`` to one origin at a time; ``idle_seconds`` that an unused one is kept."""

    max_connections: int = 1000
    idle_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginStats:
    """The connections to one origin.

    ``open`` counts those being made and the ``idle`` ones too, ``waiting`` the calls that have none yet
    because all are busy.
    """

    origin: str
    open: int
    idle: int
    waiting: int


class Pool:
    """Connections to one origin."""

    def __init__(self, url: httpx.URL, *, limits: PoolLimits, ssl_context: ssl.SSLContext | None) -> None:
        """Takes the origin from a URL; a TLS context for https, None for http."""
        self.origin = origin_of(url)
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or (80 if ssl_context is None else 443)
        self._limits = limits
        self._ssl_context = ssl_context
        self._slots = 0  # taken by connections that are open or being made
        self._idle: list[Connection] = []  # the last used is taken first, so that a surplus expires
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sockets: set[Connection] = set()
        self._all_lost: asyncio.Future[None] | None = None
        self._is_closed = False

    def stats(self) -> OriginStats:
        """How the connections stand now."""
        return OriginStats(
            origin=self.origin, open=self._slots, idle=len(self._idle), waiting=len(self._waiters)
        )

    def take_idle(self) -> Connection | None:
        """A connection that can be used at once."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh:
                return connection
            connection.close()
        return None

    async def acquire(self, timeouts: Timeouts, *, total_at: float) -> Connection:
        """A connection, waited for in line or newly made; raises TransportError with nothing sent."""
        if self._is_closed:
            raise _unsent(TransportErrorKind.CLOSED, "the gateway is shutting down")
        loop = asyncio.get_running_loop()
        pool_at = min(loop.time() + timeouts.pool, total_at)
        is_first_in_line = False
        while True:
            if self._slots < self._limits.max_connections:
                self._slots += 1
                return await self._connect(timeouts, total_at=total_at)
            try:
                async with asyncio.timeout_at(pool_at):
                    connection = await self._wait_in_line(first=is_first_in_line)
            except TimeoutError:
                kind = _kind_of_timeout(TransportErrorKind.POOL_TIMEOUT, pool_at, total_at)
                raise _unsent(kind, f"all connections to {self.origin} stayed busy") from None
            if connection is None:  # the slot of one that was closed
                return await self._connect(timeouts, total_at=total_at)
            if connection.is_fresh:
                return connection
            connection.close()
            is_first_in_line = True

    async def aclose(self) -> None:
        """Closes all connections at once, ends all waiting, and returns when every socket is gone."""
        self._is_closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(_unsent(TransportErrorKind.CLOSED, "the gateway is shutting down"))
        for connection in list(self._sockets):
            connection.fail(TransportErrorKind.CLOSED)
        if self._sockets:
            self._all_lost = asyncio.get_running_loop().create_future()
            await self._all_lost

    # What connections tell.

    def on_idle(self, connection: Connection) -> float:
        """As in ConnectionOwner: the first in line gets it, else it is kept."""
        if not self._hand_over(connection):
            self._idle.append(connection)
        return self._limits.idle_seconds

    def on_closed(self, connection: Connection) -> None:
        """As in ConnectionOwner: its slot goes to the first in line."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._free_slot()

    def on_lost(self, connection: Connection) -> None:
        """As in ConnectionOwner."""
        self._sockets.discard(connection)
        if self._all_lost is not None and not self._sockets and not self._all_lost.done():
            self._all_lost.set_result(None)

    # Within.

    async def _wait_in_line(self, *, first: bool) -> Connection | None:
        """Waits for a connection, or for the slot of one (None)."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())  # handed over while this task was being cancelled
            raise

    def _hand_over(self, connection: Connection | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            self._free_slot()
        elif not connection.is_open:
            connection.close()
        elif not self._hand_over(connection):
            self._idle.append(connection)

    def _free_slot(self) -> None:
        if not self._hand_over(None):
            self._slots -= 1

    async def _connect(self, timeouts: Timeouts, *, total_at: float) -> Connection:
        """Makes a connection in the slot that the caller has taken."""
        loop = asyncio.get_running_loop()
        connect_at = min(loop.time() + timeouts.connect, total_at)
        connection = Connection(self, loop)
        try:
            async with asyncio.timeout_at(connect_at):
                await loop.create_connection(
                    lambda: connection,
                    self._host,
                    self._port,
                    ssl=self._ssl_context,
                    server_hostname=None if self._ssl_context is None else self._host,
                )
        except TimeoutError:
            connection.close()
            kind = _kind_of_timeout(TransportErrorKind.CONNECT_TIMEOUT, connect_at, total_at)
            raise _unsent(kind, f"no connection to {self.origin} in time") from None
        except (OSError, UnicodeError) as error:  # the second for a host that no DNS name can be
            connection.close()
            raise self._explain(error) from error
        except BaseException:
            connection.close()
            raise
        if self._is_closed or not connection.is_open:
            connection.close()
            kind = TransportErrorKind.CLOSED if self._is_closed else TransportErrorKind.RESET
            raise _unsent(kind, f"the connection to {self.origin} was closed before it was used")
        # Not before: uvloop tells nobody when it closes the socket of a connect that was cancelled.
        self._sockets.add(connection)
        return connection

    def _explain(self, error: OSError | UnicodeError) -> TransportError:
        """The error for a connection that could not be made."""
        match error:
            case ssl.SSLCertVerificationError():
                reason = f"the certificate of {self.origin} cannot be verified: {error.verify_message}"
                return _unsent(TransportErrorKind.TLS, reason)
            case ssl.SSLError():
                return _unsent(TransportErrorKind.TLS, f"the TLS handshake with {self.origin} failed")
            case socket.gaierror() | UnicodeError():
                return _unsent(TransportErrorKind.DNS, f"the host of {self.origin} cannot be found")
            case ConnectionResetError() | ConnectionAbortedError() if self._ssl_context is not None:
                return _unsent(TransportErrorKind.TLS, f"{self.origin} ended the TLS handshake")
            case _:
                return _unsent(TransportErrorKind.CONNECT_REFUSED, f"cannot connect to {self.origin}")


def origin_of(url: httpx.URL) -> str:
    """Scheme, host and port of a URL, the port left out when it is the scheme's own."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _kind_of_timeout(kind: TransportErrorKind, at: float, total_at: float) -> TransportErrorKind:
    return kind if at < total_at else TransportErrorKind.TOTAL_TIMEOUT


def _unsent(kind: TransportErrorKind, message: str) -> TransportError:
    return TransportError(kind, message, sent=False, received=False)
