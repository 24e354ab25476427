"""How a conversation with a provider can fail. Messages hold no path, query, header or body."""

from enum import StrEnum


class TransportErrorKind(StrEnum):
    """What went wrong."""

    INVALID_REQUEST = "invalid_request"
    """The request cannot be sent as it stands (scheme, URL, header): a fault of the configuration."""
    CLOSED = "closed"
    """The transport is shutting down, or the response was closed before it was read."""
    POOL_TIMEOUT = "pool_timeout"
    """All connections to the provider stayed busy for too long."""
    DNS = "dns"
    """The provider's host name could not be resolved."""
    CONNECT_REFUSED = "connect_refused"
    """No connection could be made: refused, or no way to the host."""
    CONNECT_TIMEOUT = "connect_timeout"
    """No connection was made in time."""
    TLS = "tls"
    """The TLS handshake failed; most often the certificate could not be verified."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    """The response headers did not arrive in time."""
    IDLE_TIMEOUT = "idle_timeout"
    """The body paused for too long."""
    TOTAL_TIMEOUT = "total_timeout"
    """The whole call took too long."""
    RESET = "reset"
    """The connection ended before any byte of a response. The provider may have worked on the request."""
    CUT = "cut"
    """The connection ended in the middle of a response."""
    PROTOCOL = "protocol"
    """What came back is not HTTP as agreed, or its encoding cannot be read."""
    TOO_LARGE = "too_large"
    """The headers or the body exceed their limit, as sent or decompressed."""


class TransportError(Exception):
    """A request that got no complete response.

    ``sent`` says whether any byte of the request may have reached the provider, ``received`` whether
    any byte of a response came. Not sent means that it is safe to send again.
    """

    def __init__(self, kind: TransportErrorKind, message: str, *, sent: bool, received: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.sent = sent
        self.received = received
