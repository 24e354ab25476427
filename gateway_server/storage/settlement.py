"""The transaction that settles calls: the ledger's rows, budgets, rollups, the journal's place.

A call is counted once, however often a commit is tried again, whoever tries it, and whatever else is in the
batch by then: a journal is settled once up to each position, and what the ledger has by its id is left out.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.engine import Store
from gateway_server.storage.facts import kept_since_day
from gateway_server.storage.gateways import forget, make_known, take_position
from gateway_server.storage.rollups import add_to_rollups, rebuild_day
from gateway_server.storage.settling_lock import lock_for_settling, lock_out_settling
from gateway_server.storage.spendings import Alert, raise_alerts, settle_spendings
from gateway_server.storage.tables import usage_records
from gateway_server.storage.usage_records import CallRows, insert_calls, leave_out_written

#: At how many nanos which percentages of some windows are reached.
Thresholds = Mapping[WindowKey, Sequence[tuple[int, int]]]

#: Beyond every position in a journal.
_END: Final = 2**63 - 1


class Settlements:
    """Writes what processes have settled."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def settle(
        self, gateway_id: str, position: int, calls: Sequence[CallRows], *, thresholds: Thresholds
    ) -> list[Alert]:
        """Writes calls that the journal of a process has up to ``position``, unless that is done already.

        Gives the alerts that this raised. Raises STORE_UNAVAILABLE; it may be written all the same then.
        """

        def work(connection: Connection) -> list[Alert]:
            make_known(connection, gateway_id)  # a backup may have been restored that does not know it
            if not take_position(connection, gateway_id, position):
                return []
            _write(connection, gateway_id, calls)
            return raise_alerts(connection, thresholds)

        return await self._store.write_batch(work)

    async def finish(self, gateway_id: str, calls: Sequence[CallRows] = ()) -> None:
        """Writes the last calls of a process and ends it: its leases are free. Nothing if it has ended."""

        def work(connection: Connection) -> None:
            if take_position(connection, gateway_id, _END):
                _write(connection, gateway_id, calls)
                forget(connection, gateway_id)

        await self._store.write_batch(work)

    async def rebuild_rollups(self) -> int:
        """Makes the rollups anew from the ledger, a day in a transaction; of how many calls.

        Nobody settles while a day is at it. Sums of days whose calls are no longer kept stay as they are.
        """
        async with self._store.unhurried.read() as connection:
            since = await connection.run_sync(kept_since_day)
        day = -(2**31) if since is None else since
        counted = 0
        while (found := await self._first_day(day)) is not None:
            counted += await self._store.unhurried.write_batch(partial(_rebuild_day, day=found))
            day = found + 1
        return counted

    async def _first_day(self, since: int) -> int | None:
        """The first day from ``since`` on that the ledger has calls of."""
        statement = select(func.min(usage_records.c.start_day)).where(usage_records.c.start_day >= since)
        async with self._store.unhurried.read() as connection:
            day: int | None = (await connection.execute(statement)).scalar_one()
            return day


def _rebuild_day(connection: Connection, day: int) -> int:
    lock_out_settling(connection)
    return rebuild_day(connection, day)


def _write(connection: Connection, gateway_id: str, calls: Sequence[CallRows]) -> None:
    lock_for_settling(connection)  # before the ledger is read: who makes partitions locks them in this order
    calls = leave_out_written(connection, calls)
    if calls:
        insert_calls(connection, calls)
        settle_spendings(connection, gateway_id, [call.spending for call in calls])
        add_to_rollups(connection, [call.record for call in calls])
