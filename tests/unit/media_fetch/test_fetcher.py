"""One fetch: over real TLS on loopback, where an internet of the test's own leads every public address."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from gateway_server.providers.media_fetch import (
    FetchedMedia,
    MediaFetcher,
    MediaFetchError,
    MediaFetchLimits,
    Network,
)
from gateway_server.providers.media_fetch.media_types import MediaKind
from tests.support.media_host import (
    ADDRESS,
    HOST,
    OTHER_ADDRESS,
    PNG,
    Internet,
    MediaHost,
    answer,
    endless,
    silent,
)

PICTURE = f"https://{HOST}/picture"


def fetcher_of(internet: Internet, **limits: Any) -> MediaFetcher:
    with_defaults = {"max_bytes": 100_000, "seconds": 5.0, "connect_seconds": 2.0, **limits}
    return MediaFetcher(internet.network, MediaFetchLimits(**with_defaults))


async def fetch(
    internet: Internet, uri: str = PICTURE, kind: MediaKind = "image", **limits: Any
) -> FetchedMedia:
    fetcher = fetcher_of(internet, **limits)
    return await fetcher.fetch(uri, kind, fetcher.begin())


async def refusal(internet: Internet, uri: str = PICTURE, kind: MediaKind = "image", **limits: Any) -> str:
    with pytest.raises(MediaFetchError) as raised:
        await fetch(internet, uri, kind, **limits)
    message = str(raised.value)
    for secret in ("127.0.0.1", str(internet.port), *internet.places):
        assert secret not in message
    return message


async def test_what_is_at_the_address_comes_with_its_type(host: MediaHost, internet: Internet) -> None:
    host.paths["/a%20b?x=1"] = answer(PNG, "Image/PNG; q=1")
    fetched = await fetch(internet, f"https://{HOST.upper()}:443/a b?x=1#part")
    assert fetched == FetchedMedia(PNG, "image/png")
    assert "PNG" not in repr(fetched)
    [(path, headers)] = host.requests
    assert path == "/a%20b?x=1"
    assert headers == {
        "host": HOST,
        "accept": "image/png, image/jpeg, image/jpg, image/gif, image/webp, image/heic, image/heif",
        "accept-encoding": "identity",
        "user-agent": "ai-gateway",
        "connection": "close",
    }
    assert internet.lookups == [HOST]
    assert internet.reached == [ADDRESS]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "fd00:ec2::254"])
@pytest.mark.parametrize("place", ["alone", "first", "last"])
async def test_one_address_that_is_not_public_is_enough_to_refuse(
    host: MediaHost, internet: Internet, address: str, place: str
) -> None:
    answers: dict[str, Sequence[str]] = {
        "alone": [address],
        "first": [address, ADDRESS],
        "last": [ADDRESS, OTHER_ADDRESS, address],
    }
    internet.names[HOST] = [answers[place]]
    assert await refusal(internet) == "has a host without a public address"
    assert internet.reached == []
    assert host.connections == 0


async def test_a_host_that_is_not_there_is_told_as_one_that_is_private(internet: Internet) -> None:
    assert await refusal(internet, "https://nowhere.example/x") == "has a host without a public address"
    internet.names[HOST] = [[]]
    assert await refusal(internet) == "has a host without a public address"


async def test_the_real_resolver_finds_this_machine_and_refuses_it(internet: Internet) -> None:
    network = Network((await asyncio.to_thread(Network.public)).resolve, internet.open_transport)
    fetcher = MediaFetcher(network, MediaFetchLimits(max_bytes=1000, seconds=5, connect_seconds=1))
    for name in ("localhost", "127.0.0.1", "[::1]"):
        with pytest.raises(MediaFetchError, match="without a public address"):
            await fetcher.fetch(f"https://{name}/x", "image", fetcher.begin())
    assert internet.reached == []


async def test_a_second_answer_of_the_resolver_is_not_asked_for(host: MediaHost, internet: Internet) -> None:
    internet.names[HOST] = [[ADDRESS], ["127.0.0.1"]]
    assert (await fetch(internet)).data == PNG
    assert internet.lookups == [HOST]
    assert internet.reached == [ADDRESS]
    # The next fetch looks again, and checks again.
    assert await refusal(internet) == "has a host without a public address"
    assert internet.reached == [ADDRESS]


async def test_an_address_that_cannot_be_reached_is_followed_by_the_next(
    host: MediaHost, internet: Internet
) -> None:
    internet.names[HOST] = [["1.1.1.1", OTHER_ADDRESS]]
    assert (await fetch(internet)).data == PNG
    assert internet.reached == ["1.1.1.1", OTHER_ADDRESS]
    assert internet.lookups == [HOST]


async def test_few_addresses_are_tried(internet: Internet) -> None:
    internet.names[HOST] = [[f"1.1.1.{number}" for number in range(1, 9)]]
    assert await refusal(internet) == "has a server that cannot be reached by verified TLS"
    assert len(internet.reached) == 4


@pytest.mark.parametrize("name", ["other.example.com", ADDRESS, f"[{OTHER_ADDRESS}]"])
async def test_the_certificate_has_to_be_for_the_host_of_the_uri(
    host: MediaHost, internet: Internet, name: str
) -> None:
    internet.names[name.strip("[]")] = [[ADDRESS]]
    assert (
        await refusal(internet, f"https://{name}/picture")
        == "has a server that cannot be reached by verified TLS"
    )
    assert host.requests == []


async def test_the_public_network_does_not_trust_the_authority_of_the_test(
    host: MediaHost, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{host.port}")
    public = await asyncio.to_thread(Network.public)
    network = Network(internet.resolve, lambda: internet.lead_by(public.open_transport()))
    fetcher = MediaFetcher(network, MediaFetchLimits(max_bytes=1000, seconds=5, connect_seconds=1))
    with pytest.raises(MediaFetchError, match="verified TLS"):
        await fetcher.fetch(PICTURE, "image", fetcher.begin())
    assert host.requests == []


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_not_followed(host: MediaHost, internet: Internet, status: int) -> None:
    host.paths["/moved"] = answer(b"", status=status, headers={"location": PICTURE})
    message = await refusal(internet, f"https://{HOST}/moved")
    assert message == "has a server that answers with a redirect, and none is followed"
    assert host.asked == ["/moved"]


@pytest.mark.parametrize("status", [201, 204, 206, 401, 404, 500])
async def test_only_an_answer_in_full_will_do(host: MediaHost, internet: Internet, status: int) -> None:
    host.paths["/picture"] = answer(b"" if status == 204 else PNG, "image/png", status=status)
    assert await refusal(internet) == f"has a server that answers with status {status}"


@pytest.mark.parametrize(
    ("kind", "content_type", "is_allowed"),
    [
        ("image", "image/png", True),
        ("image", "IMAGE/JPEG;x=y", True),
        ("image", "image/svg+xml", False),
        ("image", "text/html", False),
        ("image", "application/octet-stream", False),
        ("image", "application/pdf", False),
        ("image", "", False),
        ("image", "image/png, text/html", False),
        ("audio", "audio/mpeg", True),
        ("audio", "video/mp4", False),
        ("video", "video/mp4", True),
        ("video", "audio/mpeg", False),
        ("document", "application/pdf", True),
        ("document", "text/plain; charset=utf-8", True),
        ("document", "application/javascript", False),
        ("document", "image/png", False),
    ],
)
async def test_the_type_has_to_be_one_of_the_kind(
    host: MediaHost, internet: Internet, kind: MediaKind, content_type: str, is_allowed: bool
) -> None:
    host.paths["/it"] = answer(b"it", content_type)
    uri = f"https://{HOST}/it"
    if is_allowed:
        assert (await fetch(internet, uri, kind)).mime_type == content_type.partition(";")[0].lower()
    else:
        assert "media type" in await refusal(internet, uri, kind)


async def test_a_body_that_is_too_long_by_its_length_is_not_read(host: MediaHost, internet: Internet) -> None:
    host.paths["/picture"] = endless("image/png", pause=30, framing="content-length: 100001")
    assert await refusal(internet) == "exceeds the limit of 100000 bytes for fetched media"
    await host.left()


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", "connection: close"])
async def test_a_body_is_counted_while_it_comes(host: MediaHost, internet: Internet, framing: str) -> None:
    host.paths["/picture"] = endless("image/png", framing=framing)
    assert await refusal(internet) == "exceeds the limit of 100000 bytes for fetched media"
    await host.left()
    assert host.sent < 5_000_000  # what stands in buffers, not what would come


async def test_a_body_of_just_the_limit_is_taken(host: MediaHost, internet: Internet) -> None:
    host.paths["/picture"] = answer(b"x" * 100_000, "image/png")
    assert len((await fetch(internet)).data) == 100_000
    host.paths["/picture"] = answer(b"x" * 100_001, "image/png")
    assert "exceeds" in await refusal(internet)


async def test_the_limit_is_for_all_that_a_call_fetches(host: MediaHost, internet: Internet) -> None:
    host.paths["/picture"] = answer(b"x" * 60_000, "image/png")
    fetcher = fetcher_of(internet)
    allowance = fetcher.begin()
    await fetcher.fetch(PICTURE, "image", allowance)
    with pytest.raises(MediaFetchError, match="exceeds the limit of 100000 bytes"):
        await fetcher.fetch(PICTURE, "image", allowance)


@pytest.mark.parametrize("serve", [silent, endless("image/png", pause=0.02)], ids=["silent", "drops"])
async def test_a_server_that_is_slow_is_left_in_time(host: MediaHost, internet: Internet, serve: Any) -> None:
    host.paths["/picture"] = serve
    begin = asyncio.get_running_loop().time()
    assert await refusal(internet, seconds=0.3) == "could not be fetched within 0.3 s"
    assert asyncio.get_running_loop().time() - begin < 2
    await host.left()


async def test_a_resolver_that_is_slow_is_left_in_time(internet: Internet) -> None:
    async def resolve(_: str) -> Sequence[str]:
        await asyncio.sleep(30)
        return [ADDRESS]

    fetcher = MediaFetcher(
        Network(resolve, internet.open_transport),
        MediaFetchLimits(max_bytes=1000, seconds=0.1, connect_seconds=1),
    )
    with pytest.raises(MediaFetchError, match=r"within 0\.1 s"):
        await fetcher.fetch(PICTURE, "image", fetcher.begin())


async def test_who_waits_can_leave(host: MediaHost, internet: Internet) -> None:
    host.paths["/picture"] = silent
    task = asyncio.ensure_future(fetch(internet))
    async with asyncio.timeout(5):
        while not host.requests:
            await asyncio.sleep(0.002)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await host.left()


async def test_who_leaves_during_the_handshake_leaves_no_connection(
    host: MediaHost, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        left.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        monkeypatch.setattr(host, "port", server.sockets[0].getsockname()[1])
        fetching = asyncio.create_task(fetch(internet))
        await came.wait()
        await asyncio.sleep(0.05)
        gc.disable()  # what was only forgotten would be found by it
        try:
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            async with asyncio.timeout(2):
                await left.wait()
        finally:
            gc.enable()


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, identity"])
async def test_nothing_is_unpacked(host: MediaHost, internet: Internet, encoding: str) -> None:
    host.paths["/picture"] = answer(PNG, "image/png", headers={"content-encoding": encoding})
    assert await refusal(internet) == "has a server that encodes what it sends, unasked"


async def test_an_answer_that_breaks_off_is_none(host: MediaHost, internet: Internet) -> None:
    host.paths["/picture"] = answer(PNG, "image/png", headers={"content-length": "1000"})
    assert await refusal(internet) == "has a server whose answer broke off or is no HTTP"
    host.paths["/picture"] = answer(b"", "image/png")
    assert await refusal(internet) == "has nothing in it"


@pytest.mark.parametrize("junk", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000])
async def test_what_is_not_http_is_no_answer(host: MediaHost, internet: Internet, junk: bytes) -> None:
    async def serve(_: MediaHost, writer: asyncio.StreamWriter) -> None:
        writer.write(junk)
        await writer.drain()

    host.paths["/picture"] = serve
    assert await refusal(internet) == "has a server whose answer broke off or is no HTTP"


async def test_a_uri_that_is_never_fetched_is_not_looked_up(internet: Internet) -> None:
    assert "https" in await refusal(internet, f"http://{HOST}/picture")
    assert "port" in await refusal(internet, f"https://{HOST}:8443/picture")
    assert "user" in await refusal(internet, f"https://me:secret@{HOST}/picture")
    assert internet.lookups == []
