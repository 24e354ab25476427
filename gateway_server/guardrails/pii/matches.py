"""What recognizers find, and how they look around."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import re2

#: How many characters before a value may tell what it is.
CONTEXT: Final = 48
#: The most characters of a value that has an end of its own; e-mail addresses may be longer.
LONGEST: Final = 43

#: Right after an escape, which parts as what it stands for would: of JSON within JSON, or of URLs.
AFTER_ESCAPE: Final = r"(?<=\\[nrt])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2})"
#: Where no ASCII letter or digit goes on. Letters of scripts that are written without spaces part nothing.
FREE_BEFORE: Final = rf"(?:(?<![A-Za-z0-9])|{AFTER_ESCAPE})"


@dataclass(frozen=True, slots=True)
class Match:
    """``text[start:end]`` is an ``entity_type``, named as Presidio names it; ``score`` is from 0 to 1."""

    start: int
    end: int
    entity_type: str
    score: float


#: Finds values of one type in a text of plain, visible characters; none begins before the given place, and
#: what is before that may be read.
Recognizer = Callable[[str, int], Iterator[Match]]


def words(pattern: str) -> "re2._Regexp[str]":
    """A pattern of words that tell, without regard to case: by RE2, since there are many of them."""
    options = re2.Options()
    options.case_sensitive = False
    return re2.compile(pattern, options)


def last_word(pattern: "re2._Regexp[str]", text: str, end: int) -> int:
    """Where the last match of ``pattern`` within ``CONTEXT`` characters before ``end`` ends; -1 for none."""
    last = -1
    for found in pattern.finditer(text, max(0, end - CONTEXT), end):
        last = found.end()
    return last


def digits_of(text: str) -> str:
    """The digits alone."""
    return "".join(filter(str.isdigit, text))
