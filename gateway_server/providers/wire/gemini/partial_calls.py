"""A function call whose arguments come in pieces, each with the place in the arguments where it belongs.

Only some surfaces stream calls so, and only when asked; the call is put together before it is told.
"""

import re
from itertools import pairwise
from typing import Any, Final

from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_text,
)

#: A step of a JSONPath that names one place: ``.key``, ``['key']``, ``["key"]`` or ``[3]``.
_STEP: Final = re.compile(
    r"""\.(?P<key>[^.\[\]'"]+)|\['(?P<single>(?:[^'\\]|\\.)*)'\]|\["(?P<double>(?:[^"\\]|\\.)*)"\]|\[(?P<index>\d{1,9})\]"""
)
_ESCAPED: Final = re.compile(r"\\(.)")
#: Deeper arguments could not be told as metadata of anything either.
_MAX_DEPTH: Final = 64


class PartialCall:
    """One call while it grows. ``first`` is the piece that named it."""

    def __init__(self, first: JsonObject, signature: bytes, where: str) -> None:
        self.name = get_text(first, "name", where)
        self.call_id = get_text(first, "id", where)
        self.signature = signature
        self.arguments: JsonObject = {}
        #: The place of a text that goes on.
        self._open_path = ""

    def grow(self, piece: JsonObject, where: str) -> bool:
        """Takes the next piece of the call; true once that was the last."""
        name = get_text(piece, "name", where)
        if name and name != self.name:
            raise MalformedAnswerError(f"{where} begins before another call has ended")
        for item in get_list(piece, "partialArgs", where):
            self._put(as_object(item, f"{where}.partialArgs[]"), f"{where}.partialArgs[]")
        return piece.get("willContinue") is not True

    def _put(self, piece: JsonObject, where: str) -> None:
        path = get_text(piece, "jsonPath", where)
        value = _read_value(piece, where)
        steps = _read_steps(path, where)
        target: Any = self.arguments
        for step, following in pairwise(steps):
            target = _enter(target, step, [] if isinstance(following, int) else {}, where)
        if self._open_path == path:
            present = _enter(target, steps[-1], "", where)
            if not isinstance(present, str) or not isinstance(value, str):
                raise MalformedAnswerError(f"{where} goes on with something that is no text")
            value = present + value
        _set(target, steps[-1], value, where)
        self._open_path = path if piece.get("willContinue") is True else ""


def _read_value(piece: JsonObject, where: str) -> object:
    for key in ("stringValue", "numberValue", "boolValue"):
        if key in piece:
            value: object = piece[key]
            return value
    if "nullValue" in piece:
        return None
    raise MalformedAnswerError(f"{where} has no value")


def _read_steps(path: str, where: str) -> list[str | int]:
    steps: list[str | int] = []
    position = 1
    while path.startswith("$") and (match := _STEP.match(path, position)):
        if match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            quoted = match["single"] if match["single"] is not None else match["double"]
            steps.append(match["key"] if quoted is None else _ESCAPED.sub(r"\1", quoted))
        position = match.end()
    if not steps or position != len(path) or len(steps) > _MAX_DEPTH:
        raise MalformedAnswerError(f"{where}.jsonPath is not the path of an argument")
    return steps


def _enter(target: Any, step: str | int, default: object, where: str) -> Any:  # noqa: ANN401 -- JSON
    """What is at a step, made if it is not there yet."""
    if isinstance(step, str) and isinstance(target, dict):
        return target.setdefault(step, default)
    if isinstance(step, int) and isinstance(target, list) and step < len(target):
        return target[step]
    _set(target, step, default, where)
    return default


def _set(target: Any, step: str | int, value: object, where: str) -> None:  # noqa: ANN401 -- JSON
    if isinstance(step, str) and isinstance(target, dict):
        target[step] = value
    elif isinstance(step, int) and isinstance(target, list) and step <= len(target):
        target[step : step + 1] = [value]
    else:
        raise MalformedAnswerError(f"{where}.jsonPath leads nowhere")
