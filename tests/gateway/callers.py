"""One call, whole or streamed, and everything that its caller saw of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc

from aigateway import AsyncClient
from aigateway.fold import ChatAccumulator
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from tests.support.gateway import chat_request, new_user
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

    client: AsyncClient
    streams: bool

    async def call(
        self, text: str = "hello", *, timeout: float = 20, end_user_id: str = "", **fields: Any
    ) -> Outcome:
        """Makes one call and reads it to its end; a failure is part of the outcome."""
        outcome = Outcome(end_user_id or new_user())
        request = chat_request(text, end_user_id=outcome.end_user_id, **fields)
        chat = self.client.stubs.chat
        metadata = self.client.metadata
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


class CallUnderWay:
    """A call that a test leads step by step."""

    def __init__(self, client: AsyncClient, *, streams: bool, **fields: Any) -> None:
        """``fields`` are others of the request."""
        self.end_user_id = new_user()
        chat = client.stubs.chat
        method: Any = chat.StreamChatCompletion if streams else chat.CreateChatCompletion
        request = chat_request("x" * 80, end_user_id=self.end_user_id, **fields)
        self.rpc = method(request, metadata=client.metadata, timeout=20)
        self._read = ChatAccumulator()

    async def read_until(self, text: str) -> None:
        """Reads the stream until it has brought so much."""
        read = ""
        while len(read) < len(text):
            chunk = await self.rpc.read()
            self._read.add_chunk(chunk)
            read += "".join(event.part_delta.text for event in chunk.events)

    async def read_to_end(self) -> ChatCompletion:
        """The whole answer of the stream; raises as the call fails."""
        while (chunk := await self.rpc.read()) is not grpc.aio.EOF:
            self._read.add_chunk(chunk)
        assert self._read.finished, "the stream ended well without an end event"
        return self._read.completion
