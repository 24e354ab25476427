"""Ledgers and rows of ledgers for tests, written the way a process writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway_server.ids import new_id
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements, Thresholds
from gateway_server.storage.spendings import Alert
from gateway_server.storage.usage_records import CallRecord, rows_of
from gateway_server.usage.journal import Journal
from gateway_server.usage.ledger import Ledger
from gateway_server.usage.settling import SettlementStore


class NoBudgets:
    """Nobody's budgets."""

    def settling(self, windows: Iterable[WindowKey]) -> Thresholds:
        return {}

    def settled(self, charges: Mapping[WindowKey, int], alerts: Sequence[Alert] = ()) -> None:
        assert not alerts


async def new_ledger(
    store: Store, folder: Path, *, settlements: SettlementStore | None = None, **options: Any
) -> Ledger:
    """A ledger of a process of its own, not started yet; its journal is below ``folder``."""
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    journal = await asyncio.to_thread(Journal.open, folder / "journal", gateway_id, store_id="tests")
    return Ledger(
        settlements or Settlements(store), journal, gateway_id, **{"budgets": NoBudgets(), **options}
    )


async def add_calls(store: Store, records: Sequence[CallRecord]) -> None:
    """Writes rows of calls, as a process that did nothing else."""
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    await Settlements(store).settle(gateway_id, 1, [rows_of(record) for record in records], thresholds={})
