"""Writing settled calls into the store so that one that it cannot hold holds up no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway_server.errors import GatewayError
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.settlement import Thresholds
from gateway_server.storage.spendings import Alert
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
    """What came of a batch: the alerts that it raised, and calls that the store did not take, with why.

    Those that are ``shortened`` were written without their free text; ``rejected`` ones are not written.
    """

    alerts: list[Alert] = field(default_factory=list)
    shortened: list[tuple[CallRows, str]] = field(default_factory=list)
    rejected: list[tuple[CallRows, str]] = field(default_factory=list)


async def settle_batch(
    store: SettlementStore, gateway_id: str, batch: Sequence[Placed], *, thresholds: Thresholds
) -> Outcome:
    """Settles calls of one journal, in order. Raises STORE_UNAVAILABLE; the batch may come again then."""
    settling = _Settling(store, gateway_id, thresholds)
    await settling.settle(batch)
    return settling.outcome


def total_charges(calls: Sequence[CallRows]) -> Mapping[WindowKey, int]:
    """What calls cost together, by window."""
    charges: dict[WindowKey, int] = {}
    for call in calls:
        for window, nanos in call.charges.items():
            charges[window] = charges.get(window, 0) + nanos
    return charges


@dataclass(frozen=True, slots=True)
class _Settling:
    """One batch on its way into the store."""

    store: SettlementStore
    gateway_id: str
    thresholds: Thresholds
    outcome: Outcome = field(default_factory=Outcome)

    async def settle(self, batch: Sequence[Placed]) -> None:
        """Writes all that the store takes."""
        try:
            await self._write(batch)
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001 -- one bad record must not hold up all others for ever
            if len(batch) == 1:
                await self._shorten(*batch[0], why=type(error).__name__)
                return
            middle = len(batch) // 2
            await self.settle(batch[:middle])
            await self.settle(batch[middle:])

    async def _shorten(self, position: int, call: CallRows, *, why: str) -> None:
        """Writes a call that was not taken as it is without its free text, so that its cost is not lost."""
        try:
            await self._write([(position, call.without_free_text())])
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001 -- as above
            self.outcome.rejected.append((call, type(error).__name__))
        else:
            self.outcome.shortened.append((call, why))

    async def _write(self, batch: Sequence[Placed]) -> None:
        self.outcome.alerts += await self.store.settle(
            self.gateway_id, batch[-1][0], [call for _, call in batch], thresholds=self.thresholds
        )
