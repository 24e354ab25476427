import asyncio
import traceback

import pytest

from gateway_server.providers.transport import Transport, TransportError, TransportErrorKind
from gateway_server.providers.transport.http1 import MAX_HEAD_BYTES
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import Peer, Provider, answering, providing

HEAD = b"HTTP/1.1 200 OK\r\n"
LIMIT = 1000


async def fail(
    transport: Transport, provider: Provider, *, read_whole: bool = True
) -> tuple[TransportError, bytes]:
    """Makes a call that must fail; gives the error and what was read before it."""
    got = b""
    with pytest.raises(TransportError) as raised:
        async with await transport.send(
            provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
        ) as response:
            if read_whole:
                await response.read()
            else:
                async for piece in response.chunks():
                    got += piece
    return raised.value, got


@pytest.mark.parametrize("read_whole", [True, False])
@pytest.mark.parametrize(
    ("answer", "got"),
    [
        pytest.param(HEAD + b"content-length: 10\r\n\r\nfour", b"four", id="content-length"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nfour\r\n", b"four", id="between-chunks"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n8\r\nfour", b"four", id="within-chunk"),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n", b"four", id="before-last-line"
        ),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"", id="no-chunk"),
        pytest.param(HEAD + b"content-length: 10\r\n", b"", id="within-headers"),
        pytest.param(b"HTT", b"", id="within-status-line"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", b"", id="informational-only"),
    ],
)
async def test_cut_response_is_told_from_a_proper_end(
    transport: Transport, answer: bytes, got: bytes, read_whole: bool
) -> None:
    async with providing(answering(answer)) as provider:
        error, before = await fail(transport, provider, read_whole=read_whole)
        assert (error.kind, error.sent, error.received) == (TransportErrorKind.CUT, True, True)
        assert before == (b"" if read_whole else got)
        assert transport.stats()[0].open == 0


