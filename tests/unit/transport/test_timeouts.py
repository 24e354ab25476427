import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport import Timeouts, Transport, TransportError, TransportErrorKind
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import OK, Peer, providing

HEAD = b"HTTP/1.1 200 OK\r\n"
LIMIT = 1 << 20
SHORT = 0.1


@contextmanager
def unreachable() -> Iterator[HttpCall]:
    """An address that takes no connection and refuses none: its queue of connections is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        yield HttpCall(url, [], b"")


async def expect(transport: Transport, call: HttpCall, timeouts: Timeouts) -> TransportError:
    """Makes a call that must run out of time, and checks that it takes neither less nor much longer."""
    start = time.monotonic()
    with pytest.raises(TransportError) as raised:
        async with await transport.send(call, timeouts=timeouts, max_response_bytes=LIMIT) as response:
            await response.read()
    assert SHORT * 0.9 < time.monotonic() - start < SHORT + 2
    return raised.value


@pytest.mark.parametrize(
    ("timeouts", "kind"),
    [
        (PATIENT(connect=SHORT), TransportErrorKind.CONNECT_TIMEOUT),
        (PATIENT(total=SHORT), TransportErrorKind.TOTAL_TIMEOUT),
    ],
)
async def test_connecting_has_its_time(
    transport: Transport, timeouts: Timeouts, kind: TransportErrorKind
) -> None:
    with unreachable() as call:
        error = await expect(transport, call, timeouts)
    assert (error.kind, error.sent, error.received) == (kind, False, False)
    assert transport.stats()[0].open == 0


@pytest.mark.parametrize(
    ("timeouts", "kind"),
    [
        (PATIENT(first_byte=SHORT), TransportErrorKind.FIRST_BYTE_TIMEOUT),
        (PATIENT(total=SHORT), TransportErrorKind.TOTAL_TIMEOUT),
    ],
)
async def test_first_byte_has_its_time(
    transport: Transport, timeouts: Timeouts, kind: TransportErrorKind
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with providing(script) as provider:
        error = await expect(transport, provider.call(), timeouts)
        assert (error.kind, error.sent, error.received) == (kind, True, False)
        await provider.all_gone.wait()


async def test_headers_that_trickle_in_are_late(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        while True:
            await peer.send(b"x: y\r\n")
            await asyncio.sleep(0.01)

    async with providing(script) as provider:
        error = await expect(transport, provider.call(), PATIENT(first_byte=SHORT))
        assert (error.kind, error.received) == (TransportErrorKind.FIRST_BYTE_TIMEOUT, True)
        await provider.all_gone.wait()


@pytest.mark.parametrize("read_whole", [True, False])
async def test_pause_within_the_body_has_its_time(transport: Transport, read_whole: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 9\r\n\r\nfour")
        await peer.gone()

    async with providing(script) as provider:
        async with await transport.send(
            provider.call(), timeouts=PATIENT(idle=SHORT), max_response_bytes=LIMIT
        ) as response:
            got = b""
            start = time.monotonic()
            with pytest.raises(TransportError) as raised:
                if read_whole:
                    await response.read()
                async for piece in response.chunks():
                    got += piece
            assert raised.value.kind is TransportErrorKind.IDLE_TIMEOUT
            assert SHORT * 0.9 < time.monotonic() - start < SHORT + 2
            assert got == (b"" if read_whole else b"four")
        await provider.all_gone.wait()


@pytest.mark.parametrize("read_whole", [True, False])
async def test_slow_but_steady_body_is_not_idle(transport: Transport, read_whole: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 20\r\n\r\n")
        for _ in range(20):
            await peer.send(b".")
            await asyncio.sleep(0.02)

    async with (
        providing(script) as provider,
        await transport.send(
            provider.call(), timeouts=PATIENT(idle=0.25), max_response_bytes=LIMIT
        ) as response,
    ):
        if read_whole:
            assert await response.read() == b"." * 20
        else:
            assert b"".join([piece async for piece in response.chunks()]) == b"." * 20


async def test_time_that_the_reader_takes_is_not_the_providers(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 6\r\n\r\none")
        await asyncio.sleep(SHORT * 2)
        await peer.send(b"two")

    async with (
        providing(script) as provider,
        await transport.send(
            provider.call(), timeouts=PATIENT(idle=SHORT), max_response_bytes=LIMIT
        ) as response,
    ):
        chunks = response.chunks()
        assert await anext(chunks) == b"one"
        await asyncio.sleep(SHORT * 3)
        assert await anext(chunks) == b"two"


@pytest.mark.parametrize("is_reading", [True, False])
async def test_whole_call_has_its_time_whoever_is_slow(transport: Transport, is_reading: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"1\r\n.\r\n")
            await asyncio.sleep(0.01)

    async with providing(script) as provider:
        start = time.monotonic()
        async with await transport.send(
            provider.call(), timeouts=PATIENT(total=SHORT * 2), max_response_bytes=LIMIT
        ) as response:
            if not is_reading:
                await provider.all_gone.wait()
            with pytest.raises(TransportError) as raised:
                async for _ in response.chunks():
                    pass
        assert raised.value.kind is TransportErrorKind.TOTAL_TIMEOUT
        assert SHORT * 1.8 < time.monotonic() - start < SHORT * 2 + 2
        await provider.all_gone.wait()


async def test_no_time_left_sends_nothing(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(OK)

    async with providing(script) as provider:
        async with await transport.send(
            provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
        ) as response:
            await response.read()
        for total in (0, -1):
            with pytest.raises(TransportError) as raised:
                await transport.send(provider.call(), timeouts=PATIENT(total=total), max_response_bytes=LIMIT)
            assert raised.value.kind is TransportErrorKind.TOTAL_TIMEOUT
            assert not raised.value.sent
        assert len(provider.requests) == 1


async def test_timer_of_a_call_does_not_outlive_it(transport: Transport) -> None:
    """A short limit of one call must not strike the next one on the same connection."""
    slow = False

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            if slow:
                await asyncio.sleep(SHORT * 3)
            await peer.send(OK)

    async with providing(script) as provider:
        for slow in (False, True):
            timeouts = PATIENT(first_byte=SHORT, total=SHORT) if not slow else PATIENT()
            async with await transport.send(
                provider.call(), timeouts=timeouts, max_response_bytes=LIMIT
            ) as response:
                assert await response.read() == b"ok"
        assert provider.connections == 1
