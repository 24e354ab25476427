"""Keeping a router's catalog as the store has it, and its prices as they hold."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.router.catalog import Catalog
from gateway_server.router.router import Router
from gateway_server.storage.changes import Changes
from gateway_server.tasks import end_task

_LOG: Final = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.5


class CatalogFollower:
    """Loads the catalog again when it has changed, or when a price comes into effect. Its owner closes it.

    Calls under way keep the price that they began with.
    """

    def __init__(self, router: Router, load: Callable[[], Awaitable[Catalog]], clock: Clock) -> None:
        self._router = router
        self._load = load
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def on_changes(self, changes: Changes) -> None:
        """Listens to the change feed. Raises STORE_UNAVAILABLE, to be told again."""
        if not changes.complete or any(
            name.startswith(("providers/", "routes/")) for name in changes.resources
        ):
            self._router.catalog = await self._load()

    async def start(self) -> None:
        """Watches for prices that come into effect."""
        self._task = asyncio.create_task(self._watch_prices(), name="scheduled prices")

    async def close(self) -> None:
        """Stops to watch."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None

    async def _watch_prices(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            due = self._router.catalog.next_price_time
            if due is None or self._clock.now() < due:
                continue
            try:
                self._router.catalog = await self._load()
            except GatewayError as error:
                _LOG.warning("prices that hold from now on are not in effect yet: %s", error.message)
