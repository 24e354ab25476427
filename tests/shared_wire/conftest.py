"""This suite reads recorded traffic beside the repository; without it nothing here is collected."""

from collections.abc import AsyncIterator

import pytest

from gateway_server.providers.transport import Transport
from tests.support.replay_upstream import ReplayUpstream, replay_upstream
from tests.support.shared import find_shared_dir
from tests.support.transports import without_authorities

# The summary of the run says so aloud: see tests/conftest.py.
collect_ignore_glob = [] if find_shared_dir() else ["test_*.py"]


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[ReplayUpstream]:
    """A provider that answers what a test prepares."""
    async with replay_upstream() as running:
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """The gateway's way to providers."""
    with without_authorities():
        carrier = Transport()
    yield carrier
    await carrier.aclose()
