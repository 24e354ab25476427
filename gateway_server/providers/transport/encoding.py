"""Bodies in gzip or deflate, unpacked piece by piece within limits.

No encoding is asked for: a compressed stream arrives late, since compressors hold text back, and unpacking
costs more than the bytes it saves. Some servers and proxies compress all the same.
"""

import asyncio
import zlib
from typing import Final, Never

from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.providers.transport.messages import BodySource

_GZIP_BITS: Final = 31
_ZLIB_BITS: Final = 15
_RAW_DEFLATE_BITS: Final = -15

#: Most that is unpacked before other tasks get their turn.
_PIECE_BYTES: Final = 256 * 1024
#: Text from models packs 3 to 30 times; deflate reaches 1032 times on one repeated byte.
_MAX_RATIO: Final = 200
_RATIO_COUNTS_FROM: Final = 1024 * 1024
_MAX_GZIP_MEMBERS: Final = 1000


def is_identity(encoding: bytes) -> bool:
    """Whether a content-encoding header leaves the body as it is."""
    return encoding.strip().lower() in {b"", b"identity"}


class DecodedBody:
    """A body source that unpacks another one."""

    def __init__(self, source: BodySource, encoding: bytes, *, max_bytes: int) -> None:
        """Raises TransportError when the encoding is unknown or there are several."""
        self._source = source
        self._max_bytes = max_bytes
        self._inflate: zlib._Decompress | None = None
        self._packed = b""
        self._more = False  # whether the decompressor itself may hold more
        self._members = 1
        self._is_ended = False
        self._wire_bytes = 0
        self._bytes = 0
        match encoding.strip().lower():
            case b"gzip" | b"x-gzip":
                self._inflate = zlib.decompressobj(_GZIP_BITS)
                self._is_gzip = True
            case b"deflate":
                self._is_gzip = False
            case _:
                self._fail(TransportErrorKind.PROTOCOL, "the response has an encoding that was not asked for")

    @property
    def is_ended(self) -> bool:
        """As in BodySource; not before the checks at the end have been made."""
        return self._is_ended

    @property
    def reads_ahead(self) -> bool:
        """As in BodySource."""
        return self._source.reads_ahead

    def take(self) -> bytes:
        """As in BodySource, at most one piece."""
        if piece := self._unpack():
            return piece
        self._feed(self._source.take())
        return self._unpack()

    async def next(self) -> bytes:
        """As in BodySource."""
        try:
            if piece := self._unpack():
                await asyncio.sleep(0)  # few bytes can unfold into much work
                return piece
            while data := await self._source.next():
                self._feed(data)
                if piece := self._unpack():
                    return piece
            self._finish()
        except TransportError:
            await self._source.aclose()
            raise
        return b""

    async def read_all(self) -> bytes:
        """As in BodySource."""
        pieces = []
        while piece := await self.next():
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """As in BodySource."""
        await self._source.aclose()

    def _feed(self, data: bytes) -> None:
        self._packed = self._packed + data if self._packed else data
        self._wire_bytes += len(data)

    def _unpack(self) -> bytes:
        """The next piece, or nothing when more input is needed."""
        while self._packed or self._more:
            inflate = self._inflate or self._start_deflate()
            if inflate is None:
                return b""
            if inflate.eof:
                inflate = self._start_member()
            try:
                piece = inflate.decompress(self._packed, _PIECE_BYTES)
            except zlib.error:
                self._fail(TransportErrorKind.PROTOCOL, "the compressed response is damaged")
            self._packed = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            self._more = len(piece) == _PIECE_BYTES and not inflate.eof
            if piece:
                self._count(piece)
                return piece
        return b""

    def _start_deflate(self) -> "zlib._Decompress | None":
        """Tells zlib's format from bare deflate, which some servers send under the same name."""
        if len(self._packed) < 2:
            return None
        has_zlib_header = self._packed[0] & 0x0F == 8 and int.from_bytes(self._packed[:2], "big") % 31 == 0
        self._inflate = zlib.decompressobj(_ZLIB_BITS if has_zlib_header else _RAW_DEFLATE_BITS)
        return self._inflate

    def _start_member(self) -> "zlib._Decompress":
        """The next of several gzip files in a row, which make one body."""
        self._members += 1
        if not self._is_gzip or self._members > _MAX_GZIP_MEMBERS:
            self._fail(TransportErrorKind.PROTOCOL, "bytes follow the end of the compressed response")
        self._inflate = zlib.decompressobj(_GZIP_BITS)
        return self._inflate

    def _count(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > self._max_bytes:
            self._fail(
                TransportErrorKind.TOO_LARGE, f"the response unpacks to more than {self._max_bytes} bytes"
            )
        if self._bytes > _RATIO_COUNTS_FROM and self._bytes > _MAX_RATIO * self._wire_bytes:
            self._fail(
                TransportErrorKind.TOO_LARGE, f"the response unpacks to over {_MAX_RATIO} times its size"
            )

    def _finish(self) -> None:
        complete = self._inflate is not None and self._inflate.eof
        if self._wire_bytes and not complete:
            self._fail(TransportErrorKind.CUT, "the compressed response ends too early")
        self._is_ended = True

    def _fail(self, kind: TransportErrorKind, message: str) -> Never:
        raise TransportError(kind, message, sent=True, received=True)
