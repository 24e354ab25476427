"""Cuts the bytes of an event stream into its messages, wherever they are cut; both checksums are checked.

botocore reads each message. It is handed one whole message at a time, since its own buffer copies all that
it holds for every message and every piece.
"""

from collections.abc import Iterator
from struct import error as StructError  # noqa: N812 -- its own name says nothing
from struct import unpack_from
from typing import Any, Final

from gateway_server.providers.wire.json_values import MalformedAnswerError

#: The headers of a message and its payload.
Frame = tuple[dict[str, object], bytes]

#: Total length, length of the headers, checksum of both.
_PRELUDE_BYTES: Final = 12
#: A message without headers and payload.
_MIN_BYTES: Final = 16

_DAMAGED: Final = "a message of the stream is damaged or too large"


class FrameDecoder:
    """Cuts one stream into messages."""

    def __init__(self) -> None:
        # Loaded when a stream is first read: most gateways never need it.
        from botocore.eventstream import EventStreamBuffer, ParserError  # noqa: PLC0415

        self._buffer = EventStreamBuffer()
        self._make_buffer = EventStreamBuffer
        #: What the parser raises for bytes that are no message. Some of it, it does not mean to.
        self._faults = (ParserError, StructError, KeyError, UnicodeDecodeError)
        self._tail = bytearray()
        #: Whether the lengths of the message that the tail begins with have been checked.
        self._is_checked = False

    @property
    def is_inside_message(self) -> bool:
        """Whether the bytes so far end in the middle of a message."""
        return bool(self._tail)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The messages that the next bytes complete; raises MalformedAnswerError at the first that is none.

        To be read to its end before more is fed.
        """
        self._tail += data
        position = 0
        try:
            while (left := len(self._tail) - position) >= _PRELUDE_BYTES:
                (length,) = unpack_from("!I", self._tail, position)
                if length > left:
                    self._check_prelude(position)
                    break
                end = position + max(length, _PRELUDE_BYTES)
                yield self._read(bytes(self._tail[position:end]), length)
                position = end
                self._is_checked = False
        finally:
            del self._tail[:position]

    def _read(self, message: bytes, length: int) -> Frame:
        self._buffer.add_data(message)
        try:
            read: Any = self._buffer.next()  # its published types are wrong
        except (*self._faults, StopIteration) as error:
            raise MalformedAnswerError(_DAMAGED) from error
        if length < _MIN_BYTES or read.prelude.payload_length < 0:
            raise MalformedAnswerError(_DAMAGED)
        return read.headers, read.payload

    def _check_prelude(self, position: int) -> None:
        """Checks the lengths before their message is waited for: damaged ones would never be reached."""
        if self._is_checked:
            return
        buffer = self._make_buffer()
        buffer.add_data(bytes(self._tail[position : position + _PRELUDE_BYTES]))
        try:
            buffer.next()
        except StopIteration:
            self._is_checked = True
        except self._faults as error:
            raise MalformedAnswerError(_DAMAGED) from error
