"""Keeps this process known as living, and tends what dead ones left."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway_server.errors import GatewayError
from gateway_server.storage.gateways import WHOLE, GatewayRepository
from gateway_server.tasks import end_task

_LOG: Final = logging.getLogger(__name__)

_REFRESH_SECONDS: Final = 5.0
_DEAD_AFTER_SECONDS: Final = 60.0


class Registry:
    """One process among those that share a store. Its owner registers, starts and closes it."""

    def __init__(
        self, repository: GatewayRepository, gateway_id: str, *, recover: Callable[[], Awaitable[object]]
    ) -> None:
        """``recover`` settles what killed processes of this machine left; called now and then."""
        self._repository = repository
        self._recover = recover
        self._task: asyncio.Task[None] | None = None
        self.gateway_id = gateway_id
        #: This process's among those that share the store, as far as was last seen.
        self.share = WHOLE

    async def start(self) -> None:
        """Begins to tell that this process lives. Raises STORE_UNAVAILABLE."""
        self.share = await self._repository.share_of(self.gateway_id)
        self._task = asyncio.create_task(self._run(), name="registry")

    async def close(self) -> None:
        """Stops; the registration ends with the ledger's last word."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None

    async def refresh(self) -> None:
        """Tells that this process lives, and looks after those that do not. Raises STORE_UNAVAILABLE."""
        swept = await self._repository.refresh(self.gateway_id, dead_after_seconds=_DEAD_AFTER_SECONDS)
        for gateway_id in swept:
            _LOG.warning(
                "the process %s has not been heard of for %g s: what it had leased of budgets counts as "
                "spent until its journal is found",
                gateway_id,
                _DEAD_AFTER_SECONDS,
            )
        self.share = await self._repository.share_of(self.gateway_id)
        await self._recover()

    async def _run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await self.refresh()
            except GatewayError as error:
                if not failed:
                    _LOG.warning("other processes cannot be told that this one lives: %s", error.message)
                failed = True
            except Exception:  # noqa: BLE001 -- without this task, a process that lives would be swept
                _LOG.exception("tending the registry failed")
            else:
                failed = False
