"""What all parsers of streams have in common: when events and failures are given out.

What was read before a failure is given out first; the failure follows at the next call. So the events do
not depend on how the bytes were cut.
"""

from abc import ABC, abstractmethod

from aigateway.v1.chat_service_pb2 import ChatEvent
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Target
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import JsonObject, MalformedAnswerError
from gateway_server.providers.wire.stream_writer import StreamWriter


class ChatStream(ABC):
    """Reads one stream; a subclass reads its bytes and the usage, which makes it a ChatStreamParser."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = StreamWriter()
        #: What the provider told last of the usage.
        self._usage: JsonObject | None = None
        self._failure: GatewayError | None = None

    @abstractmethod
    def _read(self, data: bytes) -> None:
        """Reads the next bytes of the body; raises MalformedAnswerError or GatewayError."""

    @abstractmethod
    def _read_end(self) -> None:
        """Reads the end of the body and ends the answer; raises when it is not complete."""

    @staticmethod
    def _read_usage(usage: JsonObject) -> TokenUsage:
        """The usage in the contract's meaning; raises MalformedAnswerError."""
        raise NotImplementedError

    @property
    def usage(self) -> TokenUsage | None:
        """As in ChatStreamParser."""
        if self._usage is None:
            return None
        try:
            return self._read_usage(self._usage)
        except MalformedAnswerError:
            return None

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
                self._read(data)
            else:
                self._read_end()
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
