"""Looking at providers that cannot be used, over real sockets: each fault is told in one line of its own."""

import asyncio
import json
import shutil
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from functools import partial

import httpx
import pytest

from aigateway.v1.admin_service_pb2 import CheckProviderResponse
from aigateway.v1.provider_pb2 import Provider as ProviderResource
from gateway_server.providers.base import Endpoint
from gateway_server.providers.check import ProviderChecker
from gateway_server.providers.diagnosis import explain_exchange
from gateway_server.providers.registry import build_endpoint
from gateway_server.providers.transport import Timeouts, Transport, TransportError, TransportErrorKind
from tests.support.absent import tell_absent
from tests.support.certificates import LOOPBACK_NAMES, Authority
from tests.unit.transport.provider import Peer, Script, answering, providing

SECRET = "sk-canary-of-the-check"
SHORT = partial(Timeouts, connect=0.3, first_byte=0.3, idle=0.3, total=2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        tell_absent("the openssl command, which makes the certificates of these tests")
    return Authority.make(tmp_path_factory.mktemp("authority"))


async def check(transport: Transport, base_url: str, *, secret: str | None = SECRET) -> CheckProviderResponse:
    provider = ProviderResource(name="providers/p", provider_type="openai", base_url=base_url)

    async def open_endpoint(provider: ProviderResource) -> Endpoint:
        return build_endpoint(provider.provider_type, base_url, lambda: secret, {})

    checked = await ProviderChecker(transport, open_endpoint, timeouts=SHORT()).check(provider)
    assert "\n" not in checked.error_message
    assert SECRET not in checked.error_message
    return checked


async def fault(transport: Transport, base_url: str, *, secret: str | None = SECRET) -> tuple[str, str]:
    """Reason and message of a check that fails."""
    checked = await check(transport, base_url, secret=secret)
    assert not checked.healthy
    assert not checked.provider_models
    return checked.error_reason, checked.error_message


def response(status: int, body: bytes = b"{}", *, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def listing(*names: str) -> bytes:
    return response(200, json.dumps({"data": [{"id": name} for name in names]}).encode())


# No way to a response.


async def test_a_host_that_cannot_be_found(transport: Transport) -> None:
    assert await fault(transport, "http://127.0.0.1%25nosuch:1") == (
        "UPSTREAM_UNAVAILABLE",
        "providers/p: the host of http://127.0.0.1%25nosuch:1 cannot be found (DNS); check base_url",
    )


async def test_a_port_that_nobody_listens_on(transport: Transport) -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reason, message = await fault(transport, f"http://127.0.0.1:{port}")
    assert reason == "UPSTREAM_UNAVAILABLE"
    assert message == (
        f"providers/p: http://127.0.0.1:{port} refuses connections; "
        "check base_url, and whether the server runs"
    )


async def test_a_connection_that_is_not_made_in_time(transport: Transport) -> None:
    with closing(socket.socket()) as full, closing(socket.socket()) as one, closing(socket.socket()) as two:
        # Takes no connections, and its queue is full: the next ones are not answered at all.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for taker in (one, two):
            taker.setblocking(False)
            taker.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        reason, message = await fault(transport, f"http://127.0.0.1:{port}")
    assert reason == "UPSTREAM_TIMEOUT"
    assert message == (
        f"providers/p: no connection to http://127.0.0.1:{port} within 0.3 s; check base_url and firewalls"
    )


async def silent(peer: Peer) -> None:
    await peer.gone()


async def test_a_server_that_says_nothing(transport: Transport) -> None:
    async with providing(silent) as provider:
        reason, message = await fault(transport, f"http://127.0.0.1:{provider.port}")
    assert reason == "UPSTREAM_TIMEOUT"
    assert "takes connections but does not answer within 0.3 s" in message


async def hang_up(peer: Peer) -> None:
    await peer.request()


async def send_nonsense(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"220 mail.example ESMTP\r\n")


async def stall(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")
    await peer.gone()


async def cut(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")


@pytest.mark.parametrize(
    ("script", "reason", "words"),
    [
        (
            hang_up,
            "UPSTREAM_UNAVAILABLE",
            "closes the connection without an answer; is it an https:// address?",
        ),
        (send_nonsense, "UPSTREAM_PROTOCOL_ERROR", "does not answer in HTTP/1.1; is it an https:// address?"),
        (stall, "UPSTREAM_TIMEOUT", "did not complete its answer in time"),
        (cut, "UPSTREAM_PROTOCOL_ERROR", "ended too early"),
    ],
)
async def test_a_server_that_does_not_answer_properly(
    transport: Transport, script: Script, reason: str, words: str
) -> None:
    async with providing(script) as provider:
        told, message = await fault(transport, f"http://127.0.0.1:{provider.port}")
    assert (told, words in message) == (reason, True), message


# TLS.


async def answer_list(peer: Peer) -> None:
    await answering(listing("m"))(peer)


async def test_a_certificate_of_an_unknown_authority(transport: Transport, authority: Authority) -> None:
    server = authority.server_context("server", alt_names=LOOPBACK_NAMES)
    async with providing(answer_list, tls=server) as provider:
        reason, message = await fault(transport, f"https://127.0.0.1:{provider.port}")
    assert reason == "UPSTREAM_UNAVAILABLE"
    assert message == (
        f"providers/p: the certificate of https://127.0.0.1:{provider.port} cannot be verified (TLS): "
        "unable to get local issuer certificate; the setting upstream_ca_file adds a CA"
    )


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        ("DNS:other.example", 2, "certificate is not valid for '127.0.0.1'"),
        (LOOPBACK_NAMES, -1, "certificate has expired"),
    ],
)
async def test_a_certificate_that_is_not_good(
    new_transport: Callable[..., Transport], authority: Authority, names: str, days: int, words: str
) -> None:
    server = authority.server_context("bad", alt_names=names, days=days)
    async with providing(answer_list, tls=server) as provider:
        transport = new_transport(ca_file=authority.ca_file)
        reason, message = await fault(transport, f"https://127.0.0.1:{provider.port}")
    assert reason == "UPSTREAM_UNAVAILABLE"
    assert words in message
    assert "upstream_ca_file" not in message


async def test_https_where_there_is_none(transport: Transport) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reader.read(65536)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with providing(refuse) as provider:
        reason, message = await fault(transport, f"https://127.0.0.1:{provider.port}")
    assert reason == "UPSTREAM_UNAVAILABLE"
    assert message.endswith(
        f"https://127.0.0.1:{provider.port} does not speak TLS; is it an http:// address?"
    )


async def test_http_where_https_is_spoken(transport: Transport, authority: Authority) -> None:
    server = authority.server_context("strict", alt_names=LOOPBACK_NAMES)
    async with providing(answer_list, tls=server) as provider:
        _, message = await fault(transport, f"http://127.0.0.1:{provider.port}")
    assert message.endswith("; is it an https:// address?")


async def test_tls_that_works(new_transport: Callable[..., Transport], authority: Authority) -> None:
    server: ssl.SSLContext = authority.server_context("good", alt_names=LOOPBACK_NAMES)
    async with providing(answer_list, tls=server) as provider:
        transport = new_transport(ca_file=authority.ca_file)
        checked = await check(transport, f"https://127.0.0.1:{provider.port}")
    assert (checked.healthy, list(checked.provider_models)) == (True, ["m"])


# Answers.


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (
            response(401),
            "UPSTREAM_CREDENTIAL_REJECTED",
            "refuses the gateway's credential, or asks for one (HTTP 401)",
        ),
        (
            response(403),
            "UPSTREAM_CREDENTIAL_REJECTED",
            "refuses the gateway's credential, or asks for one (HTTP 403)",
        ),
        (
            response(404),
            "UPSTREAM_REJECTED",
            "has no /v1/models (HTTP 404); check base_url and provider_type",
        ),
        (
            response(405),
            "UPSTREAM_REJECTED",
            "has no /v1/models (HTTP 405); check base_url and provider_type",
        ),
        (
            response(301, headers="location: http://127.0.0.1:1/secret\r\n"),
            "UPSTREAM_PROTOCOL_ERROR",
            "redirects (HTTP 301), which is not followed; set base_url to where it leads",
        ),
        (response(429), "UPSTREAM_RATE_LIMITED", "takes no more requests from the gateway for now"),
        (response(503), "UPSTREAM_UNAVAILABLE", "failed (HTTP 503, server_error)"),
        (
            response(200, b"<!doctype html><title>Welcome</title>"),
            "UPSTREAM_PROTOCOL_ERROR",
            "answers, but not as type openai does (",
        ),
        (response(200, b'{"hello": "world"}'), "UPSTREAM_PROTOCOL_ERROR", "check base_url and provider_type"),
        (response(200, b"[]"), "UPSTREAM_PROTOCOL_ERROR", "check base_url and provider_type"),
    ],
)
async def test_an_answer_that_is_not_the_list_of_models(
    transport: Transport, answer: bytes, reason: str, words: str
) -> None:
    async with providing(answering(answer)) as provider:
        told, message = await fault(transport, f"http://127.0.0.1:{provider.port}")
    assert (told, words in message) == (reason, True), message
    assert message.startswith("providers/p")
    assert "secret" not in message


