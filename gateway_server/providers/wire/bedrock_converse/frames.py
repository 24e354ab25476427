"""Cuts the bytes of an event stream into its messages, wherever they are cut; both checksums are checked.

botocore reads the messages. Nearly all of a stream have headers that were there before, letter for letter:
of those only the checksums are looked at, which takes a tenth of the time.
"""

from binascii import crc32
from collections.abc import Iterator
from struct import Struct
from struct import error as StructError  # noqa: N812 -- its own name says nothing
from typing import Any, Final

from gateway_server.providers.wire.json_values import MalformedAnswerError

#: The headers of a message and its payload.
Frame = tuple[dict[str, object], bytes]

#: Total length, length of the headers, checksum of both.
_PRELUDE: Final = Struct("!III")
_PRELUDE_BYTES: Final = _PRELUDE.size
_CHECKSUM: Final = Struct("!I")
#: A message without headers and payload.
_MIN_BYTES: Final = 16
#: Kinds of headers that are kept; a stream has about six.
_MAX_KNOWN: Final = 32

_DAMAGED: Final = "a message of the stream is damaged or too large"


class FrameDecoder:
    """Cuts one stream into messages."""

    def __init__(self) -> None:
        # Loaded when a stream is first read: most gateways never need it.
        from botocore.eventstream import EventStreamBuffer, ParserError  # noqa: PLC0415

        self._make_buffer = EventStreamBuffer
        #: What the parser raises for bytes that are no message. Some of it, it does not mean to.
        self._faults = (ParserError, StructError, KeyError, UnicodeDecodeError, StopIteration)
        self._tail = bytearray()
        #: Whether the lengths of the message that the tail begins with have been checked.
        self._is_checked = False
        #: Headers as they stand, and what they say.
        self._known: dict[bytes, dict[str, object]] = {}

    @property
    def is_inside_message(self) -> bool:
        """Whether the bytes so far end in the middle of a message."""
        return bool(self._tail)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The messages that the next bytes complete; raises MalformedAnswerError at the first that is none.

        To be read to its end before more is fed.
        """
        source: bytes | bytearray = data
        if self._tail:
            self._tail += data
            source = self._tail
        position, size = 0, len(source)
        while (left := size - position) >= _PRELUDE_BYTES:
            length, headers_length, checksum = _PRELUDE.unpack_from(source, position)
            if length > left:
                self._check_prelude(bytes(source[position : position + _PRELUDE_BYTES]))
                break
            message = bytes(source[position : position + max(length, _PRELUDE_BYTES)])
            position += len(message)
            self._is_checked = False
            headers_end = _PRELUDE_BYTES + headers_length
            headers = self._known.get(message[_PRELUDE_BYTES:headers_end])
            if headers is None or not _is_whole(message, checksum, headers_end):
                yield self._read(message)
            else:
                yield headers, message[headers_end:-4]
        if source is data:
            self._tail += data[position:]
        else:
            del self._tail[:position]

    def _read(self, message: bytes) -> Frame:
        """Reads a message with headers that are new, or finds what is wrong with it."""
        buffer = self._make_buffer()
        buffer.add_data(message)
        try:
            read: Any = buffer.next()  # its published types are wrong
        except self._faults as error:
            raise MalformedAnswerError(_DAMAGED) from error
        if len(message) < _MIN_BYTES or read.prelude.payload_length < 0:
            raise MalformedAnswerError(_DAMAGED)
        if len(self._known) < _MAX_KNOWN:
            self._known[message[_PRELUDE_BYTES : read.prelude.headers_end]] = read.headers
        return read.headers, read.payload

    def _check_prelude(self, prelude: bytes) -> None:
        """Checks the lengths before their message is waited for: damaged ones would never be reached."""
        if self._is_checked:
            return
        buffer = self._make_buffer()
        buffer.add_data(prelude)
        try:
            buffer.next()
        except StopIteration:
            self._is_checked = True
        except self._faults as error:
            raise MalformedAnswerError(_DAMAGED) from error


def _is_whole(message: bytes, checksum: int, headers_end: int) -> bool:
    """Whether both checksums are right and the lengths do not contradict each other."""
    return (
        len(message) >= headers_end + 4
        and crc32(message[:8]) == checksum
        and crc32(message[:-4]) == _CHECKSUM.unpack_from(message, len(message) - 4)[0]
    )
