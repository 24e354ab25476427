import gzip
import zlib
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.providers.transport import Transport, TransportError, TransportErrorKind
from gateway_server.providers.transport.encoding import DecodedBody
from tests.unit.transport.conftest import PATIENT
from tests.unit.transport.provider import Peer, answering, providing

LIMIT = 8 * 2**20
TEXT = b"".join(b'data: {"n": %d, "text": "some words"}\n\n' % n for n in range(300))


#: Without the time, which would give the tests other names in each process of a run.
pack_gzip = partial(gzip.compress, mtime=0)


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def respond(body: bytes, encoding: str = "gzip") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def read(transport: Transport, answer: bytes, *, whole: bool = True, limit: int = LIMIT) -> bytes:
    async with (
        providing(answering(answer)) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=limit) as response,
    ):
        if whole:
            return await response.read()
        return b"".join([piece async for piece in response.chunks()])


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("gzip", pack_gzip(TEXT), TEXT),
        ("x-gzip", pack_gzip(TEXT), TEXT),
        (" GZIP ", pack_gzip(TEXT), TEXT),
        ("deflate", zlib.compress(TEXT), TEXT),
        ("deflate", deflate_raw(TEXT), TEXT),
        ("identity", TEXT, TEXT),
        ("gzip", pack_gzip(b""), b""),
        ("gzip", b"", b""),
        ("gzip", pack_gzip(b"one ") + pack_gzip(b"two"), b"one two"),
    ],
)
async def test_compressed_body_is_unpacked(
    transport: Transport, encoding: str, body: bytes, text: bytes, whole: bool
) -> None:
    assert await read(transport, respond(body, encoding), whole=whole) == text


async def test_compressed_stream_is_unpacked_as_it_arrives(transport: Transport) -> None:
    packer = zlib.compressobj(wbits=31)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n")
        for word in (b"one", b"two"):
            await peer.send(packer.compress(word) + packer.flush(zlib.Z_SYNC_FLUSH))
            peer.provider.on_request.clear()
            await peer.provider.on_request.wait()  # set by the test: the word was read
        await peer.send(packer.flush())

    async with (
        providing(script) as provider,
        await transport.send(provider.call(), timeouts=PATIENT(), max_response_bytes=LIMIT) as response,
    ):
        chunks = response.chunks()
        for word in (b"one", b"two"):
            assert await anext(chunks) == word
            provider.on_request.set()
        assert [piece async for piece in chunks] == []


@pytest.mark.parametrize(
    ("body", "encoding", "kind"),
    [
        pytest.param(gzip.compress(TEXT)[:-9], "gzip", TransportErrorKind.CUT, id="cut-data"),
        pytest.param(gzip.compress(TEXT)[:-1], "gzip", TransportErrorKind.CUT, id="cut-checksum"),
        pytest.param(b"\x78", "deflate", TransportErrorKind.CUT, id="cut-deflate"),
        pytest.param(b"not gzip at all", "gzip", TransportErrorKind.PROTOCOL, id="not-gzip"),
        pytest.param(
            gzip.compress(TEXT)[:-8] + b"\0" * 8, "gzip", TransportErrorKind.PROTOCOL, id="checksum"
        ),
        pytest.param(gzip.compress(TEXT) + b"more", "gzip", TransportErrorKind.PROTOCOL, id="garbage-behind"),
        pytest.param(
            zlib.compress(TEXT) + b"more", "deflate", TransportErrorKind.PROTOCOL, id="behind-deflate"
        ),
        pytest.param(gzip.compress(b"") * 2000, "gzip", TransportErrorKind.PROTOCOL, id="endless-members"),
        pytest.param(TEXT, "br", TransportErrorKind.PROTOCOL, id="unknown"),
        pytest.param(TEXT, "gzip, gzip", TransportErrorKind.PROTOCOL, id="several"),
        pytest.param(
            gzip.compress(b"\0" * 50_000_000), "gzip", TransportErrorKind.TOO_LARGE, id="bomb-by-ratio"
        ),
        pytest.param(gzip.compress(TEXT * 1000), "gzip", TransportErrorKind.TOO_LARGE, id="bomb-by-size"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_bad_compression_is_an_error(
    transport: Transport, body: bytes, encoding: str, kind: TransportErrorKind, whole: bool
) -> None:
    with pytest.raises(TransportError) as raised:
        await read(transport, respond(body, encoding), whole=whole)
    assert raised.value.kind is kind


async def test_bomb_is_stopped_before_it_unfolds(transport: Transport) -> None:
    bomb = gzip.compress(b"\0" * 100_000_000)
    got = 0
    async with providing(answering(respond(bomb))) as provider:
        with pytest.raises(TransportError):
            async with await transport.send(
                provider.call(), timeouts=PATIENT(), max_response_bytes=1 << 40
            ) as response:
                async for piece in response.chunks():
                    assert len(piece) <= 256 * 1024
                    got += len(piece)
    assert got < 25_000_000


class Pieces:
    """A body source that gives what it was made of."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    @property
    def reads_ahead(self) -> bool:
        return True

    def take(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    @property
    def is_ended(self) -> bool:
        return not self.pieces

    async def next(self) -> bytes:
        return self.take()

    async def read_all(self) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


@given(
    data=st.one_of(st.binary(max_size=4096), st.integers(0, 700_000).map(lambda size: b"ab" * size)),
    packing=st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflate_raw)]),
    cuts=st.lists(st.integers(0, 5000), max_size=20),
)
async def test_cuts_change_nothing(data: bytes, packing: tuple[str, object], cuts: list[int]) -> None:
    name, pack = packing
    packed: bytes = pack(data)  # type: ignore[operator]
    places = sorted({0, len(packed), *(cut % (len(packed) + 1) for cut in cuts)})
    pieces = [packed[a:b] for a, b in pairwise(places)]
    body = DecodedBody(Pieces(pieces), name.encode(), max_bytes=1 << 22)
    if len(data) <= 1 << 20:  # beyond it the ratio counts, and this repeats itself
        assert await body.read_all() == data
        assert await body.next() == b""
        assert body.is_ended


async def test_all_that_arrived_is_given_before_more_is_asked_for() -> None:
    """The decompressor can stop at the size of a piece with all input taken and some output still within."""
    size = 256 * 1024 + 100
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"a" * size) + packer.flush(zlib.Z_SYNC_FLUSH)
    for cut in range(len(packed) - 10, len(packed) + 1):
        body = DecodedBody(Pieces([packed[:cut]]), b"gzip", max_bytes=1 << 22)
        pieces = [body.take(), body.take(), body.take()]
        assert b"".join(pieces) == zlib.decompressobj(31).decompress(packed[:cut])
