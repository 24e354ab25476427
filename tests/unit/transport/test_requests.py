import httpx
import pytest

from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport import Transport, TransportError, TransportErrorKind
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import keep_answering, providing

LIMIT = 1000


@pytest.mark.parametrize(
    "header",
    [
        (b"x-secret", b"a\r\nx-forged: b"),
        (b"x-secret", b"a\n"),
        (b"x-secret", b"\ra"),
        (b"x-secret", b"a\0b"),
        (b"Content-Length", b"0"),
        (b"transfer-encoding", b"chunked"),
        (b"Host", b"elsewhere.example"),
        (b"Accept-Encoding", b"gzip"),
    ],
)
async def test_header_that_would_change_the_framing_is_refused(
    transport: Transport, header: tuple[bytes, bytes]
) -> None:
    async with providing(keep_answering) as provider:
        call = HttpCall(provider.call().url, [header], b"")
        with pytest.raises(TransportError) as raised:
            await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT)
        error = raised.value
        assert (error.kind, error.sent) == (TransportErrorKind.INVALID_REQUEST, False)
        assert header[1].decode() not in str(error)
        assert provider.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "//127.0.0.1/",
        "/v1/chat",
        "http:///v1",
        "demo://demo/",
        "http://user:secret@127.0.0.1/",
    ],
)
async def test_url_that_is_no_providers_is_refused(transport: Transport, url: str) -> None:
    with pytest.raises(TransportError) as raised:
        await transport.send(HttpCall(httpx.URL(url), [], b""), timeouts=PATIENT(), max_response_bytes=LIMIT)
    assert (raised.value.kind, raised.value.sent) == (TransportErrorKind.INVALID_REQUEST, False)
    assert "secret" not in str(raised.value)
    assert transport.stats() == []


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "get", "GET / HTTP/1.1\r\n\r\n"])
async def test_method_with_other_framing_is_refused(transport: Transport, method: str) -> None:
    call = HttpCall(httpx.URL("http://127.0.0.1:1/"), [], b"", method)
    with pytest.raises(TransportError) as raised:
        await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT)
    assert raised.value.kind is TransportErrorKind.INVALID_REQUEST


async def test_get_has_no_length_and_post_always(transport: Transport) -> None:
    async with providing(keep_answering) as provider:
        for method in ("GET", "POST"):
            call = HttpCall(provider.call().url, [], b"", method)
            async with await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT) as response:
                await response.read()
        assert provider.requests[0].head.startswith(b"GET /v1/chat HTTP/1.1\r\n")
        assert b"content-length" not in provider.requests[0].head
        assert b"\r\ncontent-length: 0\r\n" in provider.requests[1].head


async def test_number_of_prepared_urls_is_bounded(transport: Transport) -> None:
    async with providing(keep_answering) as provider:
        for number in range(1100):
            async with await transport.send(
                provider.call(f"/{number}"), timeouts=PATIENT(), max_response_bytes=LIMIT
            ) as response:
                await response.read()
        assert len(transport._prepared) <= 1024
        assert [request.head.split()[1] for request in provider.requests] == [
            b"/%d" % number for number in range(1100)
        ]
