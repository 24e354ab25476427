"""An ``HttpCall`` as bytes of HTTP/1.1, and the checks that it can be sent as it stands."""

from collections.abc import Sequence
from typing import Final, Never

import httpx

from gateway_server.providers.transport.errors import TransportError, TransportErrorKind

#: What the transport says for itself in every request.
OWN_HEADERS: Final = ((b"accept-encoding", b"identity"), (b"user-agent", b"ai-gateway"))
_RESERVED: Final = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
    }
)
_METHODS: Final = frozenset({"GET", "POST"})


def refuse(message: str) -> Never:
    """Raises the error for a request that cannot be sent as it stands."""
    raise TransportError(TransportErrorKind.INVALID_REQUEST, message, sent=False, received=False)


def check_headers(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuses headers that are the transport's own, and those that would end early or begin another."""
    for name, value in headers:
        if name.lower() in _RESERVED:
            refuse(f"the header {name.decode('latin-1')} is set by the transport alone")
        if b"\n" in value or b"\r" in value or b"\0" in value:
            refuse(f"the header {name.decode('latin-1')} holds a line break or a zero byte")


def check_method(method: str) -> None:
    """Refuses methods whose responses are framed in other ways (HEAD, CONNECT), and unknown ones."""
    if method not in _METHODS:
        refuse("only GET and POST requests can be sent")


def render_start(method: str, url: httpx.URL) -> bytes:
    """The first lines of any request with this method to this URL."""
    check_method(method)
    own = b"".join(b"%b: %b\r\n" % header for header in ((b"host", url.netloc), *OWN_HEADERS))
    return b"%b %b HTTP/1.1\r\n%b" % (method.encode(), url.raw_path, own)


def render_request(start: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The whole request; ``start`` is what ``render_start`` gave."""
    check_headers(headers)
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if body or start.startswith(b"POST"):
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (start, lines, len(body), body)
    return b"%b%b\r\n" % (start, lines)
