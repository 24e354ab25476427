"""Folds the events of a stream into the answer that the unary RPC would have returned.

Takes time linear in the number of events: what grows is kept in pieces and joined when it is asked for.
"""

from collections.abc import Iterable

from aigateway.errors import StreamProtocolError
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatEvent,
    Choice,
    ChoiceEnd,
    PartDelta,
    PartEnd,
    PartStart,
    StreamEnd,
    StreamStart,
)
from aigateway.v1.content_pb2 import ContentPart, MediaSource, Role


def fold_events(events: Iterable[ChatEvent]) -> ChatCompletion:
    """Returns the answer of a complete stream; raises StreamProtocolError when it is not one."""
    accumulator = ChatAccumulator()
    for event in events:
        accumulator.add(event)
    if not accumulator.finished:
        raise StreamProtocolError("the stream stopped without an end event")
    return accumulator.completion


class ChatAccumulator:
    """The answer so far, one event after another."""

    def __init__(self) -> None:
        self._head = ChatCompletion()
        self._choices: dict[int, _Choice] = {}
        self._snapshot: ChatCompletion | None = None
        self._started = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the end event has come, and with it usage and cost."""
        return self._finished

    @property
    def completion(self) -> ChatCompletion:
        """The answer so far, as a message of its own: events that come later do not change it.

        Putting it together takes time in proportion to the answer, so ask when it is needed, not after
        every event.
        """
        if self._snapshot is None:
            self._snapshot = ChatCompletion()
            self._snapshot.CopyFrom(self._head)
            self._snapshot.choices.extend(self._choices[index].join() for index in sorted(self._choices))
        return self._snapshot

    def part_kind(self, choice_index: int, part_index: int) -> str | None:
        """The kind of a part that has begun, as the oneof names it; None when there is no such part."""
        choice = self._choices.get(choice_index)
        return choice.part_kind(part_index) if choice else None

    def add_chunk(self, chunk: ChatCompletionChunk) -> None:
        """Adds all events of one message of the stream."""
        for event in chunk.events:
            self.add(event)

    def add(self, event: ChatEvent) -> None:
        """Adds one event; raises StreamProtocolError, and changes nothing, when it does not fit."""
        kind = event.WhichOneof("event")
        if self._finished:
            raise StreamProtocolError(f"{kind} came after the end of the stream")
        if self._started is (kind == "start"):
            raise StreamProtocolError("start came twice" if self._started else f"{kind} came before start")
        match kind:
            case "part_delta":
                self._open_choice(event.part_delta).grow_part(event.part_delta)
            case "part_end":
                self._open_choice(event.part_end).end_part(event.part_end)
            case "part_start":
                self._start_part(event.part_start)
            case "choice_end":
                self._end_choice(event.choice_end)
            case "start":
                self._start(event.start)
            case "end":
                self._end(event.end)
            case None:
                raise StreamProtocolError("an event of a kind that this version of the SDK does not know")
            case unreachable:
                raise StreamProtocolError(f"{unreachable} is not a kind of event")
        self._snapshot = None

    def _open_choice(self, event: PartDelta | PartEnd) -> "_Choice":
        choice = self._choices.get(event.choice_index)
        if choice is None:
            raise StreamProtocolError(f"choice {event.choice_index} has no part {event.part_index}")
        return choice

    def _start_part(self, event: PartStart) -> None:
        choice = self._known_or_new_choice(event.choice_index)
        choice.start_part(event)
        self._choices[event.choice_index] = choice

    def _end_choice(self, event: ChoiceEnd) -> None:
        choice = self._known_or_new_choice(event.choice_index)
        choice.end(event)
        self._choices[event.choice_index] = choice

    def _known_or_new_choice(self, index: int) -> "_Choice":
        if index < 0:
            raise StreamProtocolError(f"{index} is not the index of a choice")
        return self._choices.get(index) or _Choice(index)

    def _start(self, start: StreamStart) -> None:
        self._started = True
        self._head.id = start.id
        self._head.model = start.model
        if start.HasField("create_time"):
            self._head.create_time.CopyFrom(start.create_time)
        if start.HasField("served_by"):
            self._head.served_by.CopyFrom(start.served_by)

    def _end(self, end: StreamEnd) -> None:
        unfinished = [index for index, choice in self._choices.items() if not choice.ended]
        if unfinished:
            raise StreamProtocolError(f"the stream ended before choice {unfinished[0]} did")
        self._finished = True
        if end.HasField("usage"):
            self._head.usage.CopyFrom(end.usage)
        if end.HasField("cost"):
            self._head.cost.CopyFrom(end.cost)
        if end.HasField("provider_metadata"):
            self._head.provider_metadata.CopyFrom(end.provider_metadata)
        self._head.guardrail_results.extend(end.guardrail_results)
        self._head.attempts.extend(end.attempts)


class _Choice:
    """One answer while it grows."""

    def __init__(self, index: int) -> None:
        self.ended = False
        self._message = Choice(index=index)
        self._message.message.role = Role.ROLE_ASSISTANT
        self._parts: list[_Part] = []

    def join(self) -> Choice:
        """Puts all pieces into the message and returns it; it stays the accumulator's own."""
        for part in self._parts:
            part.join()
        return self._message

    def part_kind(self, index: int) -> str | None:
        return self._parts[index].kind if 0 <= index < len(self._parts) else None

    def start_part(self, event: PartStart) -> None:
        if self.ended:
            raise self._fault(event.part_index, "came after the choice had ended")
        if event.part_index != len(self._parts):
            raise self._fault(event.part_index, f"was started in the place of part {len(self._parts)}")
        if event.part.WhichOneof("kind") is None:
            raise self._fault(event.part_index, "is of a kind that this version of the SDK does not know")
        part = self._message.message.parts.add()
        part.CopyFrom(event.part)
        self._parts.append(_Part(part))

    def grow_part(self, event: PartDelta) -> None:
        fault = self._open_part(event.part_index).grow(event)
        if fault:
            raise self._fault(event.part_index, fault)
        if event.logprobs:
            self._message.logprobs.extend(event.logprobs)

    def end_part(self, event: PartEnd) -> None:
        self._open_part(event.part_index).ended = True

    def end(self, event: ChoiceEnd) -> None:
        if self.ended:
            raise StreamProtocolError(f"choice {event.choice_index} ended twice")
        # A part that came whole needs no end of its own.
        self.ended = True
        if event.HasField("finish"):
            self._message.finish.CopyFrom(event.finish)
        if event.HasField("provider_metadata"):
            self._message.provider_metadata.CopyFrom(event.provider_metadata)
        self._message.logprobs.extend(event.logprobs)

    def _open_part(self, index: int) -> "_Part":
        if not 0 <= index < len(self._parts):
            raise self._fault(index, "was never started")
        part = self._parts[index]
        if part.ended or self.ended:
            raise self._fault(index, "grew or ended after it had ended")
        return part

    def _fault(self, part_index: int, what: str) -> StreamProtocolError:
        return StreamProtocolError(f"part {part_index} of choice {self._message.index} {what}")


