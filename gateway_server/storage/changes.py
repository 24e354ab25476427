"""Which resources changed: counted and kept in the transaction of the change, noticed by every process.

A process polls the table of changes and so learns what others did; of its own changes it tells its
listeners at once. Listeners may hear of a change twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.storage.engine import Store
from gateway_server.storage.tables import changes, revisions
from gateway_server.tasks import end_task

_LOG: Final = logging.getLogger(__name__)

#: So many changes are kept; a process that missed more reads everything again.
KEPT_CHANGES: Final = 10_000
_PRUNE_EVERY: Final = 1_000
_REVISION_ROW: Final = 1


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed. When it is not ``complete``, anything may have changed."""

    revision: int
    resources: tuple[str, ...]
    complete: bool = True


Listener = Callable[[Changes], Awaitable[None]]


async def record_change(connection: AsyncConnection, resource: str, now_micros: int) -> int:
    """Counts a change of ``resource`` within the transaction that makes it; the new revision."""
    result = await connection.execute(
        update(revisions)
        .where(revisions.c.id == _REVISION_ROW)
        .values(revision=revisions.c.revision + 1)
        .returning(revisions.c.revision)
    )
    revision = int(result.scalar_one())
    await connection.execute(
        insert(changes).values(revision=revision, resource=resource, change_time=now_micros)
    )
    if revision % _PRUNE_EVERY == 0:
        await connection.execute(delete(changes).where(changes.c.revision <= revision - KEPT_CHANGES))
    return revision


async def read_revision(connection: AsyncConnection) -> int:
    """How many changes there have been. Read it before what it is to stand for, never after."""
    result = await connection.execute(select(revisions.c.revision).where(revisions.c.id == _REVISION_ROW))
    return int(result.scalar_one())


async def read_changes(store: Store, since: int) -> Changes:
    """What changed after revision ``since``."""
    async with store.read() as connection:
        revision = await read_revision(connection)
        if revision == since:
            return Changes(revision, ())
        rows = await connection.execute(
            select(changes.c.revision, changes.c.resource)
            .where(changes.c.revision > since, changes.c.revision <= revision)
            .order_by(changes.c.revision)
        )
        found = rows.all()
    resources = tuple(dict.fromkeys(row.resource for row in found))
    return Changes(revision, resources, complete=since <= revision and len(found) == revision - since)


class ChangeFeed:
    """Tells the listeners of one process what changed, whoever changed it. Its owner starts and closes it."""

    def __init__(self, store: Store, clock: Clock, *, interval: float = 1.0) -> None:
        """``interval`` is the time between two polls, in seconds."""
        self._store = store
        self._clock = clock
        self._interval = interval
        self._listeners: list[Listener] = []
        self._revision: int | None = None
        self._read_at = clock.monotonic()
        self._polling = asyncio.Lock()
        self._telling = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the store was last seen to be read: how old the news may be."""
        return self._clock.monotonic() - self._read_at

    def subscribe(self, listener: Listener) -> None:
        """Calls ``listener`` for changes from now on, one call at a time.

        So what it reads from the store is never older than what it read before. When it raises
        GatewayError it is called again, with the same changes or more.
        """
        self._listeners.append(listener)

    async def announce(self, *resources: str) -> None:
        """Tells the listeners of changes that this process has just committed; does not fail."""
        try:
            await self._tell(Changes(self._revision or 0, resources))
        except GatewayError as error:
            _LOG.warning("a change is not in effect yet and will be at the next poll: %s", error.message)

    async def poll(self) -> None:
        """Looks for changes now and tells the listeners; raises STORE_UNAVAILABLE."""
        async with self._polling:
            began_at = self._clock.monotonic()
            if self._revision is None:
                async with self._store.read() as connection:
                    self._revision = await read_revision(connection)
                self._read_at = began_at
                return
            found = await read_changes(self._store, self._revision)
            if found.revision != self._revision:
                await self._tell(found)
                self._revision = found.revision
            self._read_at = began_at

    async def start(self) -> None:
        """Polls from now on; what changed before the first poll is not told. Raises STORE_UNAVAILABLE.

        Whoever reads the store before this, to be told of changes later, polls first.
        """
        await self.poll()
        self._task = asyncio.create_task(self._run(), name="change feed")

    async def close(self) -> None:
        """Stops polling."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None

    async def _run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.poll()
            except GatewayError as error:
                if not failed:
                    _LOG.warning("changes of other processes cannot be seen: %s", error.message)
                failed = True
            except Exception:  # noqa: BLE001 -- without this task, revoked keys would go on working
                _LOG.exception("a listener failed on a change")
            else:
                failed = False

    async def _tell(self, found: Changes) -> None:
        failure: GatewayError | None = None
        async with self._telling:
            for listener in self._listeners:
                try:
                    await listener(found)
                except GatewayError as error:  # it must not keep the news from the others
                    failure = error
        if failure is not None:
            raise failure
