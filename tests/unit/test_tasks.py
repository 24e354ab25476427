"""Ends of tasks, with libraries below that swallow a cancel."""

from __future__ import annotations

import asyncio

from gateway_server.tasks import end_task


async def test_a_task_that_swallows_a_cancel_is_ended_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end_task(task)
    assert task.cancelled()
    assert swallowed == 2


async def test_a_task_that_is_over_or_fails_while_it_ends_raises_nothing() -> None:
    async def failing() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end_task(task)
    assert isinstance(task.exception(), OSError)
    await end_task(task)
