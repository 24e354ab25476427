"""Writing settled calls into the store so that one that it cannot hold holds up no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway_server.errors import GatewayError
from gateway_server.storage.budgets import Alert, WindowKey
from gateway_server.storage.settlement import Thresholds
from gateway_server.storage.usage_records import CallRows

#: What one transaction writes at most. More would hold the lock longer and gain little.
BATCH = 500

#: A settled call and the position behind it in its journal.
Placed = tuple[int, CallRows]


class SettlementStore(Protocol):
    """Where settled calls end up: see ``storage.settlement.Settlements``."""

    async def settle(
        self, gateway_id: str, position: int, calls: Sequence[CallRows], *, thresholds: Thresholds
    ) -> list[Alert]:
        """Writes all of them, once."""
        ...


@dataclass(slots=True)
class Outcome:
    """What came of a batch: alerts that it raised, and calls that the store cannot hold, with why."""

    alerts: list[Alert] = field(default_factory=list)
    rejected: list[tuple[CallRows, str]] = field(default_factory=list)


async def settle_batch(
    store: SettlementStore, gateway_id: str, batch: Sequence[Placed], *, thresholds: Thresholds
) -> Outcome:
    """Settles calls of one journal, in order. Raises STORE_UNAVAILABLE; the batch may come again then."""
    outcome = Outcome()
    await _settle(store, gateway_id, batch, thresholds, outcome)
    return outcome


def total_charges(calls: Sequence[CallRows]) -> Mapping[WindowKey, int]:
    """What calls cost together, by window."""
    charges: dict[WindowKey, int] = {}
    for call in calls:
        for window, nanos in call.charges.items():
            charges[window] = charges.get(window, 0) + nanos
    return charges


async def _settle(
    store: SettlementStore,
    gateway_id: str,
    batch: Sequence[Placed],
    thresholds: Thresholds,
    outcome: Outcome,
) -> None:
    position = batch[-1][0]
    try:
        outcome.alerts += await store.settle(
            gateway_id, position, [call for _, call in batch], thresholds=thresholds
        )
    except GatewayError:
        raise
    except Exception as error:  # noqa: BLE001 -- one bad record must not hold up all others for ever
        if len(batch) == 1:
            outcome.rejected.append((batch[0][1], type(error).__name__))
            return
        middle = len(batch) // 2
        await _settle(store, gateway_id, batch[:middle], thresholds, outcome)
        await _settle(store, gateway_id, batch[middle:], thresholds, outcome)
