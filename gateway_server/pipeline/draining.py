"""Reading on for a while when a caller has left, so that providers that tell the usage last can tell it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aigateway.v1.chat_service_pb2 import ChatCompletionChunk

Emit = Callable[[ChatCompletionChunk], Awaitable[None]]

_CLOSE_SECONDS: Final = 1.0


class Listener:
    """Who a stream is written for; once it has left, what is written goes nowhere."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.has_left = False

    async def emit(self, chunk: ChatCompletionChunk) -> None:
        """Passes a message on."""
        if self.has_left:
            return
        try:
            await self._emit(chunk)
        except Exception:
            if not self.has_left:  # it left while this was being written
                raise

    def require_present(self) -> None:
        """Raises CancelledError when it has left: what is served now, nobody gets."""
        if self.has_left:
            raise asyncio.CancelledError


class Draining:
    """Streams that go on without their callers, each for at most so many seconds. Its owner closes it."""

    def __init__(self, seconds: float) -> None:
        """With 0 a stream ends with its caller, at once."""
        self._seconds = seconds
        self._streams: set[asyncio.Task[None]] = set()

    async def serve(self, serve: Callable[[Listener], Awaitable[None]], emit: Emit) -> None:
        """Runs ``serve`` for a listener; when this is cancelled, it has a while to come to its own end."""
        listener = Listener(emit)
        if not self._seconds:
            await serve(listener)
            return

        async def run() -> None:
            await serve(listener)

        stream = asyncio.create_task(run(), name="stream")
        try:
            await asyncio.shield(stream)
        except asyncio.CancelledError:
            if not stream.done():
                listener.has_left = True
                self._streams.add(stream)
                stream.add_done_callback(self._forget)
                asyncio.get_running_loop().call_later(self._seconds, stream.cancel)
            raise

    async def close(self) -> None:
        """Ends what still goes on; it settles what it knows."""
        for stream in self._streams:
            stream.cancel()
        if self._streams:
            await asyncio.wait(self._streams, timeout=_CLOSE_SECONDS)

    def _forget(self, stream: asyncio.Task[None]) -> None:
        self._streams.discard(stream)
        if not stream.cancelled():
            stream.exception()  # it is in the ledger; nobody is left to be told
