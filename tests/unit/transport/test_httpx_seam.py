import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from gateway_server.providers.base import HttpCall
from gateway_server.providers.transport import (
    ProxySettings,
    Transport,
    TransportError,
    TransportErrorKind,
)
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import OK, Peer, keep_answering, providing

LIMIT = 1000
DEMO = HttpCall(httpx.URL("demo://demo/v1/chat"), [(b"x", b"y")], b"body")


class Script(httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised, None waits for ever."""

    def __init__(self, *pieces: bytes | Exception | None) -> None:
        self.pieces = pieces
        self.is_closed = False
        self.is_waiting = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                self.is_waiting.set()
                await asyncio.Event().wait()
            else:
                yield piece

    async def aclose(self) -> None:
        self.is_closed = True


class Demo(httpx.AsyncBaseTransport):
    """Serves a URL scheme within the process."""

    def __init__(self, outcome: Script | Exception | None) -> None:
        self.outcome = outcome
        self.requests: list[tuple[str, str, bytes, bytes]] = []
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(
            (request.method, str(request.url), await request.aread(), request.headers.raw[-1][0])
        )
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is None:
            await asyncio.Event().wait()
        headers = [("Vary", "a"), ("vary", "b")]
        return httpx.Response(200, headers=headers, stream=self.outcome)

    async def aclose(self) -> None:
        self.is_closed = True


async def test_mounted_scheme_is_served_in_the_process(new_transport: Callable[..., Transport]) -> None:
    for read_whole in (True, False):
        body = Script(b"one", b"", b"two")
        demo = Demo(body)
        transport = new_transport(mounts={"demo": demo})
        async with await transport.send(DEMO, timeouts=PATIENT(), max_response_bytes=LIMIT) as response:
            assert (response.status, dict(response.headers)) == (200, {"vary": "a, b"})
            if read_whole:
                assert await response.read() == b"onetwo"
            else:
                assert [piece async for piece in response.chunks()] == [b"one", b"two"]
            assert response.take_available() == b""
            assert (response.is_ended, response.reads_ahead) == (True, False)
        assert demo.requests[0][:3] == ("POST", "demo://demo/v1/chat", b"body")
        assert body.is_closed
        await transport.aclose()
        assert demo.is_closed


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (httpx.ConnectTimeout("secret"), TransportErrorKind.CONNECT_TIMEOUT),
        (httpx.ConnectError("secret"), TransportErrorKind.CONNECT_REFUSED),
        (httpx.ProxyError("secret"), TransportErrorKind.CONNECT_REFUSED),
        (httpx.PoolTimeout("secret"), TransportErrorKind.POOL_TIMEOUT),
        (httpx.UnsupportedProtocol("secret"), TransportErrorKind.INVALID_REQUEST),
        (httpx.ReadTimeout("secret"), TransportErrorKind.FIRST_BYTE_TIMEOUT),
        (httpx.ReadError("secret"), TransportErrorKind.RESET),
        (httpx.WriteError("secret"), TransportErrorKind.RESET),
        (httpx.RemoteProtocolError("secret"), TransportErrorKind.PROTOCOL),
        (Script(b"x", httpx.ReadError("secret")), TransportErrorKind.CUT),
        (Script(b"x", httpx.RemoteProtocolError("secret")), TransportErrorKind.CUT),
        (Script(b"x" * (LIMIT + 1)), TransportErrorKind.TOO_LARGE),
        (None, TransportErrorKind.FIRST_BYTE_TIMEOUT),
    ],
)
async def test_failures_have_the_same_names_as_over_a_socket(
    new_transport: Callable[..., Transport], outcome: Script | Exception | None, kind: TransportErrorKind
) -> None:
    transport = new_transport(mounts={"demo": Demo(outcome)})
    with pytest.raises(TransportError) as raised:
        timeouts = PATIENT(connect=0.05, first_byte=0.05)
        async with await transport.send(DEMO, timeouts=timeouts, max_response_bytes=LIMIT) as response:
            await response.read()
    assert raised.value.kind is kind
    assert "secret" not in str(raised.value)
    unsent = {
        TransportErrorKind.CONNECT_TIMEOUT,
        TransportErrorKind.CONNECT_REFUSED,
        TransportErrorKind.POOL_TIMEOUT,
        TransportErrorKind.INVALID_REQUEST,
    }
    assert raised.value.sent == (kind not in unsent)
    if isinstance(outcome, Script):
        assert outcome.is_closed


@pytest.mark.parametrize(
    ("timeouts", "kind"),
    [
        (PATIENT(idle=0.05), TransportErrorKind.IDLE_TIMEOUT),
        (PATIENT(total=0.05), TransportErrorKind.TOTAL_TIMEOUT),
    ],
)
async def test_pause_within_a_mounted_body_has_its_time(
    new_transport: Callable[..., Transport], timeouts: object, kind: TransportErrorKind
) -> None:
    body = Script(b"one", None)
    transport = new_transport(mounts={"demo": Demo(body)})
    async with await transport.send(DEMO, timeouts=timeouts, max_response_bytes=LIMIT) as response:  # type: ignore[arg-type]
        chunks = response.chunks()
        assert await anext(chunks) == b"one"
        with pytest.raises(TransportError) as raised:
            await anext(chunks)
        assert raised.value.kind is kind
        assert body.is_closed
        with pytest.raises(TransportError):
            await response.read()


async def test_cancel_closes_a_mounted_body(new_transport: Callable[..., Transport]) -> None:
    body = Script(b"one", None)
    transport = new_transport(mounts={"demo": Demo(body)})
    response = await transport.send(DEMO, timeouts=PATIENT(), max_response_bytes=LIMIT)
    task = asyncio.create_task(response.read())
    await body.is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body.is_closed


async def forward(peer: Peer) -> None:
    """A proxy as providers' customers have it: forwards http, opens a tunnel for https (CONNECT)."""
    request = await peer.request()
    method, target, _ = request.head.split(b" ", 2)
    if method == b"CONNECT":
        host, _, port = target.partition(b":")
        established, first_bytes = b"HTTP/1.1 200 Connection established\r\n\r\n", b""
    else:
        url = httpx.URL(target.decode())
        host, port = url.raw_host, str(url.port).encode()
        established, first_bytes = b"", request.head.replace(target, url.raw_path) + request.body
    reader, writer = await asyncio.open_connection(host.decode(), int(port))
    try:
        peer.writer.write(established)
        writer.write(first_bytes)
        await asyncio.wait(
            [
                asyncio.create_task(_pump(peer.reader, writer)),
                asyncio.create_task(_pump(reader, peer.writer)),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        writer.close()
        await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_proxy_of_the_environment_is_used_unless_excepted(
    new_transport: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with providing(keep_answering) as provider, providing(forward) as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        for no_proxy, uses in ((None, 1), ("elsewhere.example", 2), ("127.0.0.1", 2), ("*", 2)):
            if no_proxy is not None:
                monkeypatch.setenv("NO_PROXY", no_proxy)
            transport = new_transport(proxies=None)
            async with await transport.send(
                provider.call("/v1/a%3Ab"), timeouts=PATIENT(), max_response_bytes=LIMIT
            ) as response:
                assert await response.read() == b"ok"
            assert proxy.connections == uses
            await transport.aclose()
        assert {request.head.split()[1] for request in provider.requests} == {b"/v1/a%3Ab"}


async def test_https_goes_through_the_proxy_in_a_tunnel(
    new_transport: Callable[..., Transport], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.support.certificates import LOOPBACK_NAMES, Authority

    authority = Authority.make(tmp_path_factory.mktemp("authority"))
    tls = authority.server_context("server", alt_names=LOOPBACK_NAMES)
    async with providing(keep_answering, tls=tls) as provider, providing(forward) as proxy:
        settings = ProxySettings({"https": f"http://127.0.0.1:{proxy.port}"})
        transport = new_transport(proxies=settings, ca_file=authority.ca_file)
        async with await transport.send(
            provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
        ) as response:
            assert await response.read() == b"ok"
        assert proxy.requests[0].head.startswith(b"CONNECT 127.0.0.1:%d " % provider.port)
        untrusting = new_transport(proxies=settings)
        with pytest.raises(TransportError) as raised:
            await untrusting.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT)
        assert (raised.value.kind, raised.value.sent) == (TransportErrorKind.TLS, False)
        await transport.aclose()
        await untrusting.aclose()


async def test_cancel_closes_the_connection_to_the_proxy(new_transport: Callable[..., Transport]) -> None:
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK[:-1])
        answered.set()
        await peer.gone()

    async with providing(script) as proxy:
        transport = new_transport(proxies=ProxySettings({"http": f"127.0.0.1:{proxy.port}"}))
        call = HttpCall(httpx.URL("http://provider.example/v1"), [], b"")
        response = await transport.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT)
        task = asyncio.create_task(response.read())
        await answered.wait()
        await asyncio.sleep(0.02)  # httpx does not tell when it waits for the network
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(proxy.all_gone.wait(), 0.5)


def test_kind_of_proxy_that_is_not_spoken_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="ALL_PROXY"):
        ProxySettings({"all": "socks5://user:password@127.0.0.1:1080"})
