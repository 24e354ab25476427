"""A web server with TLS on loopback, and an internet in which public addresses lead to it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from gateway_server.providers.media_fetch import Network
from tests.support.absent import tell_absent
from tests.support.certificates import Authority

#: The host that the certificate is for, and an address that looks public.
HOST: Final = "media.example.com"
ADDRESS: Final = "93.184.215.14"
OTHER_ADDRESS: Final = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

PNG: Final = b"\x89PNG\r\n\x1a\n picture"
PDF: Final = b"%PDF-1.7 paper"
WAV: Final = b"RIFF....WAVE sound"

#: Writes the answer to one request.
Serve = Callable[["MediaHost", asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes, content_type: str = "", *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Serve:
    """A whole answer with its length."""

    async def serve(_: MediaHost, writer: asyncio.StreamWriter) -> None:
        all_headers = {"content-length": str(len(body)), **(headers or {})}
        if content_type:
            all_headers["content-type"] = content_type
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in all_headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return serve


def endless(content_type: str, *, pause: float = 0.0, framing: str = "transfer-encoding: chunked") -> Serve:
    """An answer without end."""

    async def serve(host: MediaHost, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n".encode())
        piece = b"x" * (1 if pause else 4096)
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if "chunked" in framing else piece)
            host.sent += len(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return serve


async def silent(_: MediaHost, writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    await asyncio.sleep(30)


@dataclass
class MediaHost:
    """The server: what it has by path, and what it saw."""

    paths: dict[str, Serve] = field(default_factory=dict)
    port: int = 0
    connections: int = 0
    open: int = 0
    sent: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: Requests under way now, and the most that there were at a time.
    busy: int = 0
    most_busy: int = 0

    def reset(self) -> None:
        """Forgets what was seen, and has the usual files."""
        self.connections = self.sent = self.most_busy = 0
        self.requests.clear()
        self.paths = {
            "/picture": answer(PNG, "image/png"),
            "/paper": answer(PDF, "application/pdf"),
            "/sound": answer(WAV, "audio/wav"),
        }

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for."""
        return [path for path, _ in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection, which is closed after one answer."""
        self.connections += 1
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split(" ")[1]
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            self.requests.append((path, {name.lower(): value for name, value in headers.items()}))
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            serving = asyncio.ensure_future(self.paths.get(path, answer(b"", status=404))(self, writer))
            leaving = asyncio.ensure_future(reader.read(1))
            await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
            for task in (serving, leaving):
                task.cancel()
            await asyncio.gather(serving, leaving, return_exceptions=True)
            self.busy -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side left, as it should where the test says so
        finally:
            self.open -= 1
            writer.close()

    async def left(self) -> None:
        """Returns once no connection is open."""
        async with asyncio.timeout(5):
            while self.open:
                await asyncio.sleep(0.002)


class Internet:
    """Names, and public addresses that lead to a MediaHost. Keeps what was looked up and reached."""

    def __init__(self, host: MediaHost, authority: Authority) -> None:
        #: The answers of the resolver by name, in turn; the last is given again.
        self.names: dict[str, list[Sequence[str]]] = {}
        #: The addresses at which the host is; at others nobody is.
        self.places: set[str] = set()
        self.lookups: list[str] = []
        self.reached: list[str] = []
        self.unclosed = 0
        self._host = host
        self._context = httpx.create_ssl_context(trust_env=False)
        # The default from Python 3.13 on.
        self._context.verify_flags |= ssl.VERIFY_X509_STRICT
        self._context.load_verify_locations(cafile=authority.ca_file)
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen; HOST is at ADDRESS."""
        self.names = {HOST: [[ADDRESS]]}
        self.places = {ADDRESS, OTHER_ADDRESS}
        self.lookups.clear()
        self.reached.clear()

    @property
    def port(self) -> int:
        """Where the host really is."""
        return self._host.port

    @property
    def network(self) -> Network:
        """What a fetcher is given."""
        return Network(self.resolve, self.open_transport)

    async def resolve(self, host: str) -> Sequence[str]:
        """The next answer for a name."""
        self.lookups.append(host)
        answers = self.names.get(host)
        if not answers:
            raise OSError("no such host")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def open_transport(self) -> httpx.AsyncBaseTransport:
        """A transport to this internet, which trusts the authority of the host."""
        return self.lead_by(httpx.AsyncHTTPTransport(verify=self._context, trust_env=False))

    def lead_by(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """A transport to this internet, by way of another one."""
        self.unclosed += 1
        return _ToHost(self, transport)

    def lead(self, request: httpx.Request) -> None:
        """Turns a request to an address into one to where that is."""
        address = request.url.host
        self.reached.append(address)
        if address not in self.places:
            raise httpx.ConnectError("nobody is there")
        request.url = request.url.copy_with(host="127.0.0.1", port=self._host.port)


class _ToHost(httpx.AsyncBaseTransport):
    def __init__(self, internet: Internet, inner: httpx.AsyncBaseTransport) -> None:
        self._internet = internet
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._internet.lead(request)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        self._internet.unclosed -= 1
        await self._inner.aclose()


@asynccontextmanager
async def running_internet(folder: Path) -> AsyncIterator[tuple[MediaHost, Internet]]:
    """A web server for HOST, and the internet that leads to it."""
    if shutil.which("openssl") is None:
        tell_absent("the openssl command, which makes the certificates of these tests")
    authority = await asyncio.to_thread(Authority.make, folder)
    context: ssl.SSLContext = await asyncio.to_thread(
        lambda: authority.server_context("media", alt_names=f"DNS:{HOST}")
    )
    context.set_alpn_protocols(["http/1.1"])
    host = MediaHost()
    host.reset()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0, ssl=context)
    host.port = server.sockets[0].getsockname()[1]
    internet = await asyncio.to_thread(Internet, host, authority)
    try:
        yield host, internet
        await host.left()
        assert internet.unclosed == 0
    finally:
        server.close()
        await server.wait_closed()
