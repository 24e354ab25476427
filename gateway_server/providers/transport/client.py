"""``Transport``: sends to providers what their endpoints made. It follows no redirect and keeps no cookie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.providers.transport.messages import HttpResponse, Timeouts
from gateway_server.providers.transport.pool import OriginStats, Pool, PoolLimits, origin_of
from gateway_server.providers.transport.proxies import ProxySettings
from gateway_server.providers.transport.requests import refuse
from gateway_server.providers.transport.senders import DirectSender, HttpxSender, Sender

_DEFAULT_LIMITS: Final = PoolLimits()
_MAX_PREPARED_URLS: Final = 1024


class Transport:
    """All connections of one event loop to providers. Has one owner, who closes it."""

    def __init__(
        self,
        *,
        limits: PoolLimits = _DEFAULT_LIMITS,
        ca_file: Path | None = None,
        mounts: Mapping[str, httpx.AsyncBaseTransport] | None = None,
        proxies: ProxySettings | None = None,
    ) -> None:
        """Reads the certificates it trusts from files: build it before serving.

        ``ca_file`` is trusted besides the public authorities; ``mounts`` serve URL schemes of their own
        (``demo``); ``proxies`` are those of the environment unless given.
        """
        self._limits = limits
        self._mounts = dict(mounts or {})
        self._proxies = ProxySettings.from_environment() if proxies is None else proxies
        self._ssl_context = httpx.create_ssl_context()
        if ca_file is not None:
            self._ssl_context.load_verify_locations(cafile=ca_file)
        self._ssl_context.set_alpn_protocols(["http/1.1"])
        self._pools: dict[str, Pool] = {}
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}
        # By identity, since an endpoint keeps its URLs and comparing them costs microseconds.
        self._prepared: dict[int, tuple[httpx.URL, Sender]] = {}

    async def send(self, call: HttpCall, *, timeouts: Timeouts, max_response_bytes: int) -> HttpResponse:
        """Sends a call; gives the response as soon as its headers have arrived, whatever its status.

        ``max_response_bytes`` bounds the body, as sent and as unpacked. Raises TransportError. When the
        awaiting task is cancelled the connection is closed at once.
        """
        if timeouts.total <= 0:
            raise TransportError(
                TransportErrorKind.TOTAL_TIMEOUT, "no time is left for the call", sent=False, received=False
            )
        prepared = self._prepared.get(id(call.url))
        sender = self._prepare(call.url) if prepared is None else prepared[1]
        return await sender.send(call, timeouts=timeouts, max_response_bytes=max_response_bytes)

    def stats(self) -> list[OriginStats]:
        """The connections per origin; of proxied and mounted origins nothing is known."""
        return [pool.stats() for pool in self._pools.values()]

    async def aclose(self) -> None:
        """Closes every connection at once; calls still under way end with an error."""
        for pool in self._pools.values():
            await pool.aclose()
        for transport in (*self._proxied.values(), *self._mounts.values()):
            await transport.aclose()

    def _prepare(self, url: httpx.URL) -> Sender:
        sender = self._choose(url)
        if len(self._prepared) >= _MAX_PREPARED_URLS:
            self._prepared.clear()
        self._prepared[id(url)] = (url, sender)  # keeping the URL keeps its identity its own
        return sender

    def _choose(self, url: httpx.URL) -> Sender:
        if mounted := self._mounts.get(url.scheme):
            return HttpxSender(mounted)
        if url.scheme not in {"http", "https"} or not url.host:
            refuse("the URL of a provider is neither http:// nor https:// with a host")
        if url.userinfo:
            refuse("the URL of a provider holds a user name or password")
        origin = origin_of(url)
        port = url.port or (443 if url.scheme == "https" else 80)
        if proxy := self._proxies.find(url.scheme, url.host, port):
            if origin not in self._proxied:
                self._proxied[origin] = httpx.AsyncHTTPTransport(
                    verify=self._ssl_context,
                    proxy=proxy,
                    limits=httpx.Limits(
                        max_connections=self._limits.max_connections,
                        keepalive_expiry=self._limits.idle_seconds,
                    ),
                )
            return HttpxSender(self._proxied[origin])
        if origin not in self._pools:
            self._pools[origin] = Pool(
                url, limits=self._limits, ssl_context=self._ssl_context if url.scheme == "https" else None
            )
        return DirectSender(self._pools[origin])
