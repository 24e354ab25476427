"""The way of settled calls into the store: a queue in memory and one writer, off the calls' path.

A record is never dropped while the process lives. When the store does not take them, records queue up and
the writer tries again; once the queue is full, new calls are refused before they cost anything, and those
under way still get in. What a killed process had in its queue is lost: a queue that survives can take the
place of this class, which callers know by ``require_room`` and ``record`` alone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from gateway_server.errors import GatewayError
from gateway_server.storage.engine import store_unavailable
from gateway_server.storage.usage_records import CallRecord

_LOG: Final = logging.getLogger(__name__)

#: What one transaction writes at most. More would hold the lock longer and gain little.
_BATCH: Final = 500
_FIRST_RETRY_SECONDS: Final = 0.1
_LAST_RETRY_SECONDS: Final = 5.0


class RecordStore(Protocol):
    """Where the records end up."""

    async def add(self, records: Sequence[CallRecord]) -> None:
        """Writes all of them or none; those that are there already stay as they are."""
        ...


class Ledger:
    """Takes the record of every call. Its owner starts and closes it; safe on one event loop."""

    def __init__(self, store: RecordStore, *, capacity: int = 20_000, linger_seconds: float = 0.05) -> None:
        """``capacity`` is how many records may wait before new calls are refused.

        ``linger_seconds`` is how long the first record of a batch waits for others.
        """
        self._store = store
        self._capacity = capacity
        self._linger = linger_seconds
        self._queue: deque[CallRecord] = deque()
        self._filled = asyncio.Event()
        self._full_batch = asyncio.Event()
        self._progress = asyncio.Condition()
        self._recorded = 0
        self._settled = 0
        self._rejected = 0
        self._flushing = 0
        self._healthy = True
        self._writer: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._healthy

    @property
    def backlog(self) -> int:
        """Records that are not in the store yet."""
        return len(self._queue)

    @property
    def written_count(self) -> int:
        """Records that are in the store."""
        return self._settled - self._rejected

    @property
    def rejected_count(self) -> int:
        """Records that the store cannot hold; each is in the log."""
        return self._rejected

    def require_room(self) -> None:
        """Raises STORE_UNAVAILABLE when no new call should begin, as its record might find no room."""
        if len(self._queue) >= self._capacity:
            raise store_unavailable()

    def record(self, record: CallRecord) -> None:
        """Takes the record of a settled call; never fails and never waits."""
        self._queue.append(record)
        self._recorded += 1
        self._filled.set()
        if len(self._queue) >= _BATCH:
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
        """Writes what is left and stops; how many records could not be written in ``drain_seconds``.

        Those are in the log, one line each.
        """
        if self._writer is not None:
            try:
                async with asyncio.timeout(drain_seconds):
                    await self.flush()
            except TimeoutError:
                _LOG.error("the ledger could not be written for %g s; giving up", drain_seconds)
            self._writer.cancel()
            await asyncio.wait([self._writer])
            self._writer = None
        for record in self._queue:
            _LOG.error("this record did not reach the database: %s", _line_of(record))
        return len(self._queue)

    async def _write_for_ever(self) -> None:
        retry_after = _FIRST_RETRY_SECONDS
        while True:
            await self._filled.wait()
            await self._gather_batch()
            batch = [self._queue[place] for place in range(min(_BATCH, len(self._queue)))]
            try:
                rejected = await self._write(batch)
            except GatewayError as error:
                if self._healthy:
                    _LOG.error("the ledger cannot be written, %d records wait: %s", self.backlog, error)
                self._healthy = False
                await asyncio.sleep(retry_after)
                retry_after = min(2 * retry_after, _LAST_RETRY_SECONDS)
                continue
            if not self._healthy:
                _LOG.warning("the ledger is written again, %d records wait", self.backlog)
            self._healthy = True
            retry_after = _FIRST_RETRY_SECONDS
            for record, kind in rejected:
                _LOG.error("the database cannot hold this record (%s): %s", kind, _line_of(record))
            self._rejected += len(rejected)
            await self._settle(len(batch))

    async def _gather_batch(self) -> None:
        """Waits a moment for more records, unless there are enough, somebody waits or the store was away."""
        if self._flushing or not self._healthy or len(self._queue) >= _BATCH:
            return
        self._full_batch.clear()
        try:
            async with asyncio.timeout(self._linger):
                await self._full_batch.wait()
        except TimeoutError:
            pass

    async def _write(self, batch: list[CallRecord]) -> list[tuple[CallRecord, str]]:
        """Writes the batch but for records that the store cannot hold; gives those and the kinds of fault.

        Raises STORE_UNAVAILABLE; what was written until then comes again and is left alone.
        """
        try:
            await self._store.add(batch)
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001 -- one bad record must not hold up all others for ever
            if len(batch) == 1:
                return [(batch[0], type(error).__name__)]
            middle = len(batch) // 2
            return [*await self._write(batch[:middle]), *await self._write(batch[middle:])]
        return []

    async def _settle(self, count: int) -> None:
        for _ in range(count):
            self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        async with self._progress:
            self._settled += count
            self._progress.notify_all()


def _line_of(record: CallRecord) -> str:
    """What is needed to enter a record by hand; no label, no end user."""
    tokens = "unknown" if record.usage is None else str(record.usage.total_tokens)
    cost = "none" if record.cost is None else str(record.cost.total_nanos)
    return (
        f"request_id={record.request_id} tenant={record.tenant_id} api_key={record.api_key_id} "
        f"method={record.method} provider={record.provider_id} start_time={record.start_time} "
        f"status_code={record.status_code} total_tokens={tokens} cost_nanos={cost}"
    )
