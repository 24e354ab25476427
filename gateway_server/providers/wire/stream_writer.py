"""Numbers the parts of streamed answers and writes their events; every wire format's stream parser uses it.

Pieces of one part that follow each other become one delta: each message to a caller costs far more than
the bytes in it. Text, reasoning and refusals end when something else begins; tool calls and sound stay
open until their choice ends, since providers may go back to them.
"""

from collections.abc import Iterable
from typing import Literal

from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import ChatEvent, Finish, TokenLogprob
from aigateway.v1.content_pb2 import Citation, ContentPart
from aigateway.v1.usage_pb2 import TokenUsage

_TextKind = Literal["text", "reasoning", "refusal"]
_DeltaField = Literal["text", "reasoning_text", "arguments", "transcript"]
_FIELD_BY_KIND: dict[_TextKind, _DeltaField] = {
    "text": "text",
    "reasoning": "reasoning_text",
    "refusal": "text",
}


class StreamWriter:
    """The events of one stream that have not been given out yet."""

    def __init__(self) -> None:
        self.started = False
        self.has_content = False
        self._events: list[ChatEvent] = []
        self._choices: dict[int, ChoiceWriter] = {}

    def start(self, *, response_id: str, model: str) -> None:
        """Opens the stream."""
        event = ChatEvent()
        event.start.served_by.provider_response_id = response_id
        event.start.served_by.provider_model = model
        self._events.append(event)
        self.started = True

    def choice(self, index: int) -> "ChoiceWriter":
        """The writer of one choice, made at its first use."""
        writer = self._choices.get(index)
        if writer is None:
            writer = self._choices[index] = ChoiceWriter(index, self._events)
        return writer

    def take(self) -> list[ChatEvent]:
        """Gives out what has been written since the last time."""
        for writer in self._choices.values():
            writer.flush()
        if not self._events:
            return []
        events = self._events.copy()
        self._events.clear()
        if not self.has_content:
            self.has_content = any(event.WhichOneof("event") != "start" for event in events)
        return events

    def end(self, usage: TokenUsage | None, provider_metadata: Struct | None) -> None:
        """Closes the stream."""
        for writer in self._choices.values():
            writer.flush()
        event = ChatEvent()
        event.end.SetInParent()
        if usage is not None:
            event.end.usage.CopyFrom(usage)
        if provider_metadata is not None:
            event.end.provider_metadata.CopyFrom(provider_metadata)
        self._events.append(event)


