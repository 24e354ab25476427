import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway_server.providers.transport import (
    HttpResponse,
    PoolLimits,
    Transport,
    TransportError,
    TransportErrorKind,
)
from gateway_server.providers.transport.http1 import Connection
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import OK, Peer, Provider, keep_answering, providing
from tests.unit.transport.test_timeouts import unreachable

LIMIT = 1 << 20
#: How long the provider may take to see the close. It takes about a millisecond; machines may be busy.
AT_ONCE = 0.5


class Silent:
    """A script that answers with some bytes and then waits for the gateway to leave."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.gone_at = asyncio.get_running_loop().create_future()
        self.answered = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(self.answer)
        self.answered.set()
        self.gone_at.set_result(await peer.gone())


async def send(transport: Transport, provider: Provider) -> HttpResponse:
    return await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT)


async def cancel(task: asyncio.Task[object]) -> float:
    """Cancels a task; gives the time at which that was done."""
    task.cancel()
    at = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    return at


async def test_cancel_while_waiting_for_headers_closes_the_connection(transport: Transport) -> None:
    script = Silent(b"HTTP/1.1 200 OK\r\n")
    async with providing(script) as provider:
        task = asyncio.create_task(send(transport, provider))
        await script.answered.wait()
        cancelled_at = await cancel(task)
        assert transport.stats()[0].open == 0
        assert await script.gone_at - cancelled_at < AT_ONCE


@pytest.mark.parametrize("read_whole", [True, False])
async def test_cancel_while_reading_closes_the_connection(transport: Transport, read_whole: bool) -> None:
    script = Silent(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfour")
    reading = asyncio.Event()

    async def read() -> None:
        response = await send(transport, provider)  # not closed by its reader: the cancel alone must do
        if read_whole:
            reading.set()
            await response.read()
        async for _ in response.chunks():
            reading.set()

    async with providing(script) as provider:
        task = asyncio.create_task(read())
        await reading.wait()
        await asyncio.sleep(0)
        cancelled_at = await cancel(task)
        assert transport.stats()[0].open == 0
        assert await script.gone_at - cancelled_at < AT_ONCE


async def test_closing_a_response_before_its_end_closes_the_connection(transport: Transport) -> None:
    script = Silent(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfour")
    async with providing(script) as provider:
        response = await send(transport, provider)
        await response.aclose()
        closed_at = time.monotonic()
        assert transport.stats()[0].open == 0
        assert await script.gone_at - closed_at < AT_ONCE
        with pytest.raises(TransportError) as raised:
            await response.read()
        assert raised.value.kind is TransportErrorKind.CLOSED


async def test_closing_a_response_that_is_complete_keeps_the_connection(transport: Transport) -> None:
    async with providing(keep_answering) as provider:
        for _ in range(3):
            await (await send(transport, provider)).aclose()
        assert provider.connections == 1


async def test_cancel_with_a_full_buffer_closes_the_connection(transport: Transport) -> None:
    """A paused socket is not read, and must be closed all the same."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                await peer.send(b"x" * 65536)
        except ConnectionError:
            gone.set()

    async with providing(script) as provider:
        response = await send(transport, provider)
        while not response._source._connection._is_paused:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        await response.aclose()
        await asyncio.wait_for(gone.wait(), AT_ONCE)


async def test_cancel_while_connecting_leaves_nothing_behind(transport: Transport) -> None:
    with unreachable() as call:
        task = asyncio.create_task(transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT))
        while not transport.stats() or not transport.stats()[0].open:
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        await cancel(task)
        assert transport.stats()[0].open == 0


async def test_cancel_within_the_tls_handshake_closes_the_connection(transport: Transport) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        call = Provider("https", listener.getsockname()[1]).call()
        task = asyncio.create_task(transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT))
        peer, _ = await loop.sock_accept(listener)
        with peer:
            assert await loop.sock_recv(peer, 65536)  # the client's hello; nothing answers it
            cancelled_at = await cancel(task)
            assert transport.stats()[0].open == 0
            with suppress(ConnectionResetError):
                assert await loop.sock_recv(peer, 65536) == b""
            assert time.monotonic() - cancelled_at < AT_ONCE


async def test_cancel_while_waiting_in_line_gives_up_the_place(
    new_transport: Callable[..., Transport],
) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go_on.wait()
            await peer.send(OK)

    async with providing(script) as provider:
        tasks = [asyncio.create_task(send(transport, provider)) for _ in range(3)]
        await provider.on_request.wait()
        assert transport.stats()[0].waiting == 2
        await cancel(tasks[1])
        assert transport.stats()[0].waiting == 1
        go_on.set()
        for task in (tasks[0], tasks[2]):
            async with await task as response:
                assert await response.read() == b"ok"
        assert (provider.connections, len(provider.requests)) == (1, 2)


@pytest.mark.parametrize("is_connection", [True, False])
async def test_cancel_of_one_who_was_just_handed_a_connection_passes_it_on(
    new_transport: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch, is_connection: bool
) -> None:
    """The connection, or its slot when it was closed, is handed over before the task that gets it runs."""
    transport = new_transport(limits=PoolLimits(max_connections=1))
    answer = OK if is_connection else OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go_on.wait()
            await peer.send(answer)

    async with providing(script) as provider:
        first, second, third = (asyncio.create_task(send(transport, provider)) for _ in range(3))
        await provider.on_request.wait()
        pool = next(iter(transport._pools.values()))
        hand_over = pool._hand_over

        def hand_over_and_cancel(connection: Connection | None) -> bool:
            monkeypatch.undo()
            is_taken = hand_over(connection)
            second.cancel()
            return is_taken

        monkeypatch.setattr(pool, "_hand_over", hand_over_and_cancel)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await second
        for task in (first, third):
            async with await task as response:
                assert await response.read() == b"ok"
        assert len(provider.requests) == 2


async def test_many_cancels_at_random_times_leak_nothing(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=8))

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for piece in (b"HTTP/1.1 200 OK\r\n", b"content-length: 4\r\n\r\n", b"fo", b"ur"):
                await peer.send(piece)
                await asyncio.sleep(0.001)

    async def call() -> bytes:
        async with await send(transport, provider) as response:
            return await response.read()

    async with providing(script) as provider:
        tasks = [asyncio.create_task(call()) for _ in range(200)]
        for number, task in enumerate(tasks):
            if number % 3:
                asyncio.get_running_loop().call_later(number % 17 / 1000, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results if result != b"four"} == {asyncio.CancelledError}
        assert results.count(b"four") >= 67
        stats = transport.stats()[0]
        assert (stats.open, stats.waiting) == (stats.idle, 0)
        await transport.aclose()
        await asyncio.wait_for(provider.all_gone.wait(), 5)
        assert provider.open == 0


async def test_cancel_while_the_request_is_being_sent_sends_no_more(transport: Transport) -> None:
    size = 64 * 2**20
    received = asyncio.get_running_loop().create_future()
    cancelled = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.provider.on_request.set()
        await cancelled.wait()
        total = 0
        with suppress(ConnectionError):
            while data := await peer.reader.read(1 << 20):
                total += len(data)
        received.set_result(total)

    async with providing(script) as provider:
        call = provider.call(body=b"x" * size)
        task = asyncio.create_task(transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT))
        await provider.on_request.wait()
        await cancel(task)
        cancelled.set()
        assert await received < size / 2
