import asyncio
import socket
import threading
from collections.abc import Callable

import pytest

from gateway_server.providers.transport import (
    OriginStats,
    PoolLimits,
    Timeouts,
    Transport,
    TransportError,
    TransportErrorKind,
)
from gateway_server.providers.transport.http1 import Connection
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import OK, Peer, Provider, answering, keep_answering, providing

LIMIT = 1 << 20
PATIENCE = PATIENT()


async def ask(transport: Transport, provider: Provider, timeouts: Timeouts = PATIENCE) -> bytes:
    async with await transport.send(provider.call(), timeouts=timeouts, max_response_bytes=LIMIT) as response:
        return await response.read()


async def test_connection_serves_one_call_after_the_other(transport: Transport) -> None:
    async with providing(keep_answering) as provider:
        for _ in range(10):
            assert await ask(transport, provider) == b"ok"
        assert (provider.connections, len(provider.requests)) == (1, 10)
        origin = f"http://127.0.0.1:{provider.port}"
        assert transport.stats() == [OriginStats(origin=origin, open=1, idle=1, waiting=0)]


async def test_connection_is_free_before_its_response_is_read(transport: Transport) -> None:
    async with providing(keep_answering) as provider:
        responses = [
            await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT)
            for _ in range(3)
        ]
        assert [await response.read() for response in responses] == [b"ok"] * 3
        assert provider.connections == 1


