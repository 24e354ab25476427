"""A bare relay: gRPC in, HTTP out, plain text only. No keys, no ledger, no limits, no errors worth the name.

It is the floor for anything that translates between the two, over the transport that the gateway uses.
"""

import sys
from collections.abc import Iterable
from typing import Final

import httpx
import orjson

from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatCompletionChunk, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from bench.serving import Context, StreamContext, serve
from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport import HttpResponse, PoolLimits, Timeouts, Transport

_ROLES: Final = {Role.ROLE_SYSTEM: "system", Role.ROLE_USER: "user", Role.ROLE_ASSISTANT: "assistant"}
_TIMEOUTS: Final = Timeouts(connect=5, first_byte=60, idle=60, total=60)
_MAX_RESPONSE_BYTES: Final = 64 * 2**20
_DONE: Final = b"[DONE]"


class Relay:
    """Passes text on to one upstream."""

    def __init__(self, base_url: str) -> None:
        self._url = httpx.URL(f"{base_url}/chat/completions")
        self._headers = ((b"content-type", b"application/json"), (b"accept", b"*/*"))
        self._transport = Transport(limits=PoolLimits(max_connections=1000))

    async def _send(self, request: CreateChatCompletionRequest, *, stream: bool) -> HttpResponse:
        body: dict[str, object] = {
            "model": request.model,
            "messages": [
                {"role": _ROLES[m.role], "content": "".join(part.text.text for part in m.parts)}
                for m in request.messages
            ],
            "temperature": request.generation_config.temperature,
            "max_completion_tokens": request.generation_config.max_output_tokens,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        call = HttpCall(self._url, self._headers, orjson.dumps(body))
        response = await self._transport.send(
            call, timeouts=_TIMEOUTS, max_response_bytes=_MAX_RESPONSE_BYTES
        )
        if response.status != 200:
            await response.aclose()
            raise RuntimeError(f"the upstream answered {response.status}")
        return response

    async def create(self, request: CreateChatCompletionRequest, context: Context) -> ChatCompletion:
        """The upstream's answer: text, finish and two counts."""
        del context
        async with await self._send(request, stream=False) as response:
            answer = orjson.loads(await response.read())
        completion = ChatCompletion(id=answer["id"], model=request.model)
        for given in answer["choices"]:
            choice = completion.choices.add(index=given["index"])
            choice.message.role = Role.ROLE_ASSISTANT
            choice.message.parts.add().text.text = given["message"]["content"]
            choice.finish.provider_reason = given["finish_reason"]
        completion.usage.input_tokens = answer["usage"]["prompt_tokens"]
        completion.usage.output_tokens = answer["usage"]["completion_tokens"]
        return completion

    async def stream(self, request: CreateChatCompletionRequest, context: StreamContext) -> None:
        """One message for all deltas that arrive in one piece of the upstream's answer."""
        rest = b""
        async with await self._send(request, stream=True) as response:
            async for piece in response.chunks():
                *events, rest = (rest + piece).split(b"\n\n")
                chunk = _parse_events(events)
                if chunk.events:
                    await context.write(chunk)


def _parse_events(events: Iterable[bytes]) -> ChatCompletionChunk:
    chunk = ChatCompletionChunk()
    for event in events:
        data = event.removeprefix(b"data: ")
        if data == _DONE:
            break
        for choice in orjson.loads(data)["choices"]:
            if text := choice["delta"].get("content"):
                chunk.events.add().part_delta.text = text
    return chunk


if __name__ == "__main__":
    relay = Relay(sys.argv[1])
    serve(relay.create, relay.stream)
