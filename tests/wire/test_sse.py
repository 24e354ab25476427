"""Server-sent events, against examples written out and against a slow reading of the standard."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.providers.wire.sse import EventTooLargeError, SseDecoder, SseEvent


def decode(*pieces: bytes) -> list[SseEvent]:
    decoder = SseDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [("", b"a")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data:  a\n\n", [("", b" a")]),
        (b"data: a\r\n\r\n", [("", b"a")]),
        (b"data: a\r\r", [("", b"a")]),
        (b"data: a\r\ndata: b\n\r\n", [("", b"a\nb")]),
        (b"event: ping\ndata: a\n\n", [("ping", b"a")]),
        (b"data: a\nevent: late\n\n", [("late", b"a")]),
        (b": comment\n\ndata: a\n\n", [("", b"a")]),
        (b": comment\ndata: a\n: another\n\n", [("", b"a")]),
        (b"event: nothing\n\n", []),
        (b"data\n\n", [("", b"")]),
        (b"data:\n\n", [("", b"")]),
        (b"data: a\n\n\n\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b"\n\n\ndata: a\n\n", [("", b"a")]),
        (b"id: 1\nretry: 5\nunknown: x\ndata: a\n\n", [("", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a", [("", b"a")]),
        (b"data: a\n", [("", b"a")]),
        (b"", []),
        (b'{"not": "a stream"}', []),
    ],
)
def test_reads_what_the_standard_allows(body: bytes, events: list[SseEvent]) -> None:
    assert decode(body) == events
    assert decode(*[body[index : index + 1] for index in range(len(body))]) == events


@pytest.mark.parametrize(
    ("body", "inside"),
    [
        (b"data: a", True),
        (b"dat", True),
        (b"data: a\n", False),
        (b"data: a\n\n", False),
        (b": bye", False),
        (b"", False),
    ],
)
def test_tells_whether_the_body_ended_inside_a_line(body: bytes, inside: bool) -> None:
    decoder = SseDecoder()

    decoder.feed(body)
    decoder.close()

    assert decoder.ended_inside_line is inside


def test_a_line_end_cut_in_two_is_one_line_end() -> None:
    assert decode(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [("", b"a\nb")]


def test_gives_an_event_out_as_soon_as_its_blank_line_is_there() -> None:
    decoder = SseDecoder()

    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata: b\n\ndata") == [("", b"a"), ("", b"b")]
    assert decoder.feed(b": c\r\n\r") == [("", b"c")]


lines = st.lists(
    st.sampled_from(
        [
            b"",
            b"",
            b"data: x",
            b"data:y",
            b"data",
            b": note",
            b"event: e",
            b"data: \xc3\xa9",
            b"z: 1",
            b"\xff",
        ]
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(
    lines=lines,
    ends=st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=12, max_size=12),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
def test_cuts_and_line_ends_change_nothing(lines: list[bytes], ends: list[bytes], cuts: list[int]) -> None:
    body = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    places = sorted({0, *(cut for cut in cuts if cut < len(body)), len(body)})
    pieces = [body[start:end] for start, end in pairwise(places)]

    assert decode(*pieces) == read_by_the_book(body)


def read_by_the_book(body: bytes) -> list[SseEvent]:
    """The standard's algorithm, line by line; an event that lacks its blank line counts at the end."""
    events: list[SseEvent] = []
    name, data = b"", list[bytes]()
    for line in [*re.split(rb"\r\n|\r|\n", body), b""]:
        if not line:
            if data:
                events.append((name.decode("utf-8", "replace"), b"\n".join(data)))
            name, data = b"", []
        elif not line.startswith(b":"):
            key, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if key == b"data":
                data.append(value)
            if key == b"event":
                name = value
    return events


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_event_beyond_the_bound_ends_the_stream(line_end: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=1000)
    decoder.feed(b"data: " + b"x" * 900)

    with pytest.raises(EventTooLargeError):
        decoder.feed(b"x" * 200)
    with pytest.raises(EventTooLargeError):
        SseDecoder(max_event_bytes=1000).feed(b"data: " + b"x" * 2000 + line_end * 2)


@pytest.mark.parametrize("blank_lines", [b"", b"\n", b"\n\n\n"])
@pytest.mark.parametrize("size", [1, 7, 1000, 2000])
def test_an_event_of_just_the_bound_is_read_whatever_the_cuts(size: int, blank_lines: bytes) -> None:
    body = blank_lines + b"data: " + b"x" * 994 + b"\n\n" + blank_lines
    decoder = SseDecoder(max_event_bytes=1000)

    pieces = [body[place : place + size] for place in range(0, len(body), size)]

    assert [event for piece in pieces for event in decoder.feed(piece)] == [("", b"x" * 994)]


def test_ten_megabytes_of_one_line_take_linear_time() -> None:
    def seconds(size: int) -> float:
        decoder = SseDecoder()
        began = time.process_time()
        for _ in range(size // 4096):
            assert decoder.feed(b"x" * 4096) == []
        return time.process_time() - began

    small, large = (min(seconds(size) for _ in range(3)) for size in (1_000_000, 10_000_000))

    # Ten times as much; searching from the start at each piece would take a hundred times as long.
    assert large < 40 * max(small, 0.001)
