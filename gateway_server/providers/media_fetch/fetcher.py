"""Fetches one uri of a caller: to a public address that was checked, within limits of size, time and type."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from gateway_server.providers.media_fetch.addresses import MediaUri, RefusedUriError, is_public, parse_uri
from gateway_server.providers.media_fetch.media_types import (
    ALLOWED_TYPES,
    MediaKind,
    is_allowed,
    plain_type,
)

_PORT: Final = 443
#: More addresses of one host are not tried; all of them are checked.
_MAX_ADDRESSES_TRIED: Final = 4
_IDENTITY: Final = frozenset({"", "identity"})

#: The addresses of a host, as text. Raises OSError or ValueError when there are none.
Resolve = Callable[[str], Awaitable[Sequence[str]]]


class MediaFetchError(Exception):
    """A uri that could not be fetched. The message says why, for the caller: it names no address."""


@dataclass(frozen=True, slots=True)
class Network:
    """Where hosts are found and reached.

    ``open_transport`` makes a transport for one exchange, which the fetcher closes: with one that keeps
    connections, a host could be answered by a connection that was made for another one at its address.
    """

    resolve: Resolve
    open_transport: Callable[[], httpx.AsyncBaseTransport]

    @classmethod
    def public(cls) -> "Network":
        """The internet without proxies, by the public authorities. Reads files: build it in a thread."""
        context = httpx.create_ssl_context(trust_env=False)
        return cls(_resolve, lambda: _open_transport(context))


@dataclass(frozen=True, slots=True)
class MediaFetchLimits:
    """``max_bytes`` and ``seconds`` for all that one call fetches, ``connect_seconds`` for one connection."""

    max_bytes: int
    seconds: float
    connect_seconds: float


@dataclass(slots=True)
class Allowance:
    """What one call may still fetch: so many bytes, until a time of the event loop."""

    max_bytes: int
    until: float
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.max_bytes

    def require(self, count: int) -> None:
        """Raises MediaFetchError unless there is room for so many bytes more."""
        if count > self.left:
            raise MediaFetchError(f"exceeds the limit of {self.max_bytes} bytes for fetched media")

    def take(self, count: int) -> None:
        """Uses up so many bytes; raises MediaFetchError when they are more than are left."""
        self.require(count)
        self.left -= count


@dataclass(frozen=True, slots=True)
class FetchedMedia:
    """The bytes of a uri, and the media type that they came with, without parameters."""

    data: bytes = field(repr=False)
    mime_type: str


class MediaFetcher:
    """Fetches uris of callers. Keeps no connection, no cookie and no answer, and follows no redirect."""

    def __init__(self, network: Network, limits: MediaFetchLimits) -> None:
        self._network = network
        self._limits = limits

    def begin(self) -> Allowance:
        """What a call may fetch that begins to fetch now."""
        until = asyncio.get_running_loop().time() + self._limits.seconds
        return Allowance(self._limits.max_bytes, until)

    async def fetch(self, uri: str, kind: MediaKind, allowance: Allowance) -> FetchedMedia:
        """What is at a uri, for a part of this kind; raises MediaFetchError."""
        try:
            parsed = parse_uri(uri)
        except RefusedUriError as error:
            raise MediaFetchError(str(error)) from error
        try:
            async with asyncio.timeout_at(allowance.until):
                addresses = await self._find_addresses(parsed.host)
                return await self._fetch_from(addresses, parsed, kind, allowance)
        except TimeoutError:
            raise MediaFetchError(f"could not be fetched within {self._limits.seconds:g} s") from None

    async def _find_addresses(self, host: str) -> Sequence[str]:
        """The addresses of a host, all of which are public.

        One message for whatever is wrong: which names there are in the operator's own network is not told.
        """
        try:
            addresses = await self._network.resolve(host)
        except (OSError, ValueError):  # the second for a name that no host can have
            addresses = ()
        if not addresses or not all(is_public(address) for address in addresses):
            raise MediaFetchError("has a host without a public address")
        return addresses

    async def _fetch_from(
        self, addresses: Sequence[str], uri: MediaUri, kind: MediaKind, allowance: Allowance
    ) -> FetchedMedia:
        """What the first address gives that can be reached. The name is not looked up again."""
        for address in addresses[:_MAX_ADDRESSES_TRIED]:
            try:
                return await self._get(address, uri, kind, allowance)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.HTTPError as error:
                raise MediaFetchError("has a server whose answer broke off or is no HTTP") from error
        raise MediaFetchError("has a server that cannot be reached by verified TLS")

    async def _get(self, address: str, uri: MediaUri, kind: MediaKind, allowance: Allowance) -> FetchedMedia:
        request = httpx.Request(
            "GET",
            uri.url.copy_with(host=address, fragment=None),
            headers={
                "host": uri.url.netloc.decode("ascii"),
                "accept": ", ".join(ALLOWED_TYPES[kind]),
                "accept-encoding": "identity",
                "user-agent": "ai-gateway",
                "connection": "close",
            },
            extensions={
                # The certificate is verified against this name, not against the address.
                "sni_hostname": uri.host,
                "timeout": httpx.Timeout(None, connect=self._limits.connect_seconds).as_dict(),
                "trace": _HandshakeWatch().on_event,
            },
        )
        async with self._network.open_transport() as transport:
            response = await transport.handle_async_request(request)
            try:
                return await _read(response, kind, allowance)
            finally:
                await response.aclose()


class _HandshakeWatch:
    """Closes a connection whose handshake came to nothing.

    httpcore 1.0.9 does so only for errors: who is cancelled meanwhile would leave it open.
    """

    def __init__(self) -> None:
        self._connection: Any = None

    async def on_event(self, name: str, info: Mapping[str, Any]) -> None:
        """Of httpcore's extension "trace"."""
        if name == "connection.connect_tcp.complete":
            self._connection = info["return_value"]
        elif name == "connection.start_tls.failed" and self._connection is not None:
            await self._connection.aclose()


async def _read(response: httpx.Response, kind: MediaKind, allowance: Allowance) -> FetchedMedia:
    """The body of an answer that is what was asked for, as far as its headers tell."""
    if 300 <= response.status_code < 400:
        raise MediaFetchError("has a server that answers with a redirect, and none is followed")
    if response.status_code != 200:
        raise MediaFetchError(f"has a server that answers with status {response.status_code}")
    mime_type = plain_type(response.headers.get("content-type", ""))
    if not is_allowed(mime_type, kind):
        raise MediaFetchError(f"has a server that gives no media type of {_article(kind)} part")
    if response.headers.get("content-encoding", "").strip().lower() not in _IDENTITY:
        raise MediaFetchError("has a server that encodes what it sends, unasked")
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        allowance.require(int(length[:20]))  # it need not be true: what comes is counted all the same
    pieces: list[bytes] = []
    async for piece in response.aiter_raw():
        allowance.take(len(piece))
        pieces.append(piece)
    if not any(pieces):
        raise MediaFetchError("has nothing in it")
    return FetchedMedia(b"".join(pieces), mime_type)


def _article(kind: MediaKind) -> str:
    return f"{'an' if kind in ('image', 'audio') else 'a'} {kind}"


def _open_transport(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(verify=context, trust_env=False)


async def _resolve(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, _PORT, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))
