"""The middle of a stream: from the provider's bytes to few, timely messages for the caller."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aigateway.v1.chat_service_pb2 import ChatCompletionChunk, ChatEvent, StreamEnd, StreamStart
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.pipeline.guarding import AnswerChecks
from gateway_server.providers.base import ChatStreamParser
from gateway_server.providers.transport import HttpResponse, TransportError
from gateway_server.streaming.merge import merge_deltas
from gateway_server.usage.estimate import event_characters

#: Events that say nothing by themselves.
_BEGINNINGS: Final = frozenset({"start", "part_start"})


class ChatRelay:
    """Passes one streamed answer on.

    A message costs about 80 us whatever is in it, so events that have arrived travel together: the first
    content at once, then at most one message in ``flush_seconds``. Nothing is sent before the first
    content, so that until then another target could take over.
    """

    def __init__(
        self,
        parser: ChatStreamParser,
        emit: Callable[[ChatCompletionChunk], Awaitable[None]],
        *,
        introduce: Callable[[StreamStart], None],
        flush_seconds: float,
        clock: Clock,
        guard: AnswerChecks | None = None,
    ) -> None:
        self._parser = parser
        self._emit = emit
        self._introduce = introduce
        self._flush_seconds = flush_seconds
        self._clock = clock
        #: What guards the answer.
        self.guard = guard
        self._pending: list[ChatEvent] = []
        self._introduced = False
        #: Who is to be told once of the first content.
        self._on_first_content: Callable[[], None] | None = None
        self._written = 0  # characters

    @property
    def usage(self) -> TokenUsage | None:
        """The usage as far as the provider has reported it."""
        return self._parser.usage

    @property
    def characters(self) -> int:
        """The length of what the model wrote, as far as it was read."""
        return self._written if self.guard else self._written + event_characters(self._pending)

    @property
    def is_stopped(self) -> bool:
        """Whether a guardrail has ended the answer."""
        return self.guard is not None and self.guard.is_stopped

    async def run(self, response: HttpResponse, *, on_first_content: Callable[[], None]) -> list[ChatEvent]:
        """Relays until the answer is complete; gives its last events, which end with ``end``, unsent.

        What had arrived before a failure is still passed on before the failure is raised.
        """
        due_at: float | None = None
        self._on_first_content = on_first_content
        try:
            async for data in response.chunks():
                await self._read(data)
                if not self._parser.has_content:
                    continue
                if due_at is not None:
                    await self._gather(response, due_at)
                if self.is_stopped:
                    return [*self._take(), ChatEvent(end=StreamEnd())]
                if response.is_ended or self._is_all_held():
                    continue
                await self._flush()
                due_at = self._clock.monotonic() + self._flush_seconds
            await self._read_end()
        except (GatewayError, TransportError):
            if self._parser.has_content:
                self._begin()
                if self.guard is not None:
                    self._pending += await self.guard.cut()
                await self._flush()
            raise
        return self._take()

    def _is_all_held(self) -> bool:
        """Whether a guardrail still holds all that there is to read: a message without it helps nobody."""
        return (
            self.guard is not None
            and not self._introduced
            and all(event.WhichOneof("event") in _BEGINNINGS for event in self._pending)
        )

    async def _gather(self, response: HttpResponse, due_at: float) -> None:
        """Waits until a message is due, and takes what has arrived by then."""
        wait = due_at - self._clock.monotonic()
        if wait > 0 and response.reads_ahead and not response.is_ended:
            await asyncio.sleep(wait)
            await self._read(response.take_available())

    async def _read(self, data: bytes) -> None:
        await self._pend(self._parser.feed(data))
        # A failure within these bytes comes now, not with the next, which may be long in coming.
        if not self.is_stopped:
            await self._pend(self._parser.feed(b""))

    async def _pend(self, events: list[ChatEvent]) -> None:
        if self._parser.has_content:
            self._begin()
        if self.guard is not None and events:
            characters = event_characters(events)
            self._written += characters
            # What came together is guarded together: a look costs as much for a word as for a line.
            events = await self.guard.feed(merge_deltas(events), characters)
        self._pending += events

    def _begin(self) -> None:
        """The first content is here, and what takes time from now on is not the provider's."""
        tell, self._on_first_content = self._on_first_content, None
        if tell is not None:
            tell()

    async def _read_end(self) -> None:
        await self._pend(self._parser.close())
        if not (self._pending and self._pending[-1].HasField("end")):
            self._parser.close()  # raises what the answer lacks

    async def _flush(self) -> None:
        events = self._take()
        if events:
            await self._emit(ChatCompletionChunk(events=events))

    def _take(self) -> list[ChatEvent]:
        events = merge_deltas(self._pending)
        self._pending = []
        if events and not self._introduced:
            self._introduced = True
            self._introduce(events[0].start)
        if self.guard is None:
            self._written += event_characters(events)
        return events
