"""What a caller sees around every RPC: keys, permissions, validation, deadlines, overload, errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatEvent,
    CreateChatCompletionRequest,
    PartDelta,
)
from aigateway.v1.content_pb2 import Message
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.permission_pb2 import Scope
from gateway_server.call import CallContext
from gateway_server.errors import CODE_BY_REASON, FieldViolation, GatewayError, reason_name
from gateway_server.rpc.interceptors import Emit
from gateway_server.rpc.methods import Method, all_methods
from gateway_server.rpc.requests import parse_request
from gateway_server.rpc.status import status_of
from tests.rpc.conftest import KEY_METADATA, Serve, chat_request
from tests.support.statuses import Failure, read_failure

CHAT = "aigateway.v1.ChatService"


class Chat:
    """A chat service that does what the model's name says."""

    def __init__(self) -> None:
        self.calls: list[CallContext] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def CreateChatCompletion(
        self, request: CreateChatCompletionRequest, call: CallContext
    ) -> ChatCompletion:
        self.calls.append(call)
        self.entered.set()
        match request.model:
            case "crash":
                raise RuntimeError(request.messages[0].parts[0].text.text)
            case "wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.set()
            case _:
                pass
        return ChatCompletion(id=call.request_id)

    async def StreamChatCompletion(
        self, request: CreateChatCompletionRequest, call: CallContext, emit: Emit
    ) -> None:
        self.calls.append(call)
        if request.model == "crash":
            await emit(chunk("one"))
            raise RuntimeError(request.messages[0].parts[0].text.text)
        for _ in range(int(request.model)):
            await emit(chunk("x" * 50_000))


def chunk(text: str) -> ChatCompletionChunk:
    return ChatCompletionChunk(events=[ChatEvent(part_delta=PartDelta(text=text))])


async def failure_of(call: Awaitable[object]) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_failure(caught.value)


async def test_a_call_reaches_its_servicer_with_context(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat}, default_timeout=7)
    call = served.chat.CreateChatCompletion(chat_request(), metadata=KEY_METADATA)
    answer = await call
    [context] = chat.calls
    assert answer.id == context.request_id
    assert context.principal.tenant == "tenants/acme"
    assert 6 < context.remaining() <= 7
    assert served.handled("CreateChatCompletion", "OK") == 1


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "API_KEY_MISSING"),
        ((("authorization", "Basic abc"),), "API_KEY_MISSING"),
        ((("authorization", "Bearer "),), "API_KEY_MISSING"),
        ((("authorization", "Bearer sk-gw-other"),), "API_KEY_INVALID"),
    ],
)
async def test_a_call_without_a_good_key_is_unauthenticated(
    serve: Serve, metadata: tuple[tuple[str, str], ...], reason: str
) -> None:
    chat = Chat()
    served = await serve({CHAT: chat})
    failure = await failure_of(served.chat.CreateChatCompletion(chat_request(), metadata=metadata))
    assert (failure.code, failure.reason, failure.domain) == (
        grpc.StatusCode.UNAUTHENTICATED,
        reason,
        "aigateway",
    )
    assert failure.request_id
    assert not chat.calls


@pytest.mark.parametrize("method", list(all_methods()), ids=lambda method: method.name)
async def test_every_rpc_is_refused_without_its_scope(serve: Serve, method: Method) -> None:
    assert method.scopes, "an RPC without a permission is denied to everybody"
    served = await serve({})
    served.scopes -= method.scopes
    failure = await raw_failure(served.channel, method.full_name, b"", method.response_streaming)
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    assert failure.metadata["method"] == method.name
    assert failure.metadata["scopes"] == ",".join(sorted(Scope.Name(scope) for scope in method.scopes))


@pytest.mark.parametrize("method", list(all_methods()), ids=lambda method: method.name)
async def test_every_rpc_is_refused_without_a_key(serve: Serve, method: Method) -> None:
    served = await serve({})
    failure = await raw_failure(served.channel, method.full_name, b"", method.response_streaming, metadata=())
    assert failure.reason == "API_KEY_MISSING"


