"""Reads the filters of usage queries: as much of AIP-160 (https://google.aip.dev/160) as the contract names.

    filter     = [ sequence ]
    sequence   = choice { "AND" choice }
    choice     = factor { "OR" factor }
    factor     = [ "NOT" ] ( "(" sequence ")" | comparison )
    comparison = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
    field      = name | "labels" "." ( name | string )
    value      = string | word

OR binds tighter than AND, as AIP-160 has it. Only numbers and durations have an order. A string stands in
double or single quotes; a backslash in it takes the next character as it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway_server.errors import GatewayError, invalid_request
from gateway_server.resource_names import parse_api_key, parse_provider
from gateway_server.storage.usage_records import (
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Not,
    Order,
    conditions_in,
)

#: More conditions than a person writes; each costs the database work on every row.
MAX_CONDITIONS: Final = 32

_FIELD: Final = "filter"
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator>!=|<=|>=|=|<|>)
      | (?P<bracket>[()])
      | (?P<word>[^\s"'=!<>:()]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_TEXT_FIELDS: Final = frozenset(
    {"model", "method", "provider_model", "error_reason", "end_user_id", "environment"}
)
#: Numbers, and their columns.
_NUMBER_FIELDS: Final = {
    "status_code": "status_code",
    "usage.input_tokens": "input_tokens",
    "usage.output_tokens": "output_tokens",
    "usage.total_tokens": "total_tokens",
    "cost.total_nanos": "cost_nanos",
}
#: Durations, such as 1.5s or 200ms, and their columns in microseconds.
_DURATION_FIELDS: Final = {
    "latency": "latency_micros",
    "time_to_first_token": "time_to_first_token_micros",
}
_KNOWN_FIELDS: Final = (
    *sorted({*_TEXT_FIELDS, "api_key", "provider", *_NUMBER_FIELDS, *_DURATION_FIELDS}),
    "labels.NAME",
)
_KEYWORDS: Final = frozenset({"AND", "OR", "NOT"})
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s)")
#: Deeper than a person nests.
_MAX_DEPTH: Final = 16
_LABELS: Final = "labels."
_MAX_INT64: Final = 2**63 - 1
_MAX_INT32: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int


def parse_filter(text: str) -> tuple[Filter, ...]:
    """What must hold, all of it; raises INVALID_REQUEST that tells where reading ended."""
    tokens = _tokens(text)
    if not tokens:
        return ()
    found, place = _parse_sequence(tokens, 0, len(text), depth=0)
    if place < len(tokens):
        raise _fault(tokens[place], "AND or OR is expected")
    if sum(1 for _ in conditions_in(found)) > MAX_CONDITIONS:
        raise invalid_request(_FIELD, f"has more than {MAX_CONDITIONS} comparisons")
    return found


def _parse_sequence(
    tokens: list[_Token], place: int, end: int, *, depth: int
) -> tuple[tuple[Filter, ...], int]:
    """What is joined by AND from ``place`` on, and the place behind it."""
    all_of: list[Filter] = []
    while True:
        any_of: list[Filter] = []
        while True:
            factor, place = _parse_factor(tokens, place, end, depth=depth)
            any_of.append(factor)
            if not _is_word(tokens, place, "OR"):
                break
            place += 1
        all_of.append(any_of[0] if len(any_of) == 1 else AnyOf(tuple(any_of)))
        if not _is_word(tokens, place, "AND"):
            return tuple(all_of), place
        place += 1


def _parse_factor(tokens: list[_Token], place: int, end: int, *, depth: int) -> tuple[Filter, int]:
    if _is_word(tokens, place, "NOT"):
        factor, place = _parse_positive(tokens, place + 1, end, depth=depth)
        return Not(factor), place
    return _parse_positive(tokens, place, end, depth=depth)


def _parse_positive(tokens: list[_Token], place: int, end: int, *, depth: int) -> tuple[Filter, int]:
    if place >= len(tokens) or (tokens[place].kind, tokens[place].text) != ("bracket", "("):
        return _parse_comparison(tokens, place, end)
    if depth >= _MAX_DEPTH:
        raise _fault(tokens[place], "there are too many brackets within each other")
    found, place = _parse_sequence(tokens, place + 1, end, depth=depth + 1)
    closing = tokens[place] if place < len(tokens) else _Token("end", "", end)
    if (closing.kind, closing.text) != ("bracket", ")"):
        raise _fault(closing, "AND, OR or ) is expected")
    return (found[0] if len(found) == 1 else AllOf(found)), place + 1


def _is_word(tokens: list[_Token], place: int, word: str) -> bool:
    return place < len(tokens) and (tokens[place].kind, tokens[place].text) == ("word", word)


def _parse_comparison(tokens: list[_Token], place: int, end: int) -> tuple[Condition, int]:
    """The comparison that begins at ``place``, and the place behind it."""
    parts = [*tokens[place : place + 4], *3 * [_Token("end", "", end)]]
    field, behind = _parse_field(parts)
    operator, value = parts[behind : behind + 2]
    if operator.kind != "operator":
        raise _fault(operator, "= or != is expected")
    if value.kind not in {"word", "string"} or (value.kind == "word" and value.text in _KEYWORDS):
        raise _fault(value, "a value is expected")
    return _condition(field, operator, value), place + behind + 2


def _parse_field(parts: list[_Token]) -> tuple[_Token, int]:
    """The field, a label as a token of that kind, and how many tokens it takes."""
    first, second = parts[:2]
    if first.kind != "word" or first.text in _KEYWORDS:
        raise _fault(first, "the name of a field is expected")
    if first.text == _LABELS and second.kind == "string" and second.place == first.place + len(_LABELS):
        if not second.text or '"' in second.text or "\\" in second.text:
            raise _fault(second, "a label without double quotes and backslashes is expected")
        return _Token("label", second.text, second.place), 2
    if first.text.startswith(_LABELS) and first.text != _LABELS:
        return _Token("label", first.text.removeprefix(_LABELS), first.place), 1
    return first, 1


def _condition(field: _Token, operator: _Token, value: _Token) -> Condition:
    equal = operator.text != "!="
    order = _ORDERS.get(operator.text)
    if field.kind != "label" and field.text in _NUMBER_FIELDS:
        largest = _MAX_INT32 if field.text == "status_code" else _MAX_INT64
        number = _parse_number(value, largest=largest)
        return Condition(_NUMBER_FIELDS[field.text], number, equal=equal, order=order)
    if field.kind != "label" and field.text in _DURATION_FIELDS:
        return Condition(_DURATION_FIELDS[field.text], _parse_duration(value), equal=equal, order=order)
    if order is not None:
        raise _fault(operator, "= or != is expected: only numbers and durations have an order")
    if field.kind == "label":
        return Condition("labels", value.text, equal=equal, label=field.text)
    match field.text:
        case "api_key":
            parse_api_key(value.text, field=_FIELD)
            return Condition("api_key", value.text, equal=equal)
        case "provider":
            provider_id = parse_provider(value.text, field=_FIELD) if value.text else ""
            return Condition("provider", provider_id, equal=equal)
        case name if name in _TEXT_FIELDS:
            return Condition(name, value.text, equal=equal)
    raise _fault(field, f"there is no field {field.text!r}; there are {', '.join(_KNOWN_FIELDS)}")


_ORDERS: Final[Mapping[str, Order]] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _parse_number(value: _Token, *, largest: int) -> int:
    if value.kind != "word" or not value.text.isascii() or not value.text.isdecimal():
        raise _fault(value, "a whole number is expected")
    number = int(value.text) if len(value.text) < 20 else largest + 1
    if number > largest:
        raise _fault(value, "the number is too large")
    return number


def _parse_duration(value: _Token) -> int:
    """Microseconds."""
    found = _DURATION.fullmatch(value.text) if value.kind == "word" and value.text.isascii() else None
    if found is None:
        raise _fault(value, "a duration such as 1.5s or 200ms is expected")
    return int(Decimal(found[1]) * (1_000_000 if found[2] == "s" else 1_000))


def _tokens(text: str) -> list[_Token]:
    if (place := text.find("\0")) >= 0:  # neither PostgreSQL nor SQLite can look for it
        raise _fault(_Token("", "", place), "a NUL stands in no text")
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
