"""Lets old calls go in the background, and makes room for new ones where the store has partitions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.storage.retention import RetentionRepository
from gateway_server.storage.times import day_of_micros, micros_of_seconds
from gateway_server.tasks import end_task

_LOG: Final = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 3600.0
#: Windows of budgets are of no use once they have ended, and calls that began in them have ended too.
_WINDOWS_KEPT_MICROS: Final = 62 * 86_400 * 1_000_000
#: Between two deletions, so that the ledger's writer is never kept waiting for longer than one of them.
_PAUSE_SECONDS: Final = 0.05
#: How often, and how much later each time, partitions are tried again that somebody reads.
_DROP_ATTEMPTS: Final = 10
_DROP_PAUSE_SECONDS: Final = 1.0


class Retention:
    """Keeps calls for so many days, all when 0. Its owner starts and closes it."""

    def __init__(self, repository: RetentionRepository, days: int, *, clock: Clock) -> None:
        self._repository = repository
        self._days = days
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Makes the partitions of today, and begins. Raises STORE_UNAVAILABLE."""
        await self._repository.make_partitions(micros_of_seconds(self._clock.now()))
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Stops; what is left goes next time."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None

    async def tend(self) -> int:
        """Makes partitions and lets go what is too old; how many calls one by one. STORE_UNAVAILABLE.

        Nothing goes that is young by the database's clock: one process may have a wrong one.
        """
        now = micros_of_seconds(self._clock.now())
        await self._repository.make_partitions(now)
        now = min(now, await self._repository.now_micros())
        await _until_none(partial(self._repository.forget_some_windows, now - _WINDOWS_KEPT_MICROS))
        if not self._days:
            return 0
        before_day = day_of_micros(now) - self._days
        await self._repository.note_kept_since(before_day)
        await self._drop_partitions(before_day)
        await _until_none(partial(self._repository.forget_some_hours, before_day))
        return await _until_none(partial(self._repository.forget_some, before_day))

    async def _drop_partitions(self, before_day: int) -> None:
        for attempt in range(_DROP_ATTEMPTS):
            try:
                await self._repository.drop_partitions(before_day)
            except GatewayError:
                if attempt == _DROP_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_DROP_PAUSE_SECONDS)
            else:
                return

    async def _run(self) -> None:
        while True:
            try:
                if forgotten := await self.tend():
                    _LOG.info("%d calls from more than %d days ago were deleted", forgotten, self._days)
            except GatewayError as error:
                _LOG.warning("old calls cannot be deleted yet: %s", error.message)
            except Exception:  # noqa: BLE001 -- without this task, the ledger would grow for ever
                _LOG.exception("deleting old calls failed")
            await asyncio.sleep(_INTERVAL_SECONDS)


async def _until_none(forget_some: Callable[[], Awaitable[int]]) -> int:
    """Deletes a few at a time until none are left; how many they were."""
    forgotten = 0
    while some := await forget_some():
        forgotten += some
        await asyncio.sleep(_PAUSE_SECONDS)
    return forgotten
