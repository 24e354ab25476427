"""Reads any bytes as the events of a stream, most of which fit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aigateway.v1.chat_service_pb2 import ChatEvent, FinishReason, PartDelta
from aigateway.v1.content_pb2 import ContentPart


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> bool:
        return self._place < len(self._data)

    def next(self) -> int:
        """The next byte, or 0 after the last."""
        value = self._data[self._place] if self.left else 0
        self._place += 1
        return value

    def index(self) -> int:
        """Mostly small, now and then one that nothing has."""
        value = self.next()
        return (-1, 2**31 - 1, -(2**31), 5)[value % 4] if value > 250 else value % 3

    def text(self) -> str:
        return ("", "a", "é", "\U0001f600", "word " * 9)[self.next() % 5]


def read_events(data: bytes) -> list[ChatEvent]:
    """Events as the bytes say; every sequence of bytes says some."""
    source = _Bytes(data)
    events: list[ChatEvent] = []
    while source.left:
        events.append(_KINDS[source.next() % len(_KINDS)](source))
    return events


def _start(source: _Bytes) -> ChatEvent:
    event = ChatEvent()
    event.start.id = source.text()
    if source.next() % 2:
        event.start.served_by.provider = "providers/a"
        event.start.create_time.seconds = source.next()
    return event


def _part_start(source: _Bytes) -> ChatEvent:
    event = ChatEvent()
    event.part_start.choice_index = source.index()
    event.part_start.part_index = source.index()
    _PARTS[source.next() % len(_PARTS)](event.part_start.part, source)
    return event


def _delta(source: _Bytes) -> ChatEvent:
    event = ChatEvent()
    event.part_delta.choice_index = source.index()
    event.part_delta.part_index = source.index()
    _DELTAS[source.next() % len(_DELTAS)](event.part_delta, source)
    if source.next() % 4 == 0:
        event.part_delta.logprobs.add(token=source.text(), logprob=-0.5)
    return event


def _part_end(source: _Bytes) -> ChatEvent:
    event = ChatEvent()
    event.part_end.choice_index = source.index()
    event.part_end.part_index = source.index()
    return event


def _choice_end(source: _Bytes) -> ChatEvent:
    event = ChatEvent()
    event.choice_end.choice_index = source.index()
    if source.next() % 2:
        event.choice_end.finish.reason = FinishReason.FINISH_REASON_STOP
        event.choice_end.provider_metadata.update({"a": source.text()})
        event.choice_end.logprobs.add(token=source.text())
    return event


def _end(source: _Bytes) -> ChatEvent:
    event = ChatEvent()
    event.end.SetInParent()
    if source.next() % 2:
        event.end.usage.input_tokens = source.next()
        event.end.cost.total_nanos = source.next()
        event.end.attempts.add(provider="providers/a")
    return event


def _unknown(source: _Bytes) -> ChatEvent:
    return ChatEvent()


#: Deltas are most of a stream.
_KINDS: Final[tuple[Callable[[_Bytes], ChatEvent], ...]] = (
    *(_delta, _delta, _delta, _part_start, _part_start, _part_end, _choice_end),
    *(_start, _end, _unknown),
)


def _set_text(part: ContentPart, source: _Bytes) -> None:
    part.text.text = source.text()


def _set_reasoning(part: ContentPart, source: _Bytes) -> None:
    part.reasoning.text = source.text()


def _set_refusal(part: ContentPart, source: _Bytes) -> None:
    part.refusal.text = source.text()


def _set_tool_call(part: ContentPart, source: _Bytes) -> None:
    part.tool_call.tool_name = source.text()
    part.tool_call.arguments = source.text()


def _set_audio(part: ContentPart, source: _Bytes) -> None:
    part.audio.transcript = source.text()
    if source.next() % 2:
        part.audio.source.inline_data = source.text().encode()


def _set_image(part: ContentPart, source: _Bytes) -> None:
    if source.next() % 2:
        part.image.source.uri = "https://example.com/a.png"
    else:
        part.image.SetInParent()


def _set_provider(part: ContentPart, source: _Bytes) -> None:
    part.provider.block_json = source.text()


def _set_nothing(part: ContentPart, source: _Bytes) -> None:
    part.provider_signature = b"s"


_PARTS: Final[tuple[Callable[[ContentPart, _Bytes], None], ...]] = (
    *(_set_text, _set_text, _set_reasoning, _set_refusal, _set_tool_call),
    *(_set_audio, _set_image, _set_provider, _set_nothing),
)


def _grow_text(delta: PartDelta, source: _Bytes) -> None:
    delta.text = source.text()


def _grow_reasoning(delta: PartDelta, source: _Bytes) -> None:
    delta.reasoning_text = source.text()


def _grow_arguments(delta: PartDelta, source: _Bytes) -> None:
    delta.arguments = source.text()


def _grow_data(delta: PartDelta, source: _Bytes) -> None:
    delta.inline_data = source.text().encode()


def _grow_transcript(delta: PartDelta, source: _Bytes) -> None:
    delta.transcript = source.text()


def _cite(delta: PartDelta, source: _Bytes) -> None:
    delta.citation.uri = source.text()


def _sign(delta: PartDelta, source: _Bytes) -> None:
    delta.provider_signature = source.text().encode()


def _grow_by_nothing(delta: PartDelta, source: _Bytes) -> None:
    pass


_DELTAS: Final[tuple[Callable[[PartDelta, _Bytes], None], ...]] = (
    *(_grow_text, _grow_text, _grow_reasoning, _grow_arguments, _grow_data),
    *(_grow_transcript, _cite, _sign, _grow_by_nothing),
)
