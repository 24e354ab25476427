"""Tasks that run until their owner ends them."""

import asyncio
from typing import Any, Final

_ASK_AGAIN_SECONDS: Final = 1.0


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancels a task and waits until it is over; does not fail.

    It asks again until then: a cancel that comes as ``asyncio.wait_for`` is done is lost on Python 3.11
    (https://github.com/python/cpython/issues/86296), and libraries call that.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_ASK_AGAIN_SECONDS)
