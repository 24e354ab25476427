"""Settles what processes of this folder left behind when they were killed."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.usage.entries import unsettled
from gateway_server.usage.journal import DeadJournal, JournalError, dead_journals
from gateway_server.usage.settling import BATCH, settle_batch

_LOG: Final = logging.getLogger(__name__)


class Recovery:
    """Looks after the journals below one folder whose processes are gone. Not to be run twice at once."""

    def __init__(
        self, root: Path, *, store_id: str, gateways: GatewayRepository, settlements: Settlements
    ) -> None:
        self._root = root
        self._store_id = store_id
        self._gateways = gateways
        self._settlements = settlements
        #: What cannot be settled here; each is told once.
        self._left_alone: set[str] = set()

    async def run(self) -> int:
        """Settles what there is; how many calls that were.

        Raises STORE_UNAVAILABLE; what was done until then is not done again.
        """
        count = 0
        journals = dead_journals(self._root, but=self._left_alone)
        while (journal := await asyncio.to_thread(next, journals, None)) is not None:
            done = False
            try:
                count += await self._settle(journal)
                done = True
            except JournalError as error:
                _LOG.error("%s is left alone: %s", journal.folder, error)
                self._left_alone.add(journal.gateway_id)
            finally:
                await asyncio.to_thread(journal.close, delete=done)
        return count

    async def _settle(self, journal: DeadJournal) -> int:
        """Raises JournalError when it is not to be touched."""
        store_id = await asyncio.to_thread(journal.read_store_id)
        if store_id is None:
            return 0  # whoever settled it died while deleting it
        if store_id != self._store_id:
            raise JournalError("it belongs to another database")
        settled = await self._gateways.journal_position(journal.gateway_id)
        if settled is None:
            return 0  # it had ended all it did, or somebody did for it
        try:
            calls = await asyncio.to_thread(lambda: unsettled(journal.entries(), settled))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(f"it cannot be understood: {error}") from None
        for start in range(0, len(calls), BATCH):
            batch = calls[start : start + BATCH]
            outcome = await settle_batch(self._settlements, journal.gateway_id, batch, thresholds={})
            for call, kind in outcome.shortened:
                _LOG.error(
                    "the database took the call %s only without its texts (%s)",
                    call.record["request_id"],
                    kind,
                )
            for call, kind in outcome.rejected:
                _LOG.error("the database cannot hold the call %s (%s)", call.record["request_id"], kind)
        await self._settlements.finish(journal.gateway_id)
        _LOG.warning("settled %d calls of a process that was killed: %s", len(calls), journal.gateway_id)
        return len(calls)
