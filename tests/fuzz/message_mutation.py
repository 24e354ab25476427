"""Makes and changes messages of any type by walking their fields, so that a new field is fuzzed, too."""

from __future__ import annotations

from random import Random
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.json_mutation import mutate_bytes, mutate_json

_MAX_DEPTH: Final = 12
_INT32S: Final = (0, 1, -1, 2, 5, 100, 2**31 - 1, -(2**31))
_INT64S: Final = (*_INT32S, 10**9, 315_576_000_000, 2**53 + 1, 2**63 - 1, -(2**63))
_UNSIGNED: Final = (0, 1, 2, 100, 2**32 - 1)
_DOUBLES: Final = (0.0, -0.0, 1.0, 0.3, -2.0, 2.0, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
_TEXTS: Final = (
    *(
        "",
        "a",
        " ",
        "é",
        "\U0001f600",
        "\x00",
        "x" * 65,
        "x" * 257,
        "openai",
        "vllm",
        "web_search",
        "get_weather",
    ),
    *("call_1", "text/plain", "audio/wav", "image/png", "https://example.com/a.png", "file:///etc/passwd"),
    *(
        '{"type":"object","properties":{"a":{"type":"string"}}}',
        "{}",
        "[]",
        "{",
        '{"a":' * 300 + "1" + "}" * 300,
    ),
    *("tenants/a", "tenants/a/apiKeys/b", "providers/p/models/m", "-", "tenants/-", "display_name", "*"),
    *(
        'model = "a" AND labels.team != b',
        'labels."a b"=c',
        "model=",
        "me@example.com",
        "Europe/Berlin",
        "a\nb",
    ),
)


def make_message(message_type: type[Message], random: Random, *, depth: int = 0) -> Message:
    """A message with some of its fields set."""
    message = message_type()
    fields: list[FieldDescriptor] = list(cast("Descriptor", message_type.DESCRIPTOR).fields)
    for field in fields:
        if random.random() < (0.6 if depth < 3 else 0.3):
            _set(message, field, random, depth)
    return message


def mutate_message(data: bytes, message_type: type[Message], random: Random) -> bytes:
    """The message in ``data`` with some fields changed; bytes that are no message have bytes changed."""
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError:
        message.Clear()
    if random.random() < 0.05:
        return mutate_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        _mutate(message, random, 0)
    try:
        return message.SerializeToString()
    except ValueError:  # nested deeper than it writes
        return mutate_bytes(data, random)


def _mutate(message: Message, random: Random, depth: int) -> None:
    """Goes down to some message and changes a field of it."""
    descriptor = message.DESCRIPTOR
    below = [child for field, value in message.ListFields() for child in _children(field, value)]
    if below and random.random() < 0.75:
        _mutate(random.choice(below), random, depth + 1)
        return
    if not descriptor.fields:
        return
    fields: list[FieldDescriptor] = list(cast("Descriptor", descriptor).fields)
    present: list[FieldDescriptor] = [field for field, _ in message.ListFields()]
    field = random.choice(present if present and random.random() < 0.5 else fields)
    if random.random() < 0.2:
        message.ClearField(field.name)
    elif random.random() < 0.3 and field in present:
        _alter(message, field, random)
    else:
        _set(message, field, random, depth)


def _children(field: FieldDescriptor, value: Any) -> list[Message]:
    if field.message_type is None:
        return []
    if field.message_type.GetOptions().map_entry:
        return list(value.values()) if field.message_type.fields_by_name["value"].message_type else []
    return list(value) if field.is_repeated else [value]


def _alter(message: Message, field: FieldDescriptor, random: Random) -> None:
    """Changes a text a little, doubles a list, or sets a field anew."""
    value = getattr(message, field.name)
    if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
        if len(value) < 200:
            value.extend(list(value))
    elif field.type == FieldDescriptor.TYPE_STRING:
        change = mutate_json if value[:1] in {"{", "["} else mutate_bytes
        setattr(message, field.name, change(value.encode(), random).decode("utf-8", "ignore"))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(message, field.name, mutate_bytes(value, random))
    else:
        _set(message, field, random, 0)


def _set(message: Message, field: FieldDescriptor, random: Random, depth: int) -> None:
    if depth >= _MAX_DEPTH and field.message_type:
        return
    if field.message_type and field.message_type.GetOptions().map_entry:
        _set_map_entry(message, field, random, depth)
    elif field.is_repeated:
        items = getattr(message, field.name)
        for _ in range(random.choice((1, 1, 2, 3))):
            if field.message_type:
                items.append(make_message(GetMessageClass(field.message_type), random, depth=depth + 1))
            else:
                items.append(_leaf(field, random))
    elif field.message_type:
        getattr(message, field.name).CopyFrom(
            make_message(GetMessageClass(field.message_type), random, depth=depth + 1)
        )
    else:
        setattr(message, field.name, _leaf(field, random))


def _set_map_entry(message: Message, field: FieldDescriptor, random: Random, depth: int) -> None:
    assert field.message_type is not None
    key = _leaf(field.message_type.fields_by_name["key"], random)
    value = field.message_type.fields_by_name["value"]
    entries = getattr(message, field.name)
    if value.message_type:
        entries[key].CopyFrom(make_message(GetMessageClass(value.message_type), random, depth=depth + 1))
    else:
        entries[key] = _leaf(value, random)


def _leaf(field: FieldDescriptor, random: Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return random.choice(_TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return random.choice((b"", b"a", b"\xff\xfe", b"RIFF" + bytes(8), b"x" * 300))
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            return random.choice([*(value.number for value in field.enum_type.values), 0, 99])
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return random.choice(_DOUBLES)
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_SINT32 | FieldDescriptor.TYPE_SFIXED32:
            return random.choice(_INT32S)
        case FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_SINT64 | FieldDescriptor.TYPE_SFIXED64:
            return random.choice(_INT64S)
        case _:
            return random.choice(_UNSIGNED)
