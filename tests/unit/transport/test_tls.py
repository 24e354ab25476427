import shutil
import ssl
from collections.abc import Callable

import pytest

from gateway_server.providers.transport import Transport, TransportError, TransportErrorKind
from tests.support.absent import tell_absent
from tests.support.certificates import LOOPBACK_NAMES, Authority
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import OK, Peer, Provider, keep_answering, providing

LIMIT = 10 * 2**20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        tell_absent("the openssl command, which makes the certificates of these tests")
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_context(authority: Authority) -> ssl.SSLContext:
    return authority.server_context("server", alt_names=LOOPBACK_NAMES)


@pytest.fixture
async def trusting(new_transport: Callable[..., Transport], authority: Authority) -> Transport:
    return new_transport(ca_file=authority.ca_file)


async def refused(transport: Transport, provider: Provider, *, host: str = "127.0.0.1") -> TransportError:
    with pytest.raises(TransportError) as raised:
        await transport.send(provider.call(host=host), timeouts=PATIENT(), max_response_bytes=LIMIT)
    assert transport.stats()[0].open == 0
    assert not raised.value.sent
    return raised.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_certificate_of_a_given_authority_is_accepted(
    trusting: Transport, server_context: ssl.SSLContext, host: str
) -> None:
    protocols = []

    async def script(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await keep_answering(peer)

    async with providing(script, tls=server_context) as provider:
        for _ in range(5):
            async with await trusting.send(
                provider.call(host=host), timeouts=PATIENT(), max_response_bytes=LIMIT
            ) as response:
                assert await response.read() == b"ok"
        assert provider.connections == 1
        assert protocols == ["http/1.1"]


async def test_unknown_authority_is_refused(transport: Transport, server_context: ssl.SSLContext) -> None:
    async with providing(keep_answering, tls=server_context) as provider:
        error = await refused(transport, provider)
        assert error.kind is TransportErrorKind.TLS
        assert "cannot be verified" in str(error)
        assert provider.requests == []


async def test_certificate_of_another_host_is_refused(trusting: Transport, authority: Authority) -> None:
    other = authority.server_context("other", alt_names="DNS:other.example")
    async with providing(keep_answering, tls=other) as provider:
        for host in ("127.0.0.1", "localhost"):
            assert (await refused(trusting, provider, host=host)).kind is TransportErrorKind.TLS
        assert provider.requests == []


async def test_expired_certificate_is_refused(trusting: Transport, authority: Authority) -> None:
    expired = authority.server_context("expired", alt_names=LOOPBACK_NAMES, days=-1)
    async with providing(keep_answering, tls=expired) as provider:
        error = await refused(trusting, provider)
        assert error.kind is TransportErrorKind.TLS
        assert "expired" in str(error)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_server_that_speaks_no_tls_is_refused(trusting: Transport, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(65536)
        if answer:
            await peer.send(answer)

    async with providing(script) as plain:
        assert (await refused(trusting, Provider("https", plain.port))).kind is TransportErrorKind.TLS


async def test_stalled_handshake_has_the_time_of_connecting(trusting: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with providing(script) as plain:
        with pytest.raises(TransportError) as raised:
            await trusting.send(
                Provider("https", plain.port).call(), timeouts=PATIENT(connect=0.1), max_response_bytes=LIMIT
            )
        assert (raised.value.kind, raised.value.sent) == (TransportErrorKind.CONNECT_TIMEOUT, False)
        await plain.all_gone.wait()


async def test_large_bodies_pass_both_ways_under_backpressure(
    trusting: Transport, server_context: ssl.SSLContext
) -> None:
    size = 8 * 2**20

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            await peer.send(b"x" * 65536)

    async with providing(script, tls=server_context) as provider:
        call = provider.call(body=b"y" * 1_000_000)
        async with await trusting.send(call, timeouts=PATIENT(), max_response_bytes=LIMIT) as response:
            assert sum([len(piece) async for piece in response.chunks()]) == size
        assert len(provider.requests[0].body) == 1_000_000


async def test_cut_and_close_are_seen_through_tls(
    trusting: Transport, server_context: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK if len(peer.provider.requests) == 1 else OK[:-1])

    async with providing(script, tls=server_context) as provider:
        async with await trusting.send(
            provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
        ) as response:
            assert await response.read() == b"ok"
        await provider.all_gone.wait()
        with pytest.raises(TransportError) as raised:
            async with await trusting.send(
                provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT
            ) as response:
                await response.read()
        assert raised.value.kind is TransportErrorKind.CUT
        assert provider.connections == 2


async def test_public_authorities_are_trusted_and_verification_cannot_be_lost() -> None:
    transport = Transport()  # as the gateway makes it
    context = transport._ssl_context
    assert len(context.get_ca_certs()) > 50
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    await transport.aclose()
