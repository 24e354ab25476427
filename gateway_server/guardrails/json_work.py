"""How much work JSON in answers, and what providers report beside them, is where rules judge texts.

Each of its names and values is judged by itself, and the shortest of them takes as long as a sentence.
"""

from collections.abc import Iterable
from typing import Final

from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from aigateway.v1.content_pb2 import ContentPart, MediaSource

#: So many characters of prose are judged in the time that a text takes however short it is, as a value does.
CHARACTERS_OF_TEXT: Final = 250
#: What a short field of a Struct takes: more values than in so many bytes there hardly are.
_BYTES_OF_FIELD: Final = 20


def json_work(answer: ChatCompletion, *, is_json: bool) -> int:
    """In characters of prose that take as long; ``is_json`` tells that the texts were to be JSON."""
    return _in_struct(answer.provider_metadata) + sum(
        _in_struct(choice.provider_metadata)
        + sum(_in_part(part, is_json=is_json) for part in choice.message.parts)
        for choice in answer.choices
    )


def json_work_of(events: Iterable[ChatEvent], *, is_json: bool) -> int:
    """The same of events of a stream."""
    return sum(
        _in_part(event.part_start.part, is_json=is_json)
        + _in_text(event.part_delta.arguments)
        + (_in_text(event.part_delta.text) if is_json else 0)
        + _in_struct(event.choice_end.provider_metadata)
        + _in_struct(event.end.provider_metadata)
        for event in events
    )


def _in_part(part: ContentPart, *, is_json: bool) -> int:
    work = _in_text(part.provider.block_json)
    if not part.tool_call.free_form:
        work += _in_text(part.tool_call.arguments)
    if is_json:
        work += _in_text(part.text.text)
    if part.HasField("document"):
        work += _in_media(part.document.source)
    return work + sum(_in_part(each, is_json=is_json) for each in part.tool_result.parts)


def _in_media(source: MediaSource) -> int:
    """Without decoding it, which takes long: bytes of text have at least as many quotes and commas."""
    data = source.inline_data
    encoded = len(source.uri) if source.uri[:5].lower() == "data:" else 0
    written = data.count(b'"') // 2 + data.count(b",") + encoded // _BYTES_OF_FIELD
    return _in_text(source.inline_text) + CHARACTERS_OF_TEXT * written


def _in_struct(struct: Struct) -> int:
    return CHARACTERS_OF_TEXT * (struct.ByteSize() // _BYTES_OF_FIELD)


def _in_text(text: str) -> int:
    return CHARACTERS_OF_TEXT * values_in(text)


def values_in(text: str) -> int:
    """How many names and values JSON has, at most."""
    # Strings are between quotes, and what is none is parted by commas: some count twice.
    return text.count('"') // 2 + text.count(",")
