"""What all parsers of streams of server-sent events have in common."""

from abc import abstractmethod
from typing import Any

import orjson

from gateway_server.providers.base import Target
from gateway_server.providers.wire.chat_stream import ChatStream
from gateway_server.providers.wire.json_values import MalformedAnswerError
from gateway_server.providers.wire.sse import EventTooLargeError, SseDecoder


def parse_event(payload: bytes) -> Any:  # noqa: ANN401 -- JSON
    """The data of one event, None when it is blank; raises MalformedAnswerError."""
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if not payload.strip():
            return None
        raise MalformedAnswerError("an event of the stream is not JSON, or was cut off") from error
    if event is None:
        raise MalformedAnswerError("an event of the stream is not a JSON object")
    return event


class SseChatStream(ChatStream):
    """Reads one stream; a subclass reads its events."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._sse = SseDecoder()

    @abstractmethod
    def _take(self, payload: bytes) -> None:
        """Reads the data of one event."""

    @abstractmethod
    def _end(self) -> None:
        """Ends the answer with the body; raises when it is not complete."""

    def _read(self, data: bytes) -> None:
        try:
            for _, payload in self._sse.feed(data):
                self._take(payload)
        except EventTooLargeError as error:
            raise MalformedAnswerError("an event of the stream is too large") from error

    def _read_end(self) -> None:
        self._take_rest()
        self._end()

    def _take_rest(self) -> None:
        """Reads what stands after the last complete event: nothing, one that lacks its end, or half a one."""
        try:
            rest = [payload for _, payload in self._sse.close() if payload.strip()]
        except EventTooLargeError as error:
            raise MalformedAnswerError("an event of the stream is too large") from error
        if self._sse.ended_inside_line and not rest:
            raise MalformedAnswerError("the stream ended in the middle of an event")
        for payload in rest:
            self._take(payload)
