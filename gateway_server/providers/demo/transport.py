"""The demo provider as an httpx transport for the scheme ``demo``: speaks HTTP, decides nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import httpx
import orjson

from gateway_server.providers.demo.chat import Answer, answer_chat
from gateway_server.providers.demo.commands import DEMO_MODELS, LABEL, DemoFailureError
from gateway_server.providers.demo.embeddings import answer_embeddings

#: Below which its paths are.
DEMO_URL: Final = httpx.URL("demo://demo/v1")

_JSON: Final = {"content-type": "application/json"}
_EVENTS: Final = {"content-type": "text/event-stream"}

Sleep = Callable[[float], Awaitable[None]]


class DemoTransport(httpx.AsyncBaseTransport):
    """Answers every request for a ``demo://`` URL. ``sleep`` takes seconds; tests pass their own."""

    def __init__(self, *, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As in httpx."""
        body = await request.aread()
        try:
            return await self._respond(request.method, request.url.path, body)
        except DemoFailureError as failure:
            headers = {**_JSON, **failure.headers}
            return httpx.Response(failure.status, headers=headers, content=orjson.dumps(failure.body))

    async def _respond(self, method: str, path: str, body: bytes) -> httpx.Response:
        match method, path:
            case "GET", "/v1/models":
                models = [{"id": name, "object": "model", "owned_by": "demo"} for name in DEMO_MODELS]
                return _json({"object": "list", "data": models})
            case "POST", "/v1/embeddings":
                return _json(answer_embeddings(body))
            case "POST", "/v1/chat/completions":
                answer = answer_chat(body)
                if answer.stream:
                    return httpx.Response(200, headers=_EVENTS, stream=_EventStream(answer, self._sleep))
                return await self._respond_whole(answer)
            case _:
                raise DemoFailureError(404, "not_found", "The demo provider has no such path.")

    async def _respond_whole(self, answer: Answer) -> httpx.Response:
        if answer.commands.pause:
            await self._sleep(answer.commands.pause * len(answer.chunks))
        if answer.commands.error_after is not None:
            raise _failure()
        if answer.commands.cut_after is not None:
            raise _cut()
        return _json(answer.whole)


class _EventStream(httpx.AsyncByteStream):
    """A streamed answer; whoever stops reading it stops its making."""

    def __init__(self, answer: Answer, sleep: Sleep) -> None:
        self._answer = answer
        self._sleep = sleep

    async def __aiter__(self) -> AsyncIterator[bytes]:
        commands = self._answer.commands
        for number, chunk in enumerate(self._answer.chunks):
            if number == commands.cut_after:
                raise _cut()
            if number == commands.error_after:
                yield b"data: %b\n\n" % orjson.dumps(_failure().body)
                return
            if commands.pause and number:
                await self._sleep(commands.pause)
            yield b"data: %b\n\n" % orjson.dumps(chunk)
        yield b"data: [DONE]\n\n"


def _json(body: object) -> httpx.Response:
    return httpx.Response(200, headers=_JSON, content=orjson.dumps(body))


def _failure() -> DemoFailureError:
    return DemoFailureError(500, "server_error", f"{LABEL} It fails, as it was told to.")


def _cut() -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError("the demo provider cut the connection, as it was told to")
