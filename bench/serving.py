"""What the two reference servers share: the listener, made as the gateway makes its own, and their end."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import grpc
import uvloop

from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatCompletionChunk, CreateChatCompletionRequest
from bench.cases import SERVICE

Context = grpc.aio.ServicerContext[CreateChatCompletionRequest, ChatCompletion]
StreamContext = grpc.aio.ServicerContext[CreateChatCompletionRequest, ChatCompletionChunk]

Unary = Callable[[CreateChatCompletionRequest, Context], Awaitable[ChatCompletion]]
Stream = Callable[[CreateChatCompletionRequest, StreamContext], Awaitable[None]]


async def _serve(unary: Unary, stream: Stream) -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers = {
        "CreateChatCompletion": grpc.unary_unary_rpc_method_handler(
            unary,
            request_deserializer=CreateChatCompletionRequest.FromString,
            response_serializer=ChatCompletion.SerializeToString,
        ),
        "StreamChatCompletion": grpc.unary_stream_rpc_method_handler(
            stream,
            request_deserializer=CreateChatCompletionRequest.FromString,
            response_serializer=ChatCompletionChunk.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()
    await server.stop(None)


def serve(unary: Unary, stream: Stream) -> None:
    """Serves both RPCs on a free port, which it prints, until stdin ends."""
    uvloop.run(_serve(unary, stream))
