"""What all parsers of streams of server-sent events have in common: when events and failures are given out.

What was read before a failure is given out first; the failure follows at the next call. So the events do
not depend on how the bytes were cut.
"""

from abc import ABC, abstractmethod

from aigateway.v1.chat_service_pb2 import ChatEvent
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Target
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import MalformedAnswerError
from gateway_server.providers.wire.sse import EventTooLargeError, SseDecoder
from gateway_server.providers.wire.stream_writer import StreamWriter


class SseChatStream(ABC):
    """Reads one stream; a subclass reads its events and adds ``usage``, which makes it a ChatStreamParser."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = StreamWriter()
        self._sse = SseDecoder()
        self._failure: GatewayError | None = None

    @abstractmethod
    def _take(self, payload: bytes) -> None:
        """Reads the data of one event."""

    @abstractmethod
    def _end(self) -> None:
        """Ends the answer with the body; raises when it is not complete."""

    @property
    def has_content(self) -> bool:
        """As in ChatStreamParser."""
        return self._writer.has_content

    def feed(self, data: bytes) -> list[ChatEvent]:
        """As in ChatStreamParser."""
        return self._advance(data)

    def close(self) -> list[ChatEvent]:
        """As in ChatStreamParser."""
        return self._advance(None)

    def _advance(self, data: bytes | None) -> list[ChatEvent]:
        """Reads the next bytes, or the end of the body."""
        if self._failure is not None:
            raise self._failure
        try:
            if data is not None:
                for _, payload in self._sse.feed(data):
                    self._take(payload)
            else:
                self._take_rest()
                self._end()
        except EventTooLargeError:
            return self._fail(protocol_error(self._target.provider, "an event of the stream is too large"))
        except MalformedAnswerError as error:
            return self._fail(protocol_error(self._target.provider, error.cause))
        except GatewayError as error:
            return self._fail(error)
        return self._writer.take()

    def _fail(self, failure: GatewayError) -> list[ChatEvent]:
        self._failure = failure
        events = self._writer.take()
        if not events:
            raise failure
        return events

    def _take_rest(self) -> None:
        """Reads what stands after the last complete event: nothing, one that lacks its end, or half a one."""
        rest = [payload for _, payload in self._sse.close() if payload.strip()]
        if self._sse.ended_inside_line and not rest:
            raise MalformedAnswerError("the stream ended in the middle of an event")
        for payload in rest:
            self._take(payload)
