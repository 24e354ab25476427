"""Sets the fields of a resource that the options of a command name."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import typer

from gateway_server.cli.output import enum_words

if TYPE_CHECKING:
    from google.protobuf.message import Message

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Edit:
    """Changes to one message. An option that was not given, None or empty, changes nothing."""

    def __init__(self, message: "Message") -> None:
        self._message = message
        self._changed: dict[str, None] = {}

    @property
    def mask(self) -> list[str]:
        """The fields of the message itself that were changed, also where the change is deeper inside."""
        return list(self._changed)

    def mask_or_fail(self) -> list[str]:
        """The mask; raises BadParameter when nothing was changed, because an empty mask means everything."""
        if not self._changed:
            raise typer.BadParameter("name at least one field to change")
        return self.mask

    def set(self, **values: Any) -> "Edit":  # noqa: ANN401 -- as many types as fields have
        """Sets fields: a value, a list that replaces the old one, or a map that replaces the old one."""
        return self.set_in("", **values)

    def set_in(self, path: str, **values: Any) -> "Edit":  # noqa: ANN401 -- as set
        """Sets fields of the message at a path such as ``rate_limits``, and leaves its others as they are."""
        for name, value in values.items():
            if value is None or (isinstance(value, list | dict) and not value):
                continue
            self._changed[(path or name).partition(".")[0]] = None
            holder = self._at(path)
            if isinstance(value, list):
                holder.ClearField(name)
                getattr(holder, name).extend(value)
            elif isinstance(value, dict):
                holder.ClearField(name)
                getattr(holder, name).update(value)
            elif isinstance(value, datetime):
                getattr(holder, name).FromDatetime(value)
            else:
                setattr(holder, name, value)
        return self

    def clear(self, paths: Iterable[str]) -> "Edit":
        """Empties fields; raises BadParameter for one that the message does not have."""
        for path in paths:
            *outer, name = path.split(".")
            if not _has_path(self._message, path):
                raise typer.BadParameter(f"{path}: no such field of {self._message.DESCRIPTOR.name}")
            self._at(".".join(outer)).ClearField(name)
            self._changed[path.partition(".")[0]] = None
        return self

    def _at(self, path: str) -> "Message":
        message = self._message
        for step in path.split(".") if path else ():
            message = getattr(message, step)
            message.SetInParent()
        return message


def _has_path(message: "Message", path: str) -> bool:
    step, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name.get(step)
    if field is None or not rest:
        return field is not None
    return (
        not field.is_repeated and field.message_type is not None and _has_path(getattr(message, step), rest)
    )


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """``key=value`` texts as a map; raises BadParameter for another text."""
    parsed = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not key or not separator:
            raise typer.BadParameter(f"{pair!r} is not key=value")
        parsed[key] = value
    return parsed


def parse_config(pairs: Iterable[str]) -> dict[str, Any]:
    """``key=value`` texts as a map whose values are JSON where they can be read as such, else text."""
    import json

    parsed: dict[str, Any] = {}
    for key, value in parse_pairs(pairs).items():
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value
    return parsed


def parse_enums(message: "type[Message]", field: str, words: Iterable[str]) -> list[int]:
    """The numbers of an enum's values written as ``admin-read``; raises BadParameter naming all there are."""
    numbers = {word: number for number, word in enum_words(message, field).items()}
    parsed = []
    for word in words:
        number = numbers.get(word.lower().replace("_", "-"))
        if number is None:
            raise typer.BadParameter(f"{word!r} is none of: {', '.join(numbers)}")
        parsed.append(number)
    return parsed


def parse_duration(text: str) -> timedelta:
    """``90s``, ``15m``, ``36h`` or ``30d``; raises BadParameter for anything else."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 90s, 15m, 36h or 30d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_time(text: str, *, now: datetime | None = None) -> datetime:
    """A date or time as in ISO 8601, in UTC unless it says otherwise, or how long ago, as in ``36h``."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        try:
            return (now or datetime.now(UTC)) - parse_duration(text)
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{text!r} is neither an ISO date or time nor a span such as 36h"
            ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
