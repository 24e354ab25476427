"""Messages as tables and YAML for people, and as protobuf JSON for programs."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from gateway_server.cli.session import Session

M = TypeVar("M", bound="Message")

#: A column: its heading, and the text of its cell.
Column = tuple[str, Callable[[M], str]]

# What a terminal would act on instead of showing it: C0 but tab and newline, DEL, C1.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: What turns the direction of text round, so that it reads as what it is not.
_DIRECTIONS: Final = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text without what could steer a terminal: models and other callers wrote it.

    What would turn its direction round is shown by its number.
    """
    text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return _DIRECTIONS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show(session: "Session", message: "Message") -> None:
    """Prints one message."""
    text = render_json(message) if session.as_json else render_yaml(message)
    if text:
        print(text)


def show_all(session: "Session", messages: Iterable[M], columns: Sequence[Column[M]]) -> None:
    """Prints a list of messages, as a table with these columns."""
    if session.as_json:
        print(json.dumps([to_json(message) for message in messages], indent=2, ensure_ascii=False))
    else:
        print_table(
            [heading for heading, _ in columns],
            ([cell(message) for _, cell in columns] for message in messages),
        )


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows below headings: aligned, and never cut short when nobody looks on."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def render_json(message: "Message") -> str:
    """One message as indented protobuf JSON."""
    return json.dumps(to_json(message), indent=2, ensure_ascii=False)


def to_json(message: "Message") -> Any:  # noqa: ANN401 -- JSON
    """One message as the values of protobuf JSON."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message)


def render_yaml(message: "Message") -> str:
    """One message as YAML, with the contract's own field names; ``apply`` reads it."""
    import yaml
    from google.protobuf.json_format import MessageToDict

    values = MessageToDict(message, preserving_proto_field_name=True)
    return (
        yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000).rstrip() if values else ""
    )


def time_of(message: "Message", field: str) -> str:
    """A time in UTC to the second; empty when it is not set."""
    if not message.HasField(field):
        return ""
    stamp = getattr(message, field)
    return str(stamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S"))


def enum_words(message: "Message | type[Message]", field: str) -> dict[int, str]:
    """What people call the values of an enum, by number: ``active`` for STATE_ACTIVE of State."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    if enum is None:
        raise AssertionError(f"{field} is no enum")
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {
        value.number: value.name.removeprefix(prefix).lower().replace("_", "-")
        for value in enum.values
        if value.number
    }


def enum_of(message: "Message", field: str) -> str:
    """An enum's value as people call it; empty when it is not set."""
    number = getattr(message, field)
    return enum_words(message, field).get(number, str(number)) if number else ""


def enums_of(message: "Message", field: str) -> list[str]:
    """The values of a list of enums."""
    words = enum_words(message, field)
    return [words.get(number, str(number)) for number in getattr(message, field)]


def optional_of(message: "Message", field: str, render: Callable[[Any], str] = str) -> str:
    """A field as text; empty when it is not set."""
    return render(getattr(message, field)) if message.HasField(field) else ""


def milliseconds_of(message: "Message", field: str) -> str:
    """A duration in whole milliseconds; empty when it is not set."""
    return str(getattr(message, field).ToMilliseconds()) if message.HasField(field) else ""
