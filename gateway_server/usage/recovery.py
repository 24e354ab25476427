"""Settles what processes of this folder left behind when they were killed."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.usage.entries import unsettled
from gateway_server.usage.journal import DeadJournal, dead_journals
from gateway_server.usage.settling import BATCH, settle_batch

_LOG: Final = logging.getLogger(__name__)


async def recover_journals(
    root: Path, *, store_id: str, gateways: GatewayRepository, settlements: Settlements
) -> int:
    """Settles the journals below ``root`` whose processes are gone; how many calls that were.

    Raises STORE_UNAVAILABLE; what was done until then is not done again.
    """
    count = 0
    for journal in await asyncio.to_thread(lambda: list(dead_journals(root))):
        done = False
        try:
            if journal.store_id == store_id:
                count += await _recover(journal, gateways, settlements)
                done = True
            else:
                _LOG.warning("%s belongs to another database and is left alone", journal.folder)
        finally:
            await asyncio.to_thread(journal.close, delete=done)
    return count


async def _recover(journal: DeadJournal, gateways: GatewayRepository, settlements: Settlements) -> int:
    settled = await gateways.journal_position(journal.gateway_id)
    if settled is None:
        return 0  # it had ended all it did, or somebody did for it
    calls = await asyncio.to_thread(lambda: unsettled(journal.entries(), settled))
    for start in range(0, len(calls), BATCH):
        batch = calls[start : start + BATCH]
        outcome = await settle_batch(settlements, journal.gateway_id, batch, thresholds={})
        for call, kind in outcome.rejected:
            _LOG.error("the database cannot hold the call %s (%s)", call.record["request_id"], kind)
    await settlements.finish(journal.gateway_id)
    _LOG.warning("settled %d calls of a process that was killed: %s", len(calls), journal.gateway_id)
    return len(calls)