@pytest.mark.parametrize(
    "answer", [OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"), OK.replace(b"1.1", b"1.0")]
)
async def test_connection_that_the_provider_will_close_is_not_kept(
    transport: Transport, answer: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with providing(script) as provider:
        for _ in range(3):
            assert await ask(transport, provider) == b"ok"
            assert transport.stats()[0].open == 0
        assert provider.connections == 3


async def test_connection_closed_while_idle_is_replaced_unnoticed(transport: Transport) -> None:
    async with providing(answering(OK)) as provider:
        for _ in range(3):
            assert await ask(transport, provider) == b"ok"
            await provider.all_gone.wait()
        assert (provider.connections, len(provider.requests)) == (3, 3)


async def test_close_that_the_loop_has_not_seen_yet_is_noticed_before_sending(transport: Transport) -> None:
    """The provider runs in a thread and closes while the event loop is held up: it cannot know of it."""
    closed = threading.Event()
    served: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            with listener.accept()[0] as peer:
                served.append(peer.recv(65536))
                peer.sendall(OK)
                may_close.wait()
            closed.set()

    may_close = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        provider = Provider("http", listener.getsockname()[1])
        assert await ask(transport, provider) == b"ok"
        assert transport.stats()[0].idle == 1
        may_close.set()
        assert closed.wait(5)  # holds the loop up on purpose
        assert await ask(transport, provider) == b"ok"
        thread.join()
    assert len(served) == 2


async def test_connection_closed_after_the_request_was_sent_is_reported(transport: Transport) -> None:
    """The provider may have worked on it: only the caller can know whether it may be sent again."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async with providing(script) as provider:
        assert await ask(transport, provider) == b"ok"
        with pytest.raises(TransportError) as raised:
            await ask(transport, provider)
        error = raised.value
        assert (error.kind, error.sent, error.received) == (TransportErrorKind.RESET, True, False)
        assert (provider.connections, len(provider.requests)) == (1, 2)


async def test_unused_connection_is_closed_in_time(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(idle_seconds=0.1))
    async with providing(keep_answering) as provider:
        assert await ask(transport, provider) == b"ok"
        assert transport.stats()[0].idle == 1
        await asyncio.wait_for(provider.all_gone.wait(), 5)
        assert transport.stats()[0].open == 0


async def test_provider_says_how_long_it_keeps_a_connection(transport: Transport) -> None:
    answer = OK.replace(b"OK\r\n", b"OK\r\nKeep-Alive: timeout=1, max=100\r\n")
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()
        gone.set()

    async with providing(script) as provider:
        assert await ask(transport, provider) == b"ok"
        await asyncio.wait_for(gone.wait(), 5)  # a second before the provider would: at once


async def test_no_more_connections_than_allowed_and_first_come_first_served(
    new_transport: Callable[..., Transport],
) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=2))
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        most = max(most, peer.provider.open)
        while True:
            await peer.request()
            await asyncio.sleep(0.005)
            await peer.send(OK)

    async with providing(script) as provider:
        order = []

        async def call(number: int) -> None:
            order.append((number, await ask(transport, provider)))

        await asyncio.gather(*(call(number) for number in range(10)))
        numbers = [number for number, body in order if body == b"ok"]
        assert sorted(numbers) == list(range(10))
        assert all(abs(place - number) <= 1 for place, number in enumerate(numbers))
        assert (most, provider.connections) == (2, 2)


async def test_place_in_line_is_kept_when_a_connection_dies(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            if len(peer.provider.requests) % 2:
                peer.reset()
                return
            await peer.send(OK)

    async with providing(script) as provider:
        results = await asyncio.gather(*(ask(transport, provider) for _ in range(6)), return_exceptions=True)
        assert [getattr(result, "kind", result) for result in results] == [
            TransportErrorKind.RESET,
            b"ok",
        ] * 3


async def test_wait_for_a_connection_has_its_time(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with providing(script) as provider:
        busy = asyncio.create_task(ask(transport, provider))
        await provider.on_request.wait()
        for timeouts, kind in (
            (PATIENT(pool=0.05), TransportErrorKind.POOL_TIMEOUT),
            (PATIENT(total=0.05), TransportErrorKind.TOTAL_TIMEOUT),
        ):
            with pytest.raises(TransportError) as raised:
                await ask(transport, provider, timeouts)
            assert (raised.value.kind, raised.value.sent) == (kind, False)
            assert transport.stats()[0].waiting == 0
        busy.cancel()
        await asyncio.wait([busy])


async def test_refused_connection_takes_no_slot(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        provider = Provider("http", unused.getsockname()[1])
        for _ in range(3):
            with pytest.raises(TransportError) as raised:
                await ask(transport, provider)
            error = raised.value
            assert (error.kind, error.sent) == (TransportErrorKind.CONNECT_REFUSED, False)
            assert str(error) == f"cannot connect to http://127.0.0.1:{provider.port}"
        assert transport.stats()[0].open == 0


@pytest.mark.parametrize("host", ["127.0.0.1%nosuch", "a..b"])
async def test_unknown_host_is_told(transport: Transport, host: str) -> None:
    call = Provider("http", 1).call(host=host)
    with pytest.raises(TransportError) as raised:
        await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT)
    assert (raised.value.kind, raised.value.sent) == (TransportErrorKind.DNS, False)


async def test_origins_do_not_share_connections(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))
    async with providing(keep_answering) as one, providing(keep_answering) as other:
        assert [await ask(transport, one), await ask(transport, other)] == [b"ok", b"ok"]
        assert (one.connections, other.connections) == (1, 1)
        assert len(transport.stats()) == 2


async def test_closing_the_transport_ends_what_is_under_way(new_transport: Callable[..., Transport]) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with providing(script) as provider:
        busy = asyncio.create_task(ask(transport, provider))
        waiting = asyncio.create_task(ask(transport, provider))
        await provider.on_request.wait()
        await transport.aclose()
        results = await asyncio.gather(busy, waiting, return_exceptions=True)
        assert [getattr(result, "kind", None) for result in results] == [TransportErrorKind.CLOSED] * 2
        assert [getattr(result, "sent", None) for result in results] == [True, False]
        await asyncio.wait_for(provider.all_gone.wait(), 5)
        with pytest.raises(TransportError) as raised:
            await ask(transport, provider)
        assert raised.value.kind is TransportErrorKind.CLOSED


async def test_place_in_line_is_kept_when_the_connection_dies_while_it_is_handed_over(
    new_transport: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = new_transport(limits=PoolLimits(max_connections=1))
    order: list[int] = []

    async def call(number: int) -> None:
        assert await ask(transport, provider) == b"ok"
        order.append(number)

    async with providing(keep_answering) as provider:
        tasks = [asyncio.create_task(call(number)) for number in range(4)]
        while not transport.stats() or transport.stats()[0].waiting < 3:
            await asyncio.sleep(0)
        pool = next(iter(transport._pools.values()))
        hand_over = pool._hand_over

        def hand_over_and_close(connection: Connection | None) -> bool:
            monkeypatch.undo()
            is_taken = hand_over(connection)
            assert connection is not None
            connection.close()  # its slot goes to number 2, and number 1 finds it closed
            return is_taken

        monkeypatch.setattr(pool, "_hand_over", hand_over_and_close)
        await asyncio.gather(*tasks)
    assert order == [0, 2, 1, 3]
