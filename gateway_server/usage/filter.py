"""Reads the filters of usage queries: as much of AIP-160 (https://google.aip.dev/160) as the contract names.

    filter     = [ comparison { "AND" comparison } ]
    comparison = field ( "=" | "!=" ) value
    field      = name | "labels" "." ( name | string )
    value      = string | word

A string stands in double or single quotes; a backslash in it takes the next character as it is.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway_server.errors import GatewayError, invalid_request
from gateway_server.resource_names import parse_api_key, parse_provider
from gateway_server.storage.usage_records import Condition

#: More conditions than a person writes; each costs the database work on every row.
MAX_CONDITIONS: Final = 32

_FIELD: Final = "filter"
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator>!=|=)
      | (?P<word>[^\s"'=!<>:()]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_TEXT_FIELDS: Final = frozenset(
    {"model", "method", "provider_model", "error_reason", "end_user_id", "environment"}
)
_KNOWN_FIELDS: Final = (*sorted({*_TEXT_FIELDS, "api_key", "provider", "status_code"}), "labels.NAME")
_LABELS: Final = "labels."
_MAX_INT32: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int


def parse_filter(text: str) -> tuple[Condition, ...]:
    """The conditions, all of which must hold; raises INVALID_REQUEST that tells where reading ended."""
    tokens = _tokens(text)
    conditions: list[Condition] = []
    place = 0
    while place < len(tokens):
        if conditions:
            if (tokens[place].kind, tokens[place].text) != ("word", "AND"):
                raise _fault(tokens[place], "AND is expected")
            place += 1
        condition, place = _parse_comparison(tokens, place, len(text))
        conditions.append(condition)
    if len(conditions) > MAX_CONDITIONS:
        raise invalid_request(_FIELD, f"has more than {MAX_CONDITIONS} comparisons")
    return tuple(conditions)


def _parse_comparison(tokens: list[_Token], place: int, end: int) -> tuple[Condition, int]:
    """The comparison that begins at ``place``, and the place behind it."""
    parts = [*tokens[place : place + 4], *3 * [_Token("end", "", end)]]
    field, behind = _parse_field(parts)
    operator, value = parts[behind : behind + 2]
    if operator.kind != "operator":
        raise _fault(operator, "= or != is expected")
    if value.kind not in {"word", "string"} or (value.kind == "word" and value.text == "AND"):
        raise _fault(value, "a value is expected")
    equal = operator.text == "="
    if field.kind == "label":
        return Condition("labels", value.text, equal=equal, label=field.text), place + behind + 2
    return _condition(field, value, equal=equal), place + behind + 2


def _parse_field(parts: list[_Token]) -> tuple[_Token, int]:
    """The field, a label as a token of that kind, and how many tokens it takes."""
    first, second = parts[:2]
    if first.kind != "word" or first.text == "AND":
        raise _fault(first, "the name of a field is expected")
    if first.text == _LABELS and second.kind == "string" and second.place == first.place + len(_LABELS):
        if not second.text or '"' in second.text or "\\" in second.text:
            raise _fault(second, "a label without double quotes and backslashes is expected")
        return _Token("label", second.text, second.place), 2
    if first.text.startswith(_LABELS) and first.text != _LABELS:
        return _Token("label", first.text.removeprefix(_LABELS), first.place), 1
    return first, 1


def _condition(field: _Token, value: _Token, *, equal: bool) -> Condition:
    match field.text:
        case "status_code":
            return Condition("status_code", _parse_code(value), equal=equal)
        case "api_key":
            parse_api_key(value.text, field=_FIELD)
            return Condition("api_key", value.text, equal=equal)
        case "provider":
            provider_id = parse_provider(value.text, field=_FIELD) if value.text else ""
            return Condition("provider", provider_id, equal=equal)
        case ("model" | "method" | "provider_model" | "error_reason" | "end_user_id" | "environment") as name:
            return Condition(name, value.text, equal=equal)
    raise _fault(field, f"there is no field {field.text!r}; there are {', '.join(_KNOWN_FIELDS)}")


def _parse_code(value: _Token) -> int:
    if value.kind != "word" or not value.text.isascii() or not value.text.isdecimal():
        raise _fault(value, "a whole number is expected")
    code = int(value.text) if len(value.text) < 12 else _MAX_INT32 + 1
    if code > _MAX_INT32:
        raise _fault(value, "the number is too large")
    return code


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    end = len(text.rstrip())
    place = 0
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _fault(
                _Token("", "", place + len(text[place:]) - len(text[place:].lstrip())), "cannot be read"
            )
        kind = match.lastgroup
        token = match.group(kind)
        if kind == "string":
            token = re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
        found.append(_Token(kind, token, match.start(kind)))
        place = match.end()
    return found


def _fault(token: _Token, description: str) -> GatewayError:
    return invalid_request(_FIELD, f"at character {token.place + 1}: {description}")
