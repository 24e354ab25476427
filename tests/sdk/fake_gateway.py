"""A gateway that behaves as its callers tell it to: a real grpc.aio server on loopback, without models.

What it does with a question is told by the model's name:

- ``echo``: answers with the last turn's text, a reasoning part and a tool call before it;
- ``fail REASON``: fails with that reason and all details;
- ``cut REASON``: streams a little, then fails;
- ``flaky N [PUSHBACK_MS]``: fails N times with UNAVAILABLE, then echoes;
- ``flaky-late N``: as flaky, but fails a stream after its first message;
- ``slow``: sends a stream's start, then nothing until it is cancelled;
- ``endless``: streams without end;
- ``broken``: streams well-formed messages that add up to nothing;
- ``big N``: answers with N characters.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from aigateway.v1 import admin_service_pb2, chat_service_pb2, embeddings_service_pb2, usage_service_pb2
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatEvent,
    Choice,
    ChoiceEnd,
    CreateChatCompletionRequest,
    Finish,
    FinishReason,
    PartDelta,
    PartEnd,
    PartStart,
    StreamEnd,
    StreamStart,
)
from aigateway.v1.content_pb2 import ContentPart, Message, ReasoningPart, Role, TextPart, ToolCallPart
from aigateway.v1.routing_pb2 import ServedBy
from aigateway.v1.usage_pb2 import Cost, TokenUsage

SERVICES = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (chat_service_pb2, "ChatService"),
        (embeddings_service_pb2, "EmbeddingsService"),
        (admin_service_pb2, "AdminService"),
        (usage_service_pb2, "UsageService"),
    )
]
CODES = {
    "API_KEY_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "UPSTREAM_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "UPSTREAM_PROTOCOL_ERROR": grpc.StatusCode.INTERNAL,
}
REQUEST_ID = "req-1"

Context = grpc.aio.ServicerContext[Any, Any]
ResponseT = TypeVar("ResponseT", bound=ProtoMessage)


@dataclass
class Call:
    """One call as it reached the gateway."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]
    time_remaining: float | None
    received_at: float


