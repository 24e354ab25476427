"""The edge where a provider's JSON arrives: typed reading, with causes that quote names and never values."""

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import orjson
from google.protobuf.struct_pb2 import ListValue, Struct, Value

JsonObject = dict[str, Any]

#: Deeper values could not be read again: protobuf refuses messages nested more than a hundred deep.
_MAX_METADATA_DEPTH: Final = 16
_TOO_DEEP: Final = "(nested too deeply)"
_MAX_EXACT_INTEGER: Final = 2**53
_TWO_TO_63: Final = 2.0**63


class MalformedAnswerError(ValueError):
    """A provider's answer breaks its own format. The cause is safe to show: it never quotes the answer."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def parse_object(body: bytes) -> JsonObject:
    """Parses a body that must be one JSON object; raises MalformedAnswerError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedAnswerError(_why_not_json(body)) from error
    if type(value) is not dict:
        raise MalformedAnswerError("the body is not a JSON object")
    return value


def _why_not_json(body: bytes) -> str:
    text = body.lstrip()
    if not text:
        return "the body is empty"
    if text[:1] == b"<":
        return "the body is HTML or XML, not JSON"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "the body is not UTF-8"
    return "the body is not JSON"


def get_object(source: JsonObject, key: str, where: str) -> JsonObject | None:
    """The object under a key, None when it is missing or null."""
    value = source.get(key)
    if value is None or type(value) is dict:
        return value
    raise MalformedAnswerError(f"{where}.{key} is not an object")


def get_list(source: JsonObject, key: str, where: str) -> list[Any]:
    """The list under a key, empty when it is missing or null."""
    value = source.get(key)
    if value is None:
        return []
    if type(value) is list:
        return value
    raise MalformedAnswerError(f"{where}.{key} is not a list")


def get_text(source: JsonObject, key: str, where: str) -> str:
    """The text under a key, empty when it is missing or null."""
    value = source.get(key)
    if value is None:
        return ""
    if type(value) is str:
        return value
    raise MalformedAnswerError(f"{where}.{key} is not text")


def get_count(source: JsonObject, key: str, where: str) -> int:
    """The number of things under a key, 0 when it is missing or null."""
    value = source.get(key)
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise MalformedAnswerError(f"{where}.{key} is not a whole number")
    if not 0 <= value <= _MAX_EXACT_INTEGER:
        raise MalformedAnswerError(f"{where}.{key} is {'negative' if value < 0 else 'too large'}")
    return value


def as_object(value: object, where: str) -> JsonObject:
    """The value, which must be an object."""
    if type(value) is dict:
        return value
    raise MalformedAnswerError(f"{where} is not an object")


def dump_text(value: object, where: str) -> str:
    """Part of an answer as JSON text, key order kept."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise MalformedAnswerError(f"{where} is nested too deeply") from error


class ExactText:
    """The text of an answer, which is read once more when the digits of a long integer are asked for."""

    __slots__ = ("_text", "_value")

    def __init__(self, text: bytes) -> None:
        self._text: bytes | None = text
        self._value: Any = None

    def at(self, path: Sequence[str | int]) -> object:
        """What stands at a place; raises ValueError or RecursionError when it cannot be read."""
        if self._text is not None:
            self._value = json.loads(self._text)
            self._text = None
        value = self._value
        for step in path:
            value = value[step]
        return value


def dump_exactly(value: object, source: ExactText, *path: str | int) -> str:
    """As dump_text, but integers keep all their digits: those that do not fit into 64 bits were rounded.

    ``value`` stands at ``path`` in ``source``, which is read again in the rare case.
    """
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    try:
        if not _holds_large_number(value, float):
            return dump_text(value, where)
    except RecursionError as error:
        raise MalformedAnswerError(f"{where} is nested too deeply") from error
    try:
        exact = source.at(path)
        if not _holds_large_number(exact, int):
            return dump_text(value, where)
        return json.dumps(exact, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError(f"{where} holds a number that is too long") from error


def _holds_large_number(value: object, kind: type[float]) -> bool:
    if type(value) is kind:
        return abs(value) >= _TWO_TO_63
    if type(value) is dict:
        return any(_holds_large_number(item, kind) for item in value.values())
    if type(value) is list:
        return any(_holds_large_number(item, kind) for item in value)
    return False


def to_struct(values: JsonObject) -> Struct:
    """The object as a Struct; what is nested too deeply is replaced by a remark."""
    struct = Struct()
    _fill_struct(struct, values, 1)
    return struct


def _fill_struct(struct: Struct, values: JsonObject, depth: int) -> None:
    for key, value in values.items():
        _fill_value(struct.fields[key], value, depth)


def _fill_list(target: ListValue, values: list[Any], depth: int) -> None:
    for value in values:
        _fill_value(target.values.add(), value, depth)


def _fill_value(target: Value, value: object, depth: int) -> None:
    if type(value) is str:
        target.string_value = value
    elif type(value) is bool:
        target.bool_value = value
    elif value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif type(value) is int or type(value) is float:
        target.number_value = value
    elif depth > _MAX_METADATA_DEPTH:
        target.string_value = _TOO_DEEP
    elif type(value) is dict:
        target.struct_value.SetInParent()
        _fill_struct(target.struct_value, value, depth + 1)
    elif type(value) is list:
        target.list_value.SetInParent()
        _fill_list(target.list_value, value, depth + 1)
    else:
        raise TypeError(f"{type(value).__name__} is not a JSON value")


def from_struct(struct: Struct) -> JsonObject:
    """The Struct as an object. Whole numbers become integers; raises ValueError for what JSON cannot say."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def _from_value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return to_number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case "null_value" | None:
            return None
        case kind:
            raise AssertionError(f"{kind} is not a kind of value")


def to_number(value: float) -> int | float:
    """A double as JSON writes it: whole numbers without a fraction. Raises ValueError unless it is finite."""
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    if value.is_integer() and abs(value) <= _MAX_EXACT_INTEGER:
        return int(value)
    return value
