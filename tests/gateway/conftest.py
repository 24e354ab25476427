"""A gateway and a provider that all quiet tests share; tests that stop or starve one start their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import Upstream, running_upstream


@pytest.fixture(scope="package")
async def shared_upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Iterator[Upstream]:
    shared_upstream.reset()
    yield shared_upstream
    errors = shared_upstream.errors.copy()
    shared_upstream.errors.clear()
    assert errors == []


@pytest.fixture(scope="package")
async def gateway(
    shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Patience is short, so that what waits for it ends soon."""
    async with running_gateway(
        tmp_path_factory.mktemp("shared") / "state",
        vllm_base_url=shared_upstream.base_url,
        upstream_first_byte_seconds=0.5,
        upstream_idle_seconds=0.5,
        upstream_max_response_bytes=24 * 2**20,
        stream_stall_seconds=1,
        max_request_bytes=2 * 2**20,
    ) as gateway:
        yield gateway
    assert shared_upstream.open == 0, "the gateway left connections open"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """The folder of a gateway of the test's own."""
    return tmp_path / "state"