@dataclass
class FakeGateway:
    """The server and what reached it. ``answers`` are given, in turn, by RPCs other than chat ones."""

    target: str = ""
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, list[ProtoMessage]] = field(default_factory=lambda: defaultdict(list))
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    tries: Counter[str] = field(default_factory=Counter)
    server: grpc.aio.Server = field(init=False)

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.server = grpc.aio.server(
            options=(("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000))
        )
        for service in SERVICES:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self.server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.full_name, handlers),)
            )
        if credentials is None:
            port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.target = f"127.0.0.1:{port}"
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    def _handler(self, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        request_type, response_type = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

        async def unary(request: Any, context: Context) -> ProtoMessage:
            self._note(method, request, context)
            match method.name:
                case "CreateChatCompletion":
                    return await self._complete(request, context)
                case "CountTokens":
                    return chat_service_pb2.CountTokensResponse(input_tokens=7)
                case _:
                    return await self._answer(method, request, context, response_type)

        async def stream(request: Any, context: Context) -> AsyncIterator[ChatCompletionChunk]:
            self._note(method, request, context)
            async for chunk in self._stream(request, context):
                yield chunk

        make: Any = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            stream if method.server_streaming else unary,
            request_deserializer=request_type.FromString,
            response_serializer=response_type.SerializeToString,
        )

    def _note(self, method: MethodDescriptor, request: Any, context: Context) -> None:
        metadata = dict(iter(context.invocation_metadata() or ()))
        remaining = context.time_remaining()
        now = asyncio.get_running_loop().time()
        self.calls.append(Call(method.name, request, metadata, remaining, now))

    async def _answer(
        self, method: MethodDescriptor, request: Any, context: Context, response_type: type[ProtoMessage]
    ) -> ProtoMessage:
        """The next answer that was laid down for the method; the last one stays. A fault fails the call."""
        answers = self.answers[method.name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else response_type()
        if isinstance(answer, Status):
            await abort(context, answer)
        return answer

    async def _complete(self, request: CreateChatCompletionRequest, context: Context) -> ChatCompletion:
        match request.model.split():
            case ["fail", reason]:
                await abort(context, fault(reason))
            case ["flaky", *_]:
                await self._maybe_fail(request, context)
            case ["slow"]:
                await self._wait_for_cancel()
            case ["big", count]:
                return answer_to(request, text="x" * int(count))
        return answer_to(request)

    async def _stream(
        self, request: CreateChatCompletionRequest, context: Context
    ) -> AsyncIterator[ChatCompletionChunk]:
        events = events_of(answer_to(request))
        match request.model.split():
            case ["fail", reason]:
                await abort(context, fault(reason))
            case ["flaky", *_]:
                await self._maybe_fail(request, context)
            case ["flaky-late", *_]:
                yield ChatCompletionChunk(events=events[:1])
                await self._maybe_fail(request, context)
                events = events[1:]
            case ["cut", reason]:
                for event in events[:-4]:
                    yield ChatCompletionChunk(events=[event])
                await abort(context, fault(reason))
            case ["slow"]:
                yield ChatCompletionChunk(events=events[:1])
                await self._wait_for_cancel()
            case ["broken"]:
                yield ChatCompletionChunk(events=events[:-1])
                return
            case ["repeated"]:
                yield ChatCompletionChunk(events=[events[0], events[0]])
                await self._wait_for_cancel()
            case ["endless"]:
                yield ChatCompletionChunk(events=events[:-3])
                try:
                    while True:
                        yield ChatCompletionChunk(events=[events[-4]])
                finally:
                    self.cancelled.set()
        # The first message alone, then in pairs, as a gateway that merges what has arrived.
        yield ChatCompletionChunk(events=events[:1])
        for place in range(1, len(events), 2):
            yield ChatCompletionChunk(events=events[place : place + 2])

    async def _maybe_fail(self, request: CreateChatCompletionRequest, context: Context) -> None:
        _, count, *pushback = request.model.split()
        self.tries[request.model] += 1
        if self.tries[request.model] <= int(count):
            await abort(context, fault("UPSTREAM_UNAVAILABLE"), pushback=pushback[0] if pushback else "")

    async def _wait_for_cancel(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


def answer_to(request: CreateChatCompletionRequest, *, text: str = "") -> ChatCompletion:
    """What the echo model answers."""
    text = text or request.messages[-1].parts[0].text.text
    parts = [
        ContentPart(reasoning=ReasoningPart(text="They said it.")),
        ContentPart(text=TextPart(text=text)),
        ContentPart(tool_call=ToolCallPart(tool_call_id="t1", tool_name="look", arguments='{"a": 1}')),
    ]
    return ChatCompletion(
        id="c1",
        model=request.model,
        served_by=ServedBy(provider="providers/fake", provider_model="echo-1"),
        choices=[
            Choice(
                message=Message(role=Role.ROLE_ASSISTANT, parts=parts),
                finish=Finish(reason=FinishReason.FINISH_REASON_STOP),
            )
        ],
        usage=TokenUsage(input_tokens=3, output_tokens=5, total_tokens=8),
        cost=Cost(currency_code="USD", total_nanos=1_234_000),
    )


def events_of(completion: ChatCompletion) -> list[ChatEvent]:
    """An answer as a stream, letter by letter."""
    start = StreamStart(id=completion.id, model=completion.model, served_by=completion.served_by)
    events = [ChatEvent(start=start)]
    for index, part in enumerate(completion.choices[0].message.parts):
        head = ContentPart()
        head.CopyFrom(part)
        match part.WhichOneof("kind"):
            case "text":
                head.text.text = ""
                deltas = [PartDelta(text=letter) for letter in part.text.text]
            case "reasoning":
                head.reasoning.text = ""
                deltas = [PartDelta(reasoning_text=letter) for letter in part.reasoning.text]
            case "tool_call":
                head.tool_call.arguments = ""
                deltas = [PartDelta(arguments=letter) for letter in part.tool_call.arguments]
            case kind:
                raise AssertionError(kind)
        events.append(ChatEvent(part_start=PartStart(part_index=index, part=head)))
        for delta in deltas:
            delta.part_index = index
            events.append(ChatEvent(part_delta=delta))
        events.append(ChatEvent(part_end=PartEnd(part_index=index)))
    finish = completion.choices[0].finish
    end = StreamEnd(usage=completion.usage, cost=completion.cost)
    return [*events, ChatEvent(choice_end=ChoiceEnd(finish=finish)), ChatEvent(end=end)]


def fault(reason: str, *, message: str = "", metadata: Mapping[str, str] | None = None) -> Status:
    """A failure as the gateway tells it, with every detail it can have."""
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    violation = BadRequest.FieldViolation(field="messages[0].parts", description="is empty")
    details: list[ProtoMessage] = [
        ErrorInfo(reason=reason, domain="aigateway", metadata=metadata or {"model": "m"}),
        RequestInfo(request_id=REQUEST_ID),
        retry,
        BadRequest(field_violations=[violation]),
    ]
    status = Status(
        code=CODES.get(reason, grpc.StatusCode.INVALID_ARGUMENT).value[0],
        message=message or f"it is {reason}",
    )
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(context: Context, status: Status, *, pushback: str = "") -> NoReturn:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if pushback:
        trailers.append(("grpc-retry-pushback-ms", pushback))
    await context.abort(code, status.message, tuple(trailers))
