"""The way of calls into the store: a journal that survives the process, a queue, and one writer.

Nothing is dropped. When the store does not take settled calls, they wait and the writer tries again; once
the queue is full, new calls are refused before they cost anything, and those under way still get in. What a
killed process had in its queue is in its journal: see ``usage/recovery.py``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from gateway_server.errors import GatewayError
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.engine import store_unavailable
from gateway_server.storage.settlement import Thresholds
from gateway_server.storage.spendings import Alert
from gateway_server.storage.usage_records import CallRecord, CallRows, rows_of
from gateway_server.tasks import end_task
from gateway_server.usage.entries import OpenAttempt, encode_open, encode_settled
from gateway_server.usage.journal import Journal, JournalError
from gateway_server.usage.settling import BATCH, Placed, SettlementStore, settle_batch, total_charges

_LOG: Final = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 0.1
_LAST_RETRY_SECONDS: Final = 5.0


class BudgetListener(Protocol):
    """Who wants to know what the store has counted."""

    def settling(self, windows: Iterable[WindowKey]) -> Thresholds:
        """The store is about to count charges on these windows; ``settled`` tells when it has.

        Gives at how many nanos which percentages of them are reached.
        """
        ...

    def settled(self, charges: Mapping[WindowKey, int], alerts: Sequence[Alert] = ()) -> None:
        """The store has counted these charges, which raised these alerts."""
        ...


class Ledger:
    """Takes the record of every call. Its owner starts and closes it; safe on one event loop."""

    def __init__(
        self,
        store: SettlementStore,
        journal: Journal,
        gateway_id: str,
        *,
        budgets: BudgetListener,
        capacity: int = 20_000,
        linger_seconds: float = 0.2,
    ) -> None:
        """``capacity`` is how many settled calls may wait before new ones are refused.

        ``linger_seconds`` is how long the first of a batch waits for others.
        """
        self._store = store
        self._journal = journal
        self._gateway_id = gateway_id
        self._budgets = budgets
        self._capacity = capacity
        self._linger = linger_seconds
        self._queue: deque[Placed] = deque()
        #: Calls under way by request id: the position behind their last entry, and the entry.
        self._open: dict[str, tuple[int, bytes]] = {}
        self._filled = asyncio.Event()
        self._full_batch = asyncio.Event()
        self._progress = asyncio.Condition()
        self._last_position = journal.position
        self._recorded = 0
        self._settled = 0
        self._rejected = 0
        self._flushing = 0
        self._healthy = True
        self._journalled = True
        self._writer: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded, to the store and to the journal."""
        return self._healthy and self._journalled

    @property
    def backlog(self) -> int:
        """Settled calls that are not in the store yet."""
        return len(self._queue)

    @property
    def written_count(self) -> int:
        """Calls that are in the store."""
        return self._settled - self._rejected

    @property
    def rejected_count(self) -> int:
        """Calls that the store cannot hold; each is in the log."""
        return self._rejected

    def require_room(self) -> None:
        """Raises STORE_UNAVAILABLE when no new call should begin, as its record might find no room."""
        if len(self._queue) >= self._capacity:
            raise store_unavailable()

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Notes an attempt before it is sent. Raises STORE_UNAVAILABLE when it must not be sent."""
        entry = encode_open(attempt)
        try:
            self._open[attempt.request_id] = self._journal.append(entry), entry
        except JournalError as error:
            self._tell_journal(error)
            raise store_unavailable() from None
        self._tell_journal(None)

    def record(self, record: CallRecord) -> None:
        """Takes the record of a settled call; never fails and never waits."""
        call = rows_of(record)
        position = self._last_position + 1  # what is only in memory has a place between its neighbours
        try:
            position = self._journal.append(encode_settled(call))
        except JournalError as error:
            self._tell_journal(error)
        except TypeError as error:  # the database will have none of it either
            _LOG.error("this record cannot be journalled (%s): %s", error, _line_of(call))
        self._last_position = position
        self._open.pop(record.request_id, None)
        self._queue.append((position, call))
        self._recorded += 1
        self._filled.set()
        if len(self._queue) >= BATCH:
            self._full_batch.set()

    async def start(self) -> None:
        """Begins to write."""
        self._writer = asyncio.create_task(self._write_for_ever(), name="ledger")

    async def flush(self) -> None:
        """Returns once everything recorded so far is in the store, however long that takes."""
        until = self._recorded
        self._flushing += 1
        self._full_batch.set()  # no more lingering
        try:
            async with self._progress:
                await self._progress.wait_for(lambda: self._settled >= until)
        finally:
            self._flushing -= 1

    async def close(self, *, drain_seconds: float = 30.0) -> int:
        """Writes what is left and stops; how many calls are not written.

        Those are in the journal, for the next process that starts here: what the store did not take in
        ``drain_seconds``, and calls that have not ended.
        """
        if self._writer is not None:
            try:
                async with asyncio.timeout(drain_seconds):
                    await self.flush()
            except TimeoutError:
                _LOG.error(
                    "the store took nothing for %g s: %d settled calls stay in %s",
                    drain_seconds,
                    len(self._queue),
                    self._journal.folder,
                )
            await end_task(self._writer)
            self._writer = None
        return len(self._queue) + len(self._open)

    async def _write_for_ever(self) -> None:
        retry_after = _FIRST_RETRY_SECONDS
        while True:
            await self._filled.wait()
            await self._gather_batch()
            batch = [self._queue[place] for place in range(min(BATCH, len(self._queue)))]
            charges = total_charges([call for _, call in batch])
            try:
                outcome = await settle_batch(
                    self._store, self._gateway_id, batch, thresholds=self._budgets.settling(charges)
                )
            except GatewayError as error:
                if self._healthy:
                    _LOG.error("the ledger cannot be written, %d calls wait: %s", self.backlog, error)
                self._healthy = False
                await asyncio.sleep(retry_after)
                retry_after = min(2 * retry_after, _LAST_RETRY_SECONDS)
                continue
            if not self._healthy:
                _LOG.warning("the ledger is written again, %d calls wait", self.backlog)
            self._healthy = True
            retry_after = _FIRST_RETRY_SECONDS
            for call, kind in outcome.shortened:
                _LOG.error(
                    "the database took this record only without its texts (%s): %s", kind, _line_of(call)
                )
            for call, kind in outcome.rejected:
                _LOG.error("the database cannot hold this record (%s): %s", kind, _line_of(call))
            self._rejected += len(outcome.rejected)
            await self._settle(len(batch))
            # What was rejected stays used up here, as nobody knows better.
            lost = total_charges([call for call, _ in outcome.rejected])
            counted = {window: nanos - lost.get(window, 0) for window, nanos in charges.items()}
            self._budgets.settled(counted, outcome.alerts)
            await self._tend_journal()

    async def _gather_batch(self) -> None:
        """Waits a moment for more calls, unless there are enough, somebody waits or the store was away."""
        if self._flushing or not self._healthy or len(self._queue) >= BATCH:
            return
        self._full_batch.clear()
        try:
            async with asyncio.timeout(self._linger):
                await self._full_batch.wait()
        except TimeoutError:
            pass

    async def _settle(self, count: int) -> None:
        for _ in range(count):
            self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        async with self._progress:
            self._settled += count
            self._progress.notify_all()

    async def _tend_journal(self) -> None:
        """Begins a new segment when it is time, takes calls under way along, and drops what is settled."""
        try:
            if not await self._journal.rotate():
                return
            for request_id, (_, entry) in list(self._open.items()):
                position = self._journal.append(entry)
                if request_id in self._open:
                    self._open[request_id] = position, entry
            self._tell_journal(None)
            first = self._queue[0][0] if self._queue else self._journal.position
            await self._journal.forget(before=first - 1)
        except (JournalError, OSError) as error:
            self._tell_journal(error)

    def _tell_journal(self, error: Exception | None) -> None:
        if self._journalled != (error is None):
            self._journalled = error is None
            if error is not None:
                _LOG.error("calls are refused, as they could not be settled after a crash: %s", error)
            else:
                _LOG.warning("the journal is written again")


def _line_of(call: CallRows) -> str:
    """What is needed to enter a record by hand; no label, no end user."""
    row = call.record
    return (
        f"request_id={row['request_id']} tenant={row['tenant_id']} api_key={row['api_key_id']} "
        f"method={row['method']} provider={row['provider_id']} start_time={row['start_time']} "
        f"status_code={row['status_code']} total_tokens={row['total_tokens']} cost_nanos={row['cost_nanos']}"
    )