class _Part:
    """One part while it grows: the message, and pieces that are not in it yet."""

    __slots__ = ("_data", "_message", "_text", "_transcript", "ended", "kind")

    def __init__(self, message: ContentPart) -> None:
        self.kind = message.WhichOneof("kind")
        self.ended = False
        self._message = message
        self._text: list[str] = []
        self._transcript: list[str] = []
        self._data: list[bytes] = []

    def grow(self, event: PartDelta) -> str | None:
        """Appends what came; returns what is wrong when it does not fit the part."""
        delta = event.WhichOneof("delta")
        match delta, self.kind:
            case "text", "text" | "refusal":
                self._text.append(event.text)
            case "arguments", "tool_call":
                self._text.append(event.arguments)
            case "reasoning_text", "reasoning":
                self._text.append(event.reasoning_text)
            case "inline_data", "audio" | "image" | "video":
                if self._source().WhichOneof("location") not in {None, "inline_data"}:
                    return "has no inline data to grow"
                self._data.append(event.inline_data)
            case "transcript", "audio":
                self._transcript.append(event.transcript)
            case "citation", "text":
                self._message.text.citations.append(event.citation)
            case "provider_signature", _:
                self._message.provider_signature = event.provider_signature
            case None, _:
                return "grew by something that this version of the SDK does not know"
            case _:
                return f"is {self.kind} and cannot grow by {delta}"
        return None

    def join(self) -> None:
        """Moves the pieces into the message."""
        if self._text:
            tail = "".join(self._text)
            match self.kind:
                case "text":
                    self._message.text.text += tail
                case "refusal":
                    self._message.refusal.text += tail
                case "reasoning":
                    self._message.reasoning.text += tail
                case "tool_call":
                    self._message.tool_call.arguments += tail
                case kind:
                    raise AssertionError(f"{kind} does not grow by text")
            self._text.clear()
        if self._transcript:
            self._message.audio.transcript += "".join(self._transcript)
            self._transcript.clear()
        if self._data:
            source = self._source()
            source.inline_data += b"".join(self._data)
            self._data.clear()

    def _source(self) -> MediaSource:
        match self.kind:
            case "audio":
                return self._message.audio.source
            case "image":
                return self._message.image.source
            case "video":
                return self._message.video.source
            case kind:
                raise AssertionError(f"{kind} has no bytes that grow")
