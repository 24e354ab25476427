"""The rules that tests/conftest.py puts on every test really bite."""

import asyncio
import socket
from pathlib import Path

import pytest
from blockbuster import BlockingError

import gateway_server
from tests.support import loopback


@pytest.mark.parametrize("address", [("192.0.2.1", 9), ("", 0), ("::", 0), ("fe80::1%1", 9)])
def test_a_socket_outside_this_machine_is_refused_and_remembered(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as sock, pytest.raises(loopback.ForeignAddressError):
        sock.bind(address)
    assert len(loopback.take_refused()) == 1


async def test_a_name_outside_this_machine_is_not_looked_up() -> None:
    with pytest.raises(loopback.ForeignAddressError):
        await asyncio.open_connection("gateway.invalid", 443)
    assert loopback.take_refused() == ["socket.getaddrinfo 'gateway.invalid'"]


async def test_loopback_is_allowed() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        await writer.wait_closed()
    assert loopback.take_refused() == []


async def test_a_call_of_the_project_that_blocks_the_event_loop_fails() -> None:
    inside = str(Path(gateway_server.__path__[0]) / "some_module.py")
    with pytest.raises(BlockingError):
        exec(compile("import time; time.sleep(0.001)", inside, "exec"))  # as if the server's code slept
