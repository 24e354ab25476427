import asyncio

import pytest

from gateway_server.providers.transport import Transport
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import OK, Peer, answering, keep_answering, providing

LIMIT = 1 << 20
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"4\r\nfour\r\n3;x=1\r\nsix\r\n0\r\ntrailer: t\r\n\r\n"
)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        pytest.param(OK, 200, b"ok", id="content-length"),
        pytest.param(CHUNKED, 200, b"foursix", id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end", id="until-close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old", id="http-1.0"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="no-content"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", id="empty"),
        pytest.param(b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", id="no-reason-phrase"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\nx: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: l\r\n\r\n" + OK,
            200,
            b"ok",
            id="informational-first",
        ),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\ncontent-length: 1\r\n\r\n.",
            302,
            b".",
            id="redirect-not-followed",
        ),
        pytest.param(
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>",
            502,
            b"<html></html>",
            id="html-error",
        ),
    ],
)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
async def test_every_framing_gives_its_body(
    transport: Transport, answer: bytes, status: int, body: bytes, pieces: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if pieces == "whole":
            await peer.send(answer)
            return
        for byte in answer:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)

    for read_whole in (True, False):
        async with (
            providing(script) as provider,
            await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
        ):
            assert response.status == status
            if read_whole:
                assert await response.read() == body
            else:
                assert b"".join([piece async for piece in response.chunks()]) == body


async def test_request_is_written_as_http(transport: Transport) -> None:
    async with providing(keep_answering) as provider:
        call = provider.call("/model/a%3Ab/converse?x=1", b'{"a": 1}')
        async with await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT) as response:
            await response.read()
        assert provider.requests[0].body == b'{"a": 1}'
        assert provider.requests[0].head == (
            b"POST /model/a%%3Ab/converse?x=1 HTTP/1.1\r\n"
            b"host: 127.0.0.1:%d\r\n"
            b"accept-encoding: identity\r\n"
            b"user-agent: ai-gateway\r\n"
            b"authorization: Bearer secret\r\n"
            b"content-type: application/json\r\n"
            b"content-length: 8\r\n\r\n" % provider.port
        )


async def test_headers_are_found_in_any_case_and_equal_names_joined(transport: Transport) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-Request-ID: r1\r\nVary: a\r\nvary:  b \r\nContent-Length: 0\r\n\r\n"
    async with (
        providing(answering(answer)) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        assert response.headers["x-request-id"] == "r1"
        assert response.headers.get("X-REQUEST-ID") == "r1"
        assert response.headers.get("absent") is None
        assert dict(response.headers) == {"x-request-id": "r1", "vary": "a, b", "content-length": "0"}


async def test_trailers_do_not_change_the_headers(transport: Transport) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nx: head\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: trailer\r\n\r\n"
    )
    async with (
        providing(answering(answer)) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        assert await response.read() == b"a"
        assert response.headers["x"] == "head"


async def test_ten_megabytes_in_one_line_arrive(transport: Transport) -> None:
    size = 10 * 2**20

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 2**20):
            await peer.send(b"x" * 2**20)

    async with providing(script) as provider:
        for read_whole in (True, False):
            async with await transport.send(
                provider.call(), timeouts=PATIENT(), max_response_bytes=size
            ) as response:
                if read_whole:
                    assert len(await response.read()) == size
                else:
                    assert sum([len(piece) async for piece in response.chunks()]) == size


async def test_large_request_arrives_whole(transport: Transport) -> None:
    body = bytes(range(256)) * 40_000
    async with providing(keep_answering) as provider:
        call = provider.call(body=body)
        async with await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT) as response:
            assert await response.read() == b"ok"
        assert provider.requests[0].body == body


async def test_response_before_the_request_is_read_is_given_and_its_connection_not_used_again(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await peer.gone()

    async with providing(script) as provider:
        call = provider.call(body=b"x" * 50_000_000)
        async with await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT) as response:
            assert response.status == 413
        assert transport.stats()[0].open == 0


async def test_what_arrived_can_be_taken_without_waiting(transport: Transport) -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none")
        await more.wait()
        await peer.send(b"two")

    async with (
        providing(script) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        chunks = response.chunks()
        assert await anext(chunks) == b"one"
        assert response.take_available() == b""
        was_ended = response.is_ended
        assert response.reads_ahead
        more.set()
        while not (taken := response.take_available()):
            await asyncio.sleep(0)
        assert taken == b"two"
        assert (was_ended, response.is_ended) == (False, True)
        assert [piece async for piece in chunks] == []


async def test_pieces_that_arrived_together_come_as_one(transport: Transport) -> None:
    async with (
        providing(answering(CHUNKED)) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        assert [piece async for piece in response.chunks()] == [b"foursix"]


async def test_slow_reader_makes_the_provider_wait(transport: Transport) -> None:
    size = 64 * 2**20
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.send(b"x" * 65536)
            sent += 65536

    async with (
        providing(script) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=size) as response,
    ):
        before = -1
        while before != sent:  # until the sockets' buffers are full
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 32 * 2**20
        buffered: int = response._source._buffered  # type: ignore[attr-defined]
        assert 256 * 1024 < buffered <= 1024 * 1024
        total = 0
        async for piece in response.chunks():
            assert len(piece) <= 1024 * 1024
            total += len(piece)
        assert total == size
