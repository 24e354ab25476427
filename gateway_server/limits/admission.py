"""How many calls one process takes at a time, so that overload is refused and not queued."""

import asyncio
from types import TracebackType

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError

_RETRY_AFTER_SECONDS = 1.0


class Admission:
    """Counts calls under way. Used as ``with admission:`` around each call; safe on one event loop."""

    def __init__(self, max_concurrent_calls: int) -> None:
        self._max = max_concurrent_calls
        self._in_flight = 0
        self._closed = False
        self._idle: asyncio.Event | None = None  # while somebody waits

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._in_flight

    def close(self) -> None:
        """Refuses calls from now on; those under way go on."""
        self._closed = True

    async def wait_idle(self) -> None:
        """Returns once no call is under way."""
        while self._in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def __enter__(self) -> None:
        if self._closed:
            raise GatewayError(
                ErrorReason.ERROR_REASON_SHUTTING_DOWN,
                "the gateway is shutting down",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        if self._in_flight >= self._max:
            raise GatewayError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                f"the gateway has {self._max} calls under way and takes no more",
                metadata={"limit": str(self._max)},
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self._in_flight += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._in_flight -= 1
        if self._idle is not None and not self._in_flight:
            self._idle.set()
