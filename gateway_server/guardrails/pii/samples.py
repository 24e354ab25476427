"""What a pattern matches, by example: a few texts of each shape that it allows."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, Final

#: One of each sort of character, by what it may be to a number: a part of it, beside it, or neither.
_SORTS: Final = ("0", "a", " ", '"')
_CATEGORIES: Final[dict[object, Callable[[str], bool]]] = {
    sre.CATEGORY_DIGIT: str.isdigit,
    sre.CATEGORY_NOT_DIGIT: lambda character: not character.isdigit(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    sre.CATEGORY_WORD: str.isalnum,
    sre.CATEGORY_NOT_WORD: lambda character: not character.isalnum(),
}
#: What a parsed pattern is made of: a kind, and what that kind takes.
_Node = tuple[object, Any]
_MOST: Final = 1_000
#: What is repeated more often than that is longer than any value.
_MOST_ROUNDS: Final = 64


def samples_of(regex: str) -> list[str]:
    """Texts that the pattern may match: one, and others that differ from it at one place each.

    Empty for a pattern that only RE2 can read.
    """
    try:
        # Nothing public tells what a pattern is made of. The tests run on every Python that is supported.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = sre_parser.parse(regex)
    except (re.error, FutureWarning, DeprecationWarning, OverflowError, RecursionError):
        return []
    return _of_all(parsed)


def _of_all(nodes: Iterable[_Node]) -> list[str]:
    choices = [choice for choice in (_of_one(node) for node in nodes) if choice]
    first = [choice[0] for choice in choices]
    others = (
        "".join([*first[:place], other, *first[place + 1 :]])
        for place, choice in enumerate(choices)
        for other in choice[1:]
    )
    return ["".join(first), *islice(others, _MOST)]


def _of_one(node: _Node) -> list[str]:
    kind, argument = node
    match kind:
        case sre.LITERAL:
            return [chr(argument)]
        case sre.ANY | sre.NOT_LITERAL:
            return [each for each in _SORTS if kind == sre.ANY or ord(each) != argument]
        case sre.IN:
            return _of_class(argument)
        case sre.BRANCH:
            return [sample for branch in argument[1] for sample in _of_all(branch)]
        case sre.SUBPATTERN | sre.ATOMIC_GROUP:
            return _of_all(argument[-1] if kind == sre.SUBPATTERN else argument)
        case sre.MAX_REPEAT | sre.MIN_REPEAT | sre.POSSESSIVE_REPEAT:
            least, most, nodes = argument
            often = min(max(least, 1), _MOST_ROUNDS)
            samples = [sample * often for sample in _of_all(nodes)]
            samples += [samples[0] + _of_all(nodes)[0]] if most > often else []
            return [*samples, ""] if not least else samples
        case _:
            return []  # anchors


def _of_class(members: Sequence[_Node]) -> list[str]:
    is_negated = members[0][0] == sre.NEGATE
    tests = [partial(_is_member, member) for member in members if member[0] != sre.NEGATE]
    found = [each for each in _SORTS if any(test(each) for test in tests) != is_negated]
    if found:
        return found
    kind, argument = members[0]
    return [chr(argument if kind == sre.LITERAL else argument[0])] if kind in (sre.LITERAL, sre.RANGE) else []


def _is_member(member: _Node, character: str) -> bool:
    kind, argument = member
    match kind:
        case sre.LITERAL:
            return ord(character) == int(argument)
        case sre.RANGE:
            # Upper case is as good: patterns are run without regard to it.
            return any(argument[0] <= ord(each) <= argument[1] for each in (character, character.upper()))
        case _:
            return _CATEGORIES[argument](character)
