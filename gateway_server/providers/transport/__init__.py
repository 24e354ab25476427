"""The only part of the gateway that talks to providers: bytes out, bytes in, no word of any format.

docs/decisions/http-transport.md says why it has an HTTP/1.1 client of its own.
"""

from gateway_server.providers.transport.client import Transport
from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.providers.transport.messages import Headers, HttpResponse, Timeouts
from gateway_server.providers.transport.pool import OriginStats, PoolLimits
from gateway_server.providers.transport.proxies import ProxySettings

__all__ = [
    "Headers",
    "HttpResponse",
    "OriginStats",
    "PoolLimits",
    "ProxySettings",
    "Timeouts",
    "Transport",
    "TransportError",
    "TransportErrorKind",
]
