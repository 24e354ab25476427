"""Arbitrary answers, and a splitter that cuts one into a stream at random: the reverse of the fold."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from hypothesis import strategies as st

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
from aigateway.v1.content_pb2 import Message as Turn

_LEAVES = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(max_size=12),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=12),
}
_Whole = TypeVar("_Whole", str, bytes)
_Item = TypeVar("_Item")
# Deep enough for a citation's location inside a tool result inside a part of a choice.
_MAX_DEPTH = 8


@st.composite
def completions(draw: st.DrawFn) -> ChatCompletion:
    """Any answer that a unary RPC may return: every field and every kind of part, set or not."""
    completion = cast(ChatCompletion, draw(messages(ChatCompletion.DESCRIPTOR)))
    del completion.choices[:]
    for index in range(draw(st.integers(0, 3))):
        # Parts are what streams are about, so each choice has some, whatever the walk leaves out.
        choice = cast(Choice, draw(messages(Choice.DESCRIPTOR, 1)))
        parts = draw(st.lists(messages(ContentPart.DESCRIPTOR, 3), min_size=1, max_size=3))
        choice.index = index
        choice.message.CopyFrom(Turn(role=Role.ROLE_ASSISTANT, parts=cast(list[ContentPart], parts)))
        completion.choices.append(choice)
    return completion


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Any message of a type, made by walking its fields, so that a new field is tested as it comes."""
    message = GetMessageClass(descriptor)()
    if descriptor is Struct.DESCRIPTOR:
        cast(Struct, message).update(
            draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
        )
        return message
    for field in _chosen_fields(draw, descriptor, depth):
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = _LEAVES[field.message_type.fields_by_name["value"].type]
            getattr(message, field.name).update(draw(st.dictionaries(st.text(max_size=5), value, max_size=2)))
        elif field.is_repeated:
            values = draw(st.lists(_values(field, depth), max_size=3))
            getattr(message, field.name).extend(values)
        elif field.message_type:
            getattr(message, field.name).CopyFrom(draw(_values(field, depth)))
        else:
            setattr(message, field.name, draw(_values(field, depth)))
    return message


def _chosen_fields(draw: st.DrawFn, descriptor: Descriptor, depth: int) -> Iterator[FieldDescriptor]:
    """Each plain field or not, one member of each oneof or none; a content part always has a kind."""
    coin: st.SearchStrategy[bool] = st.booleans()
    for oneof in descriptor.oneofs:
        members = [field for field in oneof.fields if depth < _MAX_DEPTH or not field.message_type]
        must = descriptor is ContentPart.DESCRIPTOR
        if must or (members and draw(coin)):
            yield draw(st.sampled_from(members or [oneof.fields[0]]))
    for field in descriptor.fields:
        allowed = field.containing_oneof is None and (depth < _MAX_DEPTH or not field.message_type)
        if allowed and draw(coin):
            yield field


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type:
        return messages(field.message_type, depth + 1)
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return _LEAVES[field.type]


def split(completion: ChatCompletion, random: Random) -> list[ChatEvent]:
    """Cuts an answer into the events of a stream, at random places and in a random legal order."""
    start = StreamStart(id=completion.id, model=completion.model)
    end = StreamEnd(guardrail_results=completion.guardrail_results, attempts=completion.attempts)
    _copy_if_set(completion, start, "create_time", "served_by")
    _copy_if_set(completion, end, "usage", "cost", "provider_metadata")
    choices = [_split_choice(choice, random) for choice in completion.choices]
    return [ChatEvent(start=start), *_interleave(choices, random), ChatEvent(end=end)]


def pack(events: list[ChatEvent], random: Random) -> list[ChatCompletionChunk]:
    """Puts events into messages, some into one."""
    chunks: list[ChatCompletionChunk] = []
    for event in events:
        if not chunks or random.random() < 0.5:
            chunks.append(ChatCompletionChunk())
        chunks[-1].events.append(event)
    return chunks


