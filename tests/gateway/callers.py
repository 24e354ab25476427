"""One call, whole or streamed, and everything that its caller saw of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc

from aigateway.fold import ChatAccumulator
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from tests.support.gateway import Gateway, chat_request, new_user
from tests.support.statuses import Failure, read_failure


@dataclass
class Outcome:
    """What a caller got: events or an answer, and how it failed if it did."""

    end_user_id: str
    answer: ChatCompletion | None = None
    failure: Failure | None = None
    events: list[ChatEvent] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was read of a streamed text, whatever came of it."""
        return "".join(event.part_delta.text for event in self.events)

    @property
    def has_end(self) -> bool:
        """Whether the stream claimed to be complete."""
        return any(event.HasField("end") for event in self.events)


@dataclass
class Caller:
    """Calls one of the two chat RPCs on the generated stub, as any language would."""

    gateway: Gateway
    streams: bool

    async def call(self, text: str = "hello", *, timeout: float = 20, **fields: Any) -> Outcome:
        """Makes one call and reads it to its end; a failure is part of the outcome."""
        outcome = Outcome(new_user())
        request = chat_request(text, end_user_id=outcome.end_user_id, **fields)
        chat = self.gateway.client.stubs.chat
        metadata = self.gateway.metadata
        try:
            if self.streams:
                accumulator = ChatAccumulator()
                async for chunk in chat.StreamChatCompletion(request, metadata=metadata, timeout=timeout):
                    outcome.events.extend(chunk.events)
                    accumulator.add_chunk(chunk)
                assert accumulator.finished, "the stream ended well without an end event"
                outcome.answer = accumulator.completion
            else:
                outcome.answer = await chat.CreateChatCompletion(request, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            outcome.failure = read_failure(error)
        return outcome
