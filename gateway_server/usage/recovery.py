"""Settles what processes of this folder left behind when they were killed."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.metrics import Metrics
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.usage.entries import unsettled
from gateway_server.usage.journal import DeadJournal, JournalError, journal_folders
from gateway_server.usage.settling import BATCH, Placed, settle_batch

_LOG: Final = logging.getLogger(__name__)

#: How often a journal is tried again that could not be settled: it may be large.
_RETRY_SECONDS: Final = 60.0
#: How many of the calls that the database refuses a line of the log names; the journal has all.
_MOST_TOLD: Final = 10


class _StoreFailedError(Exception):
    """The database could be read, but not written, for one journal at least."""


class Recovery:
    """Looks after the journals below one folder whose processes are gone. Not to be run twice at once.

    A journal that cannot be settled to its end stops no other. It is kept, and so are the leases of its
    process, which count as held or spent; it is tried again by and by.
    """

    def __init__(
        self,
        root: Path,
        *,
        store_id: str,
        gateways: GatewayRepository,
        settlements: Settlements,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._root = root
        self._store_id = store_id
        self._gateways = gateways
        self._settlements = settlements
        self._clock = clock
        self._metrics = metrics
        #: Folders of journals that could not be settled, each told once, and when each is tried again.
        self._left: dict[Path, float] = {}

    @property
    def left_count(self) -> int:
        """How many journals could not be settled when they were last tried."""
        return len(self._left)

    async def run(self) -> int:
        """Settles what there is; how many calls that were.

        Raises STORE_UNAVAILABLE when the database cannot even be read; what was done until then is not done
        again.
        """
        count = 0
        folders = await asyncio.to_thread(journal_folders, self._root)
        self._left = {folder: at for folder, at in self._left.items() if folder in folders}
        try:
            for folder in folders:
                if self._left.get(folder, 0.0) <= self._clock.monotonic():
                    count += await self._try(folder)
        finally:
            self._metrics.unsettled_journals.set(self.left_count)
        return count

    async def _try(self, folder: Path) -> int:
        """Settles a journal if its process is gone; of what failed, tells once."""
        try:
            journal = await asyncio.to_thread(DeadJournal.take, folder)
            if journal is None:
                self._left.pop(folder, None)
                return 0
            return await self._settle(journal)
        except GatewayError:
            raise
        except _StoreFailedError as error:
            self._leave(folder, str(error), seconds=0.0)
        except (JournalError, OSError) as error:
            self._leave(folder, str(error), seconds=_RETRY_SECONDS)
        except Exception as error:  # noqa: BLE001 -- no journal may keep others, or a gateway, from going on
            self._leave(folder, repr(error), seconds=_RETRY_SECONDS)
        return 0

    async def _settle(self, journal: DeadJournal) -> int:
        settled = False
        try:
            position = await self._position(journal)
            count = 0 if position is None else await self._settle_from(position, journal)
            settled = True
        finally:
            await asyncio.to_thread(journal.close, delete=settled)
        self._left.pop(journal.folder, None)
        return count

    async def _position(self, journal: DeadJournal) -> int | None:
        """Up to where it is settled; None when it is to its end.

        Raises JournalError when it is not to be touched, and STORE_UNAVAILABLE.
        """
        store_id = await asyncio.to_thread(journal.read_store_id)
        if store_id is None:
            return None  # whoever settled it died while deleting it
        if store_id != self._store_id:
            raise JournalError("it belongs to another database")
        # None: it had ended all it did, or somebody did for it.
        return await self._gateways.journal_position(journal.gateway_id)

    async def _settle_from(self, position: int, journal: DeadJournal) -> int:
        """Raises JournalError when something of it is left, _StoreFailedError."""
        refused = await asyncio.to_thread(journal.read_refused)
        found = await asyncio.to_thread(lambda: unsettled(journal.entries(), position, refused=refused))
        try:
            refused_now = await self._write(journal, found.calls, refused)
            if found.fault:
                raise JournalError(found.fault)
            if refused_now:
                told = ", ".join(refused_now[:_MOST_TOLD]) + (", ..." if refused_now[_MOST_TOLD:] else "")
                raise JournalError(f"the database cannot hold the calls {told}")
            await self._settlements.finish(journal.gateway_id)
        except GatewayError as error:
            raise _StoreFailedError(error.message) from error
        _LOG.warning(
            "settled %d calls of a process that was killed: %s", len(found.calls), journal.gateway_id
        )
        return len(found.calls)

    async def _write(
        self, journal: DeadJournal, calls: Sequence[Placed], refused: frozenset[str]
    ) -> list[str]:
        """Writes all that the database takes. Gives the ids of what it does not, which the journal keeps."""
        refused_now: list[str] = []
        for start in range(0, len(calls), BATCH):
            batch = calls[start : start + BATCH]
            outcome = await settle_batch(self._settlements, journal.gateway_id, batch, thresholds={})
            for call, kind in outcome.shortened:
                _LOG.error(
                    "the database took the call %s only without its texts (%s)",
                    call.record["request_id"],
                    kind,
                )
            if outcome.rejected:
                refused_now += [call.record["request_id"] for call, _ in outcome.rejected]
                await asyncio.to_thread(journal.note_refused, refused.union(refused_now))
        return refused_now

    def _leave(self, folder: Path, why: str, *, seconds: float) -> None:
        """Keeps a journal for later, in so many seconds."""
        if folder not in self._left:
            _LOG.error("%s is left alone, and tried again by and by: %s", folder, why)
        self._left[folder] = self._clock.monotonic() + seconds