def _split_choice(choice: Choice, random: Random) -> list[ChatEvent]:
    queues = [
        _split_part(choice.index, place, part, random) for place, part in enumerate(choice.message.parts)
    ]
    events: list[ChatEvent] = []
    started: list[list[ChatEvent]] = []
    while queues or any(started):
        # Parts start in their order, but may grow side by side, as parallel tool calls do.
        running = [queue for queue in started if queue]
        if queues and (not running or random.random() < 0.3):
            started.append(queues.pop(0))
            events.append(started[-1].pop(0))
        else:
            events.append(random.choice(running).pop(0))
    ending = ChoiceEnd(choice_index=choice.index)
    _copy_if_set(choice, ending, "finish", "provider_metadata")
    logprobs = list(choice.logprobs)
    for event in events:
        if event.WhichOneof("event") == "part_delta":
            count = random.randint(0, len(logprobs))
            event.part_delta.logprobs.extend(logprobs[:count])
            del logprobs[:count]
    ending.logprobs.extend(logprobs)
    return [*events, ChatEvent(choice_end=ending)]


def _split_part(choice_index: int, part_index: int, part: ContentPart, random: Random) -> list[ChatEvent]:
    """The events of one part: its start with any prefix, the rest in deltas, and an end or not."""
    head = ContentPart()
    head.CopyFrom(part)
    growing: list[list[PartDelta]] = []
    match part.WhichOneof("kind"):
        case "text":
            head.text.text, pieces = _cut(part.text.text, random)
            growing.append([PartDelta(text=piece) for piece in pieces])
            kept = random.randint(0, len(part.text.citations))
            del head.text.citations[kept:]
            growing.append([PartDelta(citation=citation) for citation in part.text.citations[kept:]])
        case "refusal":
            head.refusal.text, pieces = _cut(part.refusal.text, random)
            growing.append([PartDelta(text=piece) for piece in pieces])
        case "reasoning":
            head.reasoning.text, pieces = _cut(part.reasoning.text, random)
            growing.append([PartDelta(reasoning_text=piece) for piece in pieces])
        case "tool_call":
            head.tool_call.arguments, pieces = _cut(part.tool_call.arguments, random)
            growing.append([PartDelta(arguments=piece) for piece in pieces])
        case "audio":
            growing.append(_split_source(head.audio.source, random))
            head.audio.transcript, pieces = _cut(part.audio.transcript, random)
            growing.append([PartDelta(transcript=piece) for piece in pieces])
        case "image" | "video" as kind:
            growing.append(_split_source(getattr(head, kind).source, random))
    if part.provider_signature and random.random() < 0.5:
        head.provider_signature = random.choice([b"", b"early"])
        growing.append([PartDelta(provider_signature=part.provider_signature)])
    events = [ChatEvent(part_start=PartStart(choice_index=choice_index, part_index=part_index, part=head))]
    for delta in _interleave(growing, random):
        delta.choice_index, delta.part_index = choice_index, part_index
        events.append(ChatEvent(part_delta=delta))
    if len(events) > 1 or random.random() < 0.5:
        events.append(ChatEvent(part_end=PartEnd(choice_index=choice_index, part_index=part_index)))
    return events


def _split_source(source: MediaSource, random: Random) -> list[PartDelta]:
    """Takes a tail off the inline bytes of a source, or all of them and the field's presence with them."""
    if source.WhichOneof("location") != "inline_data":
        return []
    source.inline_data, pieces = _cut(source.inline_data, random)
    if pieces and not source.inline_data and random.random() < 0.5:
        source.ClearField("inline_data")
    return [PartDelta(inline_data=piece) for piece in pieces]


def _cut(whole: _Whole, random: Random) -> tuple[_Whole, list[_Whole]]:
    """A first piece, which may be empty or all, and the others, some of which may be empty."""
    cuts: list[int] = sorted(random.randint(0, len(whole)) for _ in range(random.randint(0, 4)))
    pieces = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    return pieces[0], pieces[1:]


def _interleave(queues: list[list[_Item]], random: Random) -> Iterator[_Item]:
    """Mixes lists at random, each keeping its own order."""
    remaining = [list(queue) for queue in queues if queue]
    while remaining:
        queue = random.choice(remaining)
        yield queue.pop(0)
        if not queue:
            remaining.remove(queue)


def _copy_if_set(source: Message, target: Message, *names: str) -> None:
    for name in names:
        if source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))
