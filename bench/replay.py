"""A provider for benchmarks that speaks every format, by the path that it is asked at.

Answers as ``bench/upstream.c`` does, by the name of the model. It is slower, being Python: what is measured
beside it is the gateway's own CPU time, never how fast answers come.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Final

import uvloop

from bench.bodies import FORMATS, stream_pieces, whole_answer
from bench.cases import BURST, PACED, UNARY, delta_text, parse_stream_model

_TYPES_BY_PATH: Final = {
    b"/chat/completions": "openai",
    b"/messages": "anthropic",
    b"/converse": "bedrock",
    b"GenerateContent": "google",
    b"generateContent": "google",
}
_CONTENT_TYPES: Final = {"bedrock": b"application/vnd.amazon.eventstream"}
#: Asked for as streams by their models; whole answers are of the one other model.
_STREAMED: Final = {case.model.encode(): case for case in (BURST, PACED)}

#: The pieces of each stream, each as one HTTP chunk.
Streams = Mapping[tuple[str, str], list[bytes]]


def _make_streams() -> Streams:
    return {
        (provider_type, case.model): [
            b"%x\r\n%b\r\n" % (len(piece), piece)
            for piece in stream_pieces(provider_type, [delta_text(index) for index in range(case.deltas)])
            if piece
        ]
        for provider_type in FORMATS.values()
        for case in _STREAMED.values()
    }


class _Upstream:
    def __init__(self) -> None:
        self._streams = _make_streams()
        self._whole = {
            provider_type: whole_answer(provider_type, f"The keeper of the {UNARY.token}, to be paid.")
            for provider_type in FORMATS.values()
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lowered = head.lower()
                length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(length)
                path = head.split(b" ", 2)[1]
                provider_type = next(name for part, name in _TYPES_BY_PATH.items() if part in path)
                asked = path + body
                case = next((case for model, case in _STREAMED.items() if model in asked), None)
                if case is None:
                    await self._answer(provider_type, writer)
                else:
                    await self._stream(provider_type, case.model, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, provider_type: str, writer: asyncio.StreamWriter) -> None:
        body = self._whole[provider_type]
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        await writer.drain()

    async def _stream(self, provider_type: str, model: str, writer: asyncio.StreamWriter) -> None:
        content_type = _CONTENT_TYPES.get(provider_type, b"text/event-stream")
        pieces = self._streams[provider_type, model]
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % content_type
        )
        _, pause = parse_stream_model(model)
        if not pause:
            writer.write(b"".join(pieces))
        else:
            due = asyncio.get_running_loop().time()
            for piece in pieces:
                writer.write(piece)
                due += pause
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _serve() -> None:
    server = await asyncio.start_server(_Upstream().serve, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
