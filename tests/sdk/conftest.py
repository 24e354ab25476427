"""A gateway that behaves, on a free port of loopback."""

from collections.abc import AsyncIterator

import pytest

from tests.sdk.fake_gateway import FakeGateway


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    await fake.start()
    yield fake
    await fake.stop()
