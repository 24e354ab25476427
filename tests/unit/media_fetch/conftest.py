from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.media_host import Internet, MediaHost, running_internet


@pytest.fixture(scope="package")
async def shared_internet(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[MediaHost, Internet]]:
    async with running_internet(tmp_path_factory.mktemp("media")) as both:
        yield both


@pytest.fixture
def host(shared_internet: tuple[MediaHost, Internet]) -> MediaHost:
    shared_internet[0].reset()
    return shared_internet[0]


@pytest.fixture
def internet(shared_internet: tuple[MediaHost, Internet]) -> Internet:
    shared_internet[1].reset()
    return shared_internet[1]
