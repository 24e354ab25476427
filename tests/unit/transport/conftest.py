"""Every test of the transport runs on asyncio's loop and on uvloop."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import httpx
import pytest

from gateway_server.providers.transport import ProxySettings, Timeouts, Transport

NO_PROXIES = ProxySettings({})
#: Long enough never to be reached; tests shorten the one that they are about.
PATIENT = partial(Timeouts, connect=20, first_byte=20, idle=20, total=20, pool=20)


@pytest.fixture(scope="session", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


def _create_ssl_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The default of a whole context from Python 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.fixture
async def new_transport(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Transport]]:
    """Makes transports that see no proxy; they are closed in the end, and must then hold no slot.

    They verify as any other, but know no public authority: reading those takes 40 ms for each test.
    """
    monkeypatch.setattr(httpx, "create_ssl_context", _create_ssl_context)
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Transport:
            transport = Transport(**{"proxies": NO_PROXIES, **options})
            stack.push_async_callback(_close, transport)
            return transport

        yield make


async def _close(transport: Transport) -> None:
    await transport.aclose()
    assert [(stats.open, stats.idle, stats.waiting) for stats in transport.stats() if stats.open] == []


@pytest.fixture
async def transport(new_transport: Callable[..., Transport]) -> Transport:
    return new_transport()
