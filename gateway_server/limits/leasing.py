"""The transactions of one process on its leases: one at a time, each for all who asked meanwhile."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway_server.clock import Clock
from gateway_server.limits.leased_window import LeasedWindow, Pending, free_of_all, want_windows
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, WindowState

#: For how many windows one transaction leases, since all wait for the last; or for a share of those that are
#: waited for, where they are many.
_WINDOWS_TOGETHER: Final = 16
_SHARE_TOGETHER: Final = 4

States = Mapping[WindowKey, WindowState]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """So much is to be free in all of some windows of one tenant. The answer is how they stand, empty if it
    was free already.
    """

    windows: Sequence[LeasedWindow]
    need: int
    answer: asyncio.Future[States]

    @property
    def is_met(self) -> bool:
        return free_of_all(self.windows) >= self.need


class Leasing:
    """Leases for whoever asks, and gives back. Safe on one event loop."""

    def __init__(
        self, repository: BudgetRepository, gateway_id: str, *, clock: Clock, pending: Pending
    ) -> None:
        self._repository = repository
        self._pending = pending
        self._gateway_id = gateway_id
        self._clock = clock
        self._turn = asyncio.Lock()
        self._asked: list[_Asked] = []
        self._leaser: asyncio.Task[None] | None = None

    async def lease(self, windows: Sequence[LeasedWindow], need: int) -> States:
        """Leases what is missing for ``need`` on all windows, or on none; how the windows stand.

        Empty if there was enough without it. Raises STORE_UNAVAILABLE.
        """
        asked = _Asked(windows, need, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        want_windows(windows, 1)
        asked.answer.add_done_callback(lambda answer: _end_asked(asked, answer))
        if self._leaser is None or self._leaser.done():
            self._leaser = asyncio.create_task(self._lease_asked(), name="budget leases")
        return await asyncio.shield(asked.answer)  # a caller that leaves must not lose what was granted

    async def give_back(self, find_strays: Callable[[], Iterable[WindowKey]]) -> None:
        """Gives back what the store has beyond what windows still count on, and all of strays.

        Those are found when nothing is on its way. Raises STORE_UNAVAILABLE.
        """
        async with self._turn:
            writings = [window.writing() for window in self._pending.unheard]
            kept = {writing.window.key: writing.leased for writing in writings}
            kept |= dict.fromkeys(find_strays(), 0)
            if kept:
                await self._repository.keep(self._gateway_id, kept)
            for writing in writings:
                writing.end()

    async def close(self) -> None:
        """Waits for what is under way."""
        if self._leaser is not None:
            await asyncio.wait([self._leaser])

    async def _lease_asked(self) -> None:
        while self._asked:
            async with self._turn:
                together = self._take_asked()
                try:
                    await self._lease_together(together)
                except Exception as error:  # noqa: BLE001 -- whoever waits must hear of whatever it is
                    for each in together:
                        if not each.answer.done():
                            each.answer.set_exception(error)

    def _take_asked(self) -> list[_Asked]:
        """Those whose turn it is."""
        most = max(_WINDOWS_TOGETHER, len(_windows_of(self._asked)) // _SHARE_TOGETHER)
        taken: list[_Asked] = []
        windows: set[LeasedWindow] = set()
        for asked in self._asked:
            windows.update(asked.windows)
            if taken and len(windows) > most:
                break
            taken.append(asked)
        del self._asked[: len(taken)]
        return taken

    async def _lease_together(self, together: Sequence[_Asked]) -> None:
        for asked in together:
            if asked.is_met:
                asked.answer.set_result({})
        unmet = [asked for asked in together if not asked.answer.done()]
        if not unmet:
            return
        needed = dict.fromkeys(_windows_of(unmet), 0)
        for asked in unmet:
            for window in asked.windows:
                needed[window] += asked.need
        leases = [window.lease(nanos) for window, nanos in needed.items()]
        states = await self._repository.extend(
            self._gateway_id,
            [lease.want for lease in leases],
            [LeaseNeed([window.key for window in asked.windows], asked.need) for asked in unmet],
        )
        now = self._clock.monotonic()
        for lease in leases:
            lease.end(states[lease.window.key], now)
        for asked in unmet:
            asked.answer.set_result(states)


def _windows_of(asked: Iterable[_Asked]) -> set[LeasedWindow]:
    return {window for each in asked for window in each.windows}


def _end_asked(asked: _Asked, answer: asyncio.Future[States]) -> None:
    want_windows(asked.windows, -1)
    if not answer.cancelled():
        answer.exception()  # whoever waits has it; nobody may