async def test_a_wrong_path(transport: Transport) -> None:
    async with providing(answering(response(404))) as provider:
        _, message = await fault(transport, f"http://127.0.0.1:{provider.port}/api/wrong")
    assert "has no /api/wrong/models (HTTP 404)" in message


async def test_a_credential_that_is_missing_or_cannot_be_one(transport: Transport) -> None:
    reason, message = await fault(transport, "http://127.0.0.1:1", secret=None)
    assert (reason, message) == (
        "UPSTREAM_CREDENTIAL_REJECTED",
        "providers/p: the gateway's credential for the provider is missing",
    )
    _, message = await fault(transport, "http://127.0.0.1:1", secret=f"{SECRET}\r\nx: y")
    assert message.endswith("holds characters that no API key has")


async def test_settings_that_cannot_be_used(transport: Transport) -> None:
    async def open_endpoint(provider: ProviderResource) -> Endpoint:
        return build_endpoint("openai", "nonsense", lambda: SECRET, {})

    checker = ProviderChecker(transport, open_endpoint)
    checked = await checker.check(ProviderResource(name="providers/p", provider_type="openai"))
    assert checked.error_reason == "INVALID_REQUEST"
    assert checked.error_message.startswith("providers/p: provider.base_url: ")


async def test_a_region_that_does_not_exist() -> None:
    """The host of some types is made of their region; it is then not base_url that is wrong."""
    provider = ProviderResource(name="providers/p", provider_type="bedrock")
    provider.config.update({"region": "eu-nowhere-1"})
    error = TransportError(TransportErrorKind.DNS, "no host", sent=False, received=False)
    url = httpx.URL("https://bedrock.eu-nowhere-1.amazonaws.com/")
    assert explain_exchange(error, provider, url, SHORT()) == (
        "providers/p: the host of https://bedrock.eu-nowhere-1.amazonaws.com cannot be found (DNS); "
        "check config.region"
    )


async def test_a_check_that_is_cancelled_leaves_nothing(transport: Transport) -> None:
    async with providing(silent) as provider:
        task = asyncio.create_task(check(transport, f"http://127.0.0.1:{provider.port}"))
        while not provider.connections:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.all_gone.wait()
