"""Turns for reports about usage, which take a connection of the database each, some for seconds.

Keys, budgets and the ledger need connections too, so that reports never take all of them; and one tenant's
reports do not keep another's from being read.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError

#: Of the five connections that a store on SQLite has; PostgreSQL's pool has more.
_AT_ONCE: Final = 3
_PER_TENANT: Final = 2
_MAX_WAITING: Final = 64
_PATIENCE_SECONDS: Final = 5.0
_RETRY_AFTER_SECONDS: Final = 1.0


class ReportTurns:
    """Who may read a report now: so many at once, fewer of one tenant; the others wait in a line each.

    Who has the fewest reports under way is next, and among those who has waited longest for a turn.
    """

    def __init__(
        self,
        *,
        at_once: int = _AT_ONCE,
        per_tenant: int = _PER_TENANT,
        max_waiting: int = _MAX_WAITING,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        """``max_waiting`` is for each tenant; ``patience`` is how many seconds one waits."""
        self._at_once = at_once
        self._per_tenant = per_tenant
        self._max_waiting = max_waiting
        self._patience = patience
        self._running: Counter[str] = Counter()
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, tenant_id: str) -> AsyncIterator[None]:
        """A turn of a tenant's, until the block ends. Raises OVERLOADED when none comes in time."""
        await self._wait(tenant_id)
        try:
            yield
        finally:
            self._leave(tenant_id)

    async def _wait(self, tenant_id: str) -> None:
        line = self._lines.setdefault(tenant_id, deque())
        if len(line) >= self._max_waiting:
            raise self._overloaded()
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        self._admit()
        try:
            async with asyncio.timeout(self._patience):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._leave(tenant_id)  # its turn came as it went
            elif place in line:
                line.remove(place)
                if not line:
                    del self._lines[tenant_id]
            if isinstance(error, TimeoutError):
                raise self._overloaded() from None
            raise

    def _leave(self, tenant_id: str) -> None:
        self._running[tenant_id] -= 1
        if not self._running[tenant_id]:
            del self._running[tenant_id]
        self._admit()

    def _admit(self) -> None:
        while self._running.total() < self._at_once:
            waiting = [tenant_id for tenant_id in self._lines if self._running[tenant_id] < self._per_tenant]
            if not waiting:
                return
            tenant_id = min(waiting, key=self._running.__getitem__)
            line = self._lines.pop(tenant_id)
            place = line.popleft()
            if line:
                self._lines[tenant_id] = line  # behind all others
            if not place.done():  # else whoever waited is about to go
                self._running[tenant_id] += 1
                place.set_result(None)

    def _overloaded(self) -> GatewayError:
        return GatewayError(
            ErrorReason.ERROR_REASON_OVERLOADED,
            f"{self._per_tenant} reports of a tenant and {self._at_once} in all are read at once, "
            "and too many wait",
            metadata={"limit": str(self._per_tenant)},
            retry_after=_RETRY_AFTER_SECONDS,
        )