class ChoiceWriter:
    """Writes the events of one choice, in the order in which its methods are called."""

    def __init__(self, index: int, events: list[ChatEvent]) -> None:
        self._index = index
        self._events = events
        self._part_count = 0
        self._text_kind: _TextKind | None = None
        self._text_index = 0
        self._open: list[int] = []
        # The delta being gathered: its part, its field and its pieces.
        self._pending_index = 0
        self._pending_field: _DeltaField = "text"
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def text(self, piece: str) -> None:
        """Goes on with the text, or begins one."""
        if self._text_kind != "text":
            self.begin_text("text")
        self._gather(self._text_index, "text", piece)

    def reasoning(self, piece: str, *, is_summary: bool = False) -> None:
        """Goes on with the reasoning, or begins one, which is then a summary or not."""
        if self._text_kind != "reasoning":
            self.begin_text("reasoning", is_summary=is_summary)
        self._gather(self._text_index, "reasoning_text", piece)

    def refusal(self, piece: str) -> None:
        """Goes on with the refusal, or begins one."""
        if self._text_kind != "refusal":
            self.begin_text("refusal")
        self._gather(self._text_index, "text", piece)

    def begin_text(self, kind: _TextKind, *, is_summary: bool = False) -> int:
        """Begins a text, a thought or a refusal, also where one is open already, and returns its index."""
        part = ContentPart()
        getattr(part, kind).SetInParent()
        if is_summary:
            part.reasoning.is_summary = True
        self._text_index = self._begin(part)
        self._text_kind = kind
        return self._text_index

    def logprobs(self, tokens: Iterable[TokenLogprob]) -> None:
        """Adds log probabilities: to the delta being gathered, or to the next."""
        self._logprobs.extend(tokens)

    @property
    def is_in_text(self) -> bool:
        """Whether a text is open, so that it can be cited for."""
        return self._text_kind == "text"

    def cite(self, citations: Iterable[Citation]) -> None:
        """Adds citations to the open text."""
        self.flush()
        for citation in citations:
            event = ChatEvent()
            event.part_delta.choice_index = self._index
            event.part_delta.part_index = self._text_index
            event.part_delta.citation.CopyFrom(citation)
            self._events.append(event)

    def begin(self, part: ContentPart) -> int:
        """Begins a part that may grow until the choice ends, and returns its index."""
        index = self._begin(part)
        self._open.append(index)
        return index

    def whole(self, part: ContentPart) -> None:
        """Writes a part that does not grow."""
        self._end_part(self._begin(part))

    def arguments(self, part_index: int, piece: str) -> None:
        """Goes on with the arguments of a tool call."""
        self._gather(part_index, "arguments", piece)

    def transcript(self, part_index: int, piece: str) -> None:
        """Goes on with the transcript of a sound."""
        self._gather(part_index, "transcript", piece)

    def inline_data(self, part_index: int, piece: bytes) -> None:
        """Goes on with the bytes of a sound, a picture or a moving picture."""
        self.flush()
        event = ChatEvent()
        event.part_delta.choice_index = self._index
        event.part_delta.part_index = part_index
        event.part_delta.inline_data = piece
        self._events.append(event)

    def signature(self, part_index: int, signature: bytes) -> None:
        """Sets what the provider wants back with the part."""
        self.flush()
        event = ChatEvent()
        event.part_delta.choice_index = self._index
        event.part_delta.part_index = part_index
        event.part_delta.provider_signature = signature
        self._events.append(event)

    def flush(self) -> None:
        """Writes the delta being gathered."""
        if not self._pieces:
            return
        event = ChatEvent()
        delta = event.part_delta
        delta.choice_index = self._index
        delta.part_index = self._pending_index
        setattr(delta, self._pending_field, "".join(self._pieces))
        self._pieces.clear()
        if self._logprobs:
            delta.logprobs.extend(self._logprobs)
            self._logprobs.clear()
        self._events.append(event)

    def end_parts(self) -> None:
        """Ends all parts that are open."""
        self.flush()
        self._end_text()
        for index in self._open:
            self._end_part(index)
        self._open.clear()

    def end(self, finish: Finish, provider_metadata: Struct | None) -> None:
        """Ends the choice and all of its parts that are open."""
        self.end_parts()
        event = ChatEvent()
        event.choice_end.choice_index = self._index
        event.choice_end.finish.CopyFrom(finish)
        if provider_metadata is not None:
            event.choice_end.provider_metadata.CopyFrom(provider_metadata)
        event.choice_end.logprobs.extend(self._logprobs)
        self._logprobs.clear()
        self._events.append(event)

    def _gather(self, part_index: int, field: _DeltaField, piece: str) -> None:
        if self._pieces and (self._pending_index != part_index or self._pending_field != field):
            self.flush()
        self._pending_index = part_index
        self._pending_field = field
        self._pieces.append(piece)

    def _begin(self, part: ContentPart) -> int:
        self.flush()
        self._end_text()
        index = self._part_count
        self._part_count += 1
        event = ChatEvent()
        event.part_start.choice_index = self._index
        event.part_start.part_index = index
        event.part_start.part.CopyFrom(part)
        self._events.append(event)
        return index

    def _end_text(self) -> None:
        if self._text_kind is not None:
            self._text_kind = None
            self._end_part(self._text_index)

    def _end_part(self, index: int) -> None:
        event = ChatEvent()
        event.part_end.choice_index = self._index
        event.part_end.part_index = index
        self._events.append(event)