async def test_reset_within_the_body_is_a_cut(transport: Transport) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 10\r\n\r\nfour")
        await go_on.wait()
        peer.reset()

    async with (
        providing(script) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        chunks = response.chunks()
        assert await anext(chunks) == b"four"
        go_on.set()
        with pytest.raises(TransportError) as raised:
            await anext(chunks)
        assert raised.value.kind is TransportErrorKind.CUT


async def test_body_until_close_that_ends_with_a_reset_is_a_cut(transport: Transport) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"\r\nfour")
        await arrived.wait()
        peer.reset()

    async with (
        providing(script) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        arrived.set()
        with pytest.raises(TransportError) as raised:
            await response.read()
        assert raised.value.kind is TransportErrorKind.CUT


@pytest.mark.parametrize("rude", [False, True])
async def test_close_without_a_response_is_a_reset_and_not_sent_again(
    transport: Transport, rude: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if rude:
            peer.reset()

    async with providing(script) as provider:
        error, _ = await fail(transport, provider)
        assert (error.kind, error.sent, error.received) == (TransportErrorKind.RESET, True, False)
        assert (provider.connections, len(provider.requests)) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x00\xff\x00\xff garbage\r\n\r\n", id="garbage"),
        pytest.param(b"<html>hello</html>\r\n\r\n", id="bare-html"),
        pytest.param(b"HTTP/1.1 OK 200\r\n\r\n", id="bad-status-line"),
        pytest.param(b"HTTP/1.1 20 OK\r\n\r\n", id="short-status"),
        pytest.param(b"HTTP/1.1 000 Nothing\r\n\r\nhello", id="status-zero"),
        pytest.param(b"HTTP/1.1 099 Less\r\ncontent-length: 5\r\n\r\nhello", id="status-too-small"),
        pytest.param(
            b"HTTP/1.1 103 Early\r\ncontent-length: 5\r\n\r\nhello" + HEAD + b"content-length: 2\r\n\r\n{}",
            id="informational-with-a-body",
        ),
        pytest.param(
            b"HTTP/1.1 199 Odd\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            id="informational-with-chunks",
        ),
        pytest.param(b"HTTP/3.0 200 OK\r\n\r\n", id="bad-version"),
        pytest.param(HEAD + b"content-length: -5\r\n\r\nhello", id="negative-length"),
        pytest.param(HEAD + b"content-length: five\r\n\r\nhello", id="length-in-words"),
        pytest.param(HEAD + b"content-length: 99999999999999999999999\r\n\r\nhello", id="length-overflow"),
        pytest.param(HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!", id="two-lengths"),
        pytest.param(
            HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            id="length-and-chunked",
        ),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", id="bad-chunk-size"
        ),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", id="negative-chunk"
        ),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", id="chunk-too-long"
        ),
        pytest.param(
            HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="unknown-transfer-encoding"
        ),
        pytest.param(HEAD + b"bad header\r\n\r\n", id="header-without-colon"),
        pytest.param(HEAD + b"x: a\x00b\r\n\r\n", id="zero-byte-in-header"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nframes",
            id="upgrade",
        ),
    ],
)
async def test_what_is_not_http_is_a_protocol_error(transport: Transport, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with providing(script) as provider:
        error, _ = await fail(transport, provider)
        assert (error.kind, error.sent, error.received) == (TransportErrorKind.PROTOCOL, True, True)
        await provider.all_gone.wait()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            HEAD + b"x: " + b"y" * (MAX_HEAD_BYTES + 1) + b"\r\ncontent-length: 0\r\n\r\n", id="long-header"
        ),
        pytest.param(HEAD + b"x: 1\r\n" * 300 + b"content-length: 0\r\n\r\n", id="many-headers"),
        pytest.param(HEAD + b"content-length: 1001\r\n\r\n", id="announced-length"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, id="chunk"),
        pytest.param(HEAD + b"\r\n" + b"x" * 1001, id="until-close"),
    ],
)
async def test_more_than_the_limit_is_refused(transport: Transport, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with providing(script) as provider:
        for read_whole in (True, False):
            error, _ = await fail(transport, provider, read_whole=read_whole)
            assert error.kind is TransportErrorKind.TOO_LARGE
            await provider.all_gone.wait()


@pytest.mark.parametrize(
    ("head", "line"),
    [
        pytest.param(HEAD + b"x: ", b"y" * 1024, id="header-line"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", id="informational-responses"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"y" * 1024, id="trailer"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n1;x=", b"y" * 1024, id="chunk-extension"),
    ],
)
async def test_what_never_ends_is_not_read_for_ever(transport: Transport, head: bytes, line: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head)
        while True:
            await peer.send(line)

    async with providing(script) as provider:
        error, _ = await fail(transport, provider)
        assert error.kind is TransportErrorKind.TOO_LARGE
        await provider.all_gone.wait()


async def test_bytes_after_the_end_are_not_the_next_response(transport: Transport) -> None:
    forged = HEAD + b"content-length: 6\r\n\r\nforged"

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HEAD + b"content-length: 5\r\n\r\nright" + forged)

    async with providing(script) as provider:
        for _ in range(3):
            async with await transport.send(
                provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
            ) as response:
                assert await response.read() == b"right"
        assert provider.connections == 3


async def test_bytes_on_an_idle_connection_close_it(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 5\r\n\r\nright")
        peer.provider.on_request.clear()
        await peer.provider.on_request.wait()  # set by the test: the response was read
        await peer.send(HEAD + b"content-length: 6\r\n\r\nforged")
        await peer.gone()

    async with providing(script) as provider:
        for n in (1, 2):
            async with await transport.send(
                provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
            ) as response:
                assert await response.read() == b"right"
            assert transport.stats()[0].idle == 1
            provider.on_request.set()
            await provider.all_gone.wait()
            assert transport.stats()[0].open == 0
            assert provider.connections == n


async def test_words_of_an_error_hold_no_secret(transport: Transport) -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nx-secret: secret\r\ncontent-length: 9\r\n\r\nsecret",
        b"secret garbage\r\n\r\n",
        b"",
    ]
    for answer in answers:
        async with providing(answering(answer)) as provider:
            call = provider.call("/secret?key=secret", b"secret")
            with pytest.raises(TransportError) as raised:
                await (await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT)).read()
            assert "secret" not in str(raised.value)
            assert "secret" not in repr(raised.value)
            assert "secret" not in "".join(traceback.format_exception_only(raised.value))
