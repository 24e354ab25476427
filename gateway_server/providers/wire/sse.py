"""Server-sent events: bytes in, events out, wherever the bytes are cut.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html in what a provider may send: all
three line ends, comments, several data lines, a byte order mark. Knows nothing of what an event says.
"""

from typing import Final

#: Bytes of one event, line ends within it included, beyond which the stream is given up.
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024

#: The event's name, empty when it has none, and its data.
SseEvent = tuple[str, bytes]

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """One event exceeds the bound."""


class SseDecoder:
    """Cuts one stream into events."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        #: Whether the body ended in the middle of a line; known once it has ended.
        self.ended_inside_line = False
        self._max = max_event_bytes
        self._tail = bytearray()
        #: Where in the tail an end of event may begin that was not looked for yet.
        self._unsearched = 0
        self._ended_in_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[SseEvent]:
        """Returns the events that the next bytes complete; raises EventTooLargeError."""
        if self._at_start:
            data = self._strip_bom(data)
        if self._ended_in_cr or b"\r" in data:
            data = self._normalise(data)
        # The usual piece is whole events; it is cut without being copied into the tail.
        if not self._tail and data[-2:] == b"\n\n":
            return self._cut(data)
        self._tail += data
        end = self._tail.rfind(b"\n\n", self._unsearched)
        if end < 0:
            # The last byte may be the first half of an end.
            self._unsearched = max(len(self._tail) - 1, 0)
            self._check(self._tail)
            return []
        complete = bytes(self._tail[:end])
        del self._tail[: end + 2]
        self._unsearched = max(len(self._tail) - 1, 0)
        self._check(self._tail)
        return self._cut(complete)

    def close(self) -> list[SseEvent]:
        """Returns the event that the end of the body completes, if its blank line is missing.

        The standard drops such an event; some servers end without the blank line, and a half event
        shows that a stream was cut, so it is for the caller to judge.
        """
        rest = bytes(self._tail)
        self._tail.clear()
        last_line = rest.rpartition(b"\n")[2]
        self.ended_inside_line = bool(last_line) and not last_line.startswith(b":")
        return self._cut(rest)

    def _strip_bom(self, data: bytes) -> bytes:
        data = bytes(self._tail) + data
        self._tail.clear()
        self._unsearched = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._tail += data
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _normalise(self, data: bytes) -> bytes:
        """Makes every line end LF. A CR at the end of a piece is one; a LF that follows it is not another."""
        if self._ended_in_cr and data:
            data = data.removeprefix(b"\n")
            self._ended_in_cr = False
        if data.endswith(b"\r"):
            self._ended_in_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _cut(self, text: bytes) -> list[SseEvent]:
        events: list[SseEvent] = []
        for block in text.split(b"\n\n"):
            self._check(block)
            if block[:6] == b"data: " and b"\n" not in block:
                events.append(("", block[6:]))
            elif block:
                _read_block(block, events)
        return events

    def _check(self, block: bytes | bytearray) -> None:
        # Line ends around an event are not part of it, wherever a cut left them.
        if len(block) > self._max and len(block.strip(b"\n")) > self._max:
            raise EventTooLargeError


def _read_block(block: bytes, events: list[SseEvent]) -> None:
    """Reads the lines of one event; a block of comments, or without data, is none."""
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    if data:
        events.append((name.decode("utf-8", "replace"), b"\n".join(data)))
