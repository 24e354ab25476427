"""The least that a gRPC server in Python can do: constant answers, nothing behind them."""

import asyncio
from typing import Final

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    CreateChatCompletionRequest,
    FinishReason,
)
from aigateway.v1.content_pb2 import Role
from bench.cases import delta_text, parse_stream_model
from bench.serving import Context, StreamContext, serve


def _completion() -> ChatCompletion:
    completion = ChatCompletion(id="empty", model="bench-unary")
    choice = completion.choices.add()
    choice.message.role = Role.ROLE_ASSISTANT
    choice.message.parts.add().text.text = "A lighthouse answers each ship alike. " * 4
    choice.finish.reason = FinishReason.FINISH_REASON_STOP
    completion.usage.input_tokens = 19
    completion.usage.output_tokens = 28
    completion.usage.total_tokens = 47
    return completion


def _chunk(index: int) -> ChatCompletionChunk:
    chunk = ChatCompletionChunk()
    chunk.events.add().part_delta.text = delta_text(index)
    return chunk


_COMPLETION: Final = _completion()
_CHUNKS: Final = [_chunk(index) for index in range(1000)]


async def _create(request: CreateChatCompletionRequest, context: Context) -> ChatCompletion:
    del request, context
    return _COMPLETION


async def _stream(request: CreateChatCompletionRequest, context: StreamContext) -> None:
    """One message for each delta, at the pace that the model's name tells."""
    deltas, pause = parse_stream_model(request.model)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for index in range(deltas):
        if pause and index:
            due += pause
            await asyncio.sleep(due - loop.time())
        await context.write(_CHUNKS[index])


if __name__ == "__main__":
    serve(_create, _stream)
