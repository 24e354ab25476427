"""Every test of the transport runs on asyncio's loop and on uvloop."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from gateway_server.providers.transport import ProxySettings, Timeouts, Transport
from tests.support.transports import without_authorities

NO_PROXIES = ProxySettings({})
#: Long enough never to be reached; tests shorten the one that they are about.
PATIENT = partial(Timeouts, connect=20, first_byte=20, idle=20, total=20, pool=20)


@pytest.fixture(scope="session", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def new_transport() -> AsyncIterator[Callable[..., Transport]]:
    """Makes transports that see no proxy; they are closed in the end, and must then hold no slot."""
    with without_authorities():
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