async def raw_failure(
    channel: grpc.aio.Channel,
    full_name: str,
    data: bytes,
    streaming: bool,
    metadata: tuple[tuple[str, str], ...] = KEY_METADATA,
) -> Failure:
    """How a call with these bytes fails."""
    call: Any = channel.unary_stream if streaming else channel.unary_unary
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if streaming:
            async for _ in call(f"/{full_name}")(data, metadata=metadata):
                pass
        else:
            await call(f"/{full_name}")(data, metadata=metadata)
    return read_failure(caught.value)


async def test_bytes_that_are_no_message_are_an_invalid_request(serve: Serve) -> None:
    served = await serve({CHAT: Chat()})
    failure = await raw_failure(served.channel, f"{CHAT}/CreateChatCompletion", b"\xff\xff", False)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_broken_rules_of_the_contract_name_their_fields(serve: Serve) -> None:
    served = await serve({CHAT: Chat()})
    request = CreateChatCompletionRequest(model="x" * 257, messages=[Message()], labels={"a": "x" * 300})
    failure = await failure_of(served.chat.CreateChatCompletion(request, metadata=KEY_METADATA))
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.violations) == {"model", "messages[0]", "messages[0].role", "labels[a]"}


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\0b"])
def test_a_label_that_no_filter_could_name_is_refused(name: str) -> None:
    chat, embeddings = chat_request(), CreateEmbeddingsRequest(model="m", inputs=[EmbeddingInput(text="x")])
    for full_name, request in (
        (f"{CHAT}/CreateChatCompletion", chat),
        (f"{CHAT}/StreamChatCompletion", chat),
        ("aigateway.v1.EmbeddingsService/CreateEmbeddings", embeddings),
    ):
        method = next(each for each in all_methods() if each.full_name == full_name)
        request.labels.clear()
        request.labels["it's ü. z"] = "x"
        assert parse_request(method, request.SerializeToString()) == request
        request.labels[name] = "x"
        with pytest.raises(GatewayError) as caught:
            parse_request(method, request.SerializeToString())
        assert [violation.field for violation in caught.value.violations] == [f"labels[{name}]"]


async def test_a_refused_model_call_is_on_record(serve: Serve) -> None:
    served = await serve({CHAT: Chat()})
    request = CreateChatCompletionRequest(messages=[Message()])
    failure = await failure_of(served.chat.CreateChatCompletion(request, metadata=KEY_METADATA))
    [(request_id, error)] = served.refusals
    assert (request_id, error.reason_name) == (failure.request_id, "INVALID_REQUEST")


async def test_a_request_over_the_limit_is_refused(serve: Serve) -> None:
    served = await serve({CHAT: Chat()}, max_request_bytes=1000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.chat.CreateChatCompletion(chat_request("x" * 2000), metadata=KEY_METADATA)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("streaming", [False, True])
async def test_no_exception_text_reaches_a_caller_or_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, streaming: bool
) -> None:
    served = await serve({CHAT: Chat()})
    caplog.set_level(logging.DEBUG)
    name = "StreamChatCompletion" if streaming else "CreateChatCompletion"
    data = chat_request("crash").SerializeToString()
    failure = await raw_failure(served.channel, f"{CHAT}/{name}", data, streaming)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "hello" not in failure.message
    assert b"hello" not in failure.raw
    assert "RuntimeError" in caplog.text
    assert failure.request_id in caplog.text
    assert "hello" not in caplog.text


async def test_an_rpc_without_a_servicer_says_that_it_is_not_implemented(serve: Serve) -> None:
    served = await serve({})
    failure = await failure_of(served.chat.CreateChatCompletion(chat_request(), metadata=KEY_METADATA))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    assert failure.metadata == {"feature": "CreateChatCompletion"}


async def test_the_shorter_of_deadline_and_option_ends_a_call(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat})
    request = chat_request("wait")
    request.gateway_options.timeout.FromMilliseconds(150)
    failure = await failure_of(served.chat.CreateChatCompletion(request, metadata=KEY_METADATA, timeout=10))
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert failure.metadata == {"timeout_ms": "150"}
    assert chat.cancelled.is_set()


