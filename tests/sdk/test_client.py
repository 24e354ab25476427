"""Every scenario, on the asynchronous client and on the one that blocks."""

import asyncio
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.sdk._async import scenarios as async_scenarios
from tests.sdk._sync import scenarios as sync_scenarios
from tests.sdk.fake_gateway import FakeGateway


def _scenarios(module: ModuleType) -> dict[str, Callable[[FakeGateway], Any]]:
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: function for name, function in found if function.__module__ == module.__name__}


ASYNC, SYNC = _scenarios(async_scenarios), _scenarios(sync_scenarios)

#: After these, the gateway must have seen that the caller left.
CANCELLING = {"leaving_a_stream_cancels_the_call", "a_stream_that_makes_no_sense_is_cancelled"}


@pytest.mark.parametrize("name", ASYNC)
async def test_async(name: str, gateway: FakeGateway) -> None:
    await ASYNC[name](gateway)
    await _see_cancel(name, gateway)


@pytest.mark.parametrize("name", SYNC)
async def test_sync(name: str, gateway: FakeGateway) -> None:
    await asyncio.to_thread(SYNC[name], gateway)
    await _see_cancel(name, gateway)


def test_both_clients_run_the_same_scenarios() -> None:
    assert len(ASYNC) > 20
    assert set(ASYNC) == set(SYNC)
    assert set(ASYNC) > CANCELLING


async def _see_cancel(name: str, gateway: FakeGateway) -> None:
    if name in CANCELLING:
        async with asyncio.timeout(20):
            await gateway.cancelled.wait()
