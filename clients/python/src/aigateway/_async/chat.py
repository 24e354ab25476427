"""Conversations: whole answers, streamed answers, counting, and dry runs of routing."""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self, Unpack

import grpc

from aigateway._async.connection import AsyncConnection, AsyncStreamCall
from aigateway.errors import CallCancelledError, GatewayError, StreamProtocolError
from aigateway.fold import ChatAccumulator
from aigateway.options import ChatOptions, Conversation, chat_request, list_messages
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatEvent,
    CountTokensRequest,
    CountTokensResponse,
    ExplainRouteRequest,
    ExplainRouteResponse,
    Tool,
)


class AsyncChat:
    """``client.chat``."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        model: str,
        messages: Conversation,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion:
        """Returns the answer when it is complete."""
        request = chat_request(model, messages, **options)
        return await self._connection.call(
            self._connection.stubs.chat.CreateChatCompletion, request, timeout=timeout, metadata=metadata
        )

    def stream(
        self,
        model: str,
        messages: Conversation,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[ChatOptions],
    ) -> "AsyncChatStream":
        """Returns the answer while it is being written; use it in a ``with`` statement."""
        request = chat_request(model, messages, **options)
        call = self._connection.stream(
            self._connection.stubs.chat.StreamChatCompletion, request, timeout=timeout, metadata=metadata
        )
        return AsyncChatStream(call, self._connection)

    async def count_tokens(
        self,
        model: str,
        messages: Conversation,
        *,
        tools: Iterable[Tool] = (),
        timeout: float | None = None,
    ) -> CountTokensResponse:
        """Counts the input tokens of a conversation without answering it."""
        request = CountTokensRequest(model=model, messages=list_messages(messages), tools=tools)
        return await self._connection.call(self._connection.stubs.chat.CountTokens, request, timeout=timeout)

    async def explain_route(
        self,
        model: str,
        messages: Conversation,
        *,
        timeout: float | None = None,
        **options: Unpack[ChatOptions],
    ) -> ExplainRouteResponse:
        """Tells, without asking anybody, who would be asked, at what cost, and why others would not."""
        request = ExplainRouteRequest(request=chat_request(model, messages, **options))
        return await self._connection.call(self._connection.stubs.chat.ExplainRoute, request, timeout=timeout)


class AsyncChatStream:
    """An answer while it is being written: an iterator of its events, and what they add up to so far.

    Leaving the ``with`` statement before the end cancels the call.
    """

    def __init__(self, call: AsyncStreamCall[ChatCompletionChunk], connection: AsyncConnection) -> None:
        self._call = call
        self._connection = connection
        self._chunks = aiter(call)
        self._ready: deque[ChatEvent] = deque()
        self._accumulator = ChatAccumulator()
        self._failure: GatewayError | None = None

    @property
    def completion(self) -> ChatCompletion:
        """The answer so far, also after a failure. Usage and cost come with the last event."""
        return self._accumulator.completion

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """The text of the first answer, piece by piece, in place of the events."""
        return self._read_text()

    async def final_completion(self) -> ChatCompletion:
        """Reads to the end and returns the whole answer; raises what ended the stream before."""
        async for _ in self:
            pass
        return self._accumulator.completion

    async def close(self) -> None:
        """Cancels the call, unless it has ended. What was not read yet is lost."""
        if not self._accumulator.finished and self._failure is None:
            self._failure = CallCancelledError("the stream was closed", code=grpc.StatusCode.CANCELLED)
        self._ready.clear()
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        if self._failure is not None:
            raise self._failure
        try:
            while not self._ready:
                chunk = await anext(self._chunks)
                self._ready.extend(chunk.events)
            event = self._ready.popleft()
            self._accumulator.add(event)
        except grpc.RpcError as failure:
            self._failure = self._connection.error(failure)
            raise self._failure from None
        except StreamProtocolError as failure:
            self._failure = failure
            self._call.cancel()
            raise
        except StopAsyncIteration:
            if not self._accumulator.finished:
                self._failure = StreamProtocolError("the stream stopped without an end event")
                raise self._failure from None
            raise
        return event

    async def _read_text(self) -> AsyncIterator[str]:
        async for event in self:
            if event.HasField("part_start") and event.part_start.choice_index == 0:
                piece = event.part_start.part.text.text
            elif event.HasField("part_delta") and event.part_delta.choice_index == 0:
                # Refusals grow by text as well.
                kind = self._accumulator.part_kind(0, event.part_delta.part_index)
                piece = event.part_delta.text if kind == "text" else ""
            else:
                piece = ""
            if piece:
                yield piece