async def test_a_callers_deadline_is_that_of_the_call_and_ends_it(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat}, default_timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.chat.CreateChatCompletion(chat_request("wait"), metadata=KEY_METADATA, timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(chat.cancelled.wait(), 5)
    assert chat.calls[0].deadline_at - chat.calls[0].started_at <= 0.2


async def test_no_deadline_is_longer_than_the_maximum(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat}, max_timeout=3)
    await served.chat.CreateChatCompletion(chat_request(), metadata=KEY_METADATA, timeout=500)
    assert chat.calls[0].remaining() <= 3


async def test_a_cancelled_call_is_cancelled_in_the_server(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat})
    call = served.chat.CreateChatCompletion(chat_request("wait"), metadata=KEY_METADATA)
    waiting = asyncio.ensure_future(call)
    await asyncio.wait_for(chat.entered.wait(), 5)
    call.cancel()
    await asyncio.wait_for(chat.cancelled.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    while served.admission.in_flight:
        await asyncio.sleep(0.01)
    assert served.handled("CreateChatCompletion", "CANCELLED") == 1


async def test_calls_over_the_limit_are_refused_with_a_time_to_wait(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat}, max_concurrent_calls=1)
    first = served.chat.CreateChatCompletion(chat_request("wait"), metadata=KEY_METADATA)
    waiting = asyncio.ensure_future(first)
    await asyncio.wait_for(chat.entered.wait(), 5)
    failure = await failure_of(served.chat.CreateChatCompletion(chat_request(), metadata=KEY_METADATA))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert failure.metadata == {"limit": "1"}
    assert failure.retry_after == 1
    first.cancel()
    await asyncio.wait([waiting])
    while served.admission.in_flight:
        await asyncio.sleep(0.01)
    await served.chat.CreateChatCompletion(chat_request(), metadata=KEY_METADATA)


async def test_a_closed_admission_says_that_the_gateway_shuts_down(serve: Serve) -> None:
    served = await serve({CHAT: Chat()})
    served.admission.close()
    failure = await failure_of(served.chat.CreateChatCompletion(chat_request(), metadata=KEY_METADATA))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert failure.retry_after == 1


async def test_a_stream_whose_caller_does_not_read_is_ended(serve: Serve) -> None:
    served = await serve({CHAT: Chat()}, stall_timeout=0.3)
    call = served.chat.StreamChatCompletion(chat_request("1000"), metadata=KEY_METADATA)
    await call.read()
    while served.admission.in_flight:  # reads nothing more until the server has given up
        await asyncio.sleep(0.02)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    failure = read_failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "SLOW_READER")
    assert failure.metadata == {"timeout_ms": "300"}


async def test_a_slow_but_steady_reader_gets_everything(serve: Serve) -> None:
    served = await serve({CHAT: Chat()}, stall_timeout=1)
    count = 0
    async for _ in served.chat.StreamChatCompletion(chat_request("60"), metadata=KEY_METADATA):
        count += 1
        await asyncio.sleep(0.02)
    assert count == 60


async def test_a_second_server_on_the_port_fails(serve: Serve) -> None:
    served = await serve({})
    with pytest.raises(OSError, match="cannot listen"):
        await serve({}, address=f"127.0.0.1:{served.server.port}")


@pytest.mark.parametrize("reason", list(CODE_BY_REASON), ids=reason_name)
def test_every_reason_becomes_a_status_that_fits_into_trailers(reason: ErrorReason.ValueType) -> None:
    error = GatewayError(
        reason,
        "x" * 5000,
        metadata={f"key{n}": "ä" * 5000 for n in range(5)},
        retry_after=1.5,
        violations=tuple(FieldViolation("f" * 500, "d" * 500) for _ in range(100)),
    )
    status = status_of(error, "request")
    assert status.code.value[0] == CODE_BY_REASON[reason]
    assert status.reason == reason_name(reason)
    assert sum(len(key) + len(value) for key, value in status.trailing_metadata) < 8000


def test_every_reason_of_the_contract_has_a_code() -> None:
    assert set(CODE_BY_REASON) == set(ErrorReason.values()) - {ErrorReason.ERROR_REASON_UNSPECIFIED}
