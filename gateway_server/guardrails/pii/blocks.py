"""Where a text can be cut without cutting a value: pure functions of what is written, not of when it came."""

import re
from itertools import chain
from typing import Final

from gateway_server.guardrails.pii.characters import INVISIBLE, UNSEEN
from gateway_server.guardrails.pii.emails import LOCAL

#: The most characters that are held back unless told otherwise: a block that gets longer is looked at in
#: parts.
WINDOW: Final = 64
#: How much less than a window a bracketed "at" reaches back, so that what may become one fits into it.
_BRACKETED_REACH: Final = 6
#: The least that the longest values need.
MIN_WINDOW: Final = 48

#: What a block begins with having: no value is without a digit or an @.
TRIGGER: Final = re.compile(r"[0-9@]|[(\[{](?:at|At|AT)[)\]}]")

# All that may be within a value or touch it: no quotes, no letters of scripts that no value is written in.
_TOKEN: Final = rf"[!#-;=?-\[\]-{{}}~\u00a1-\u024f{INVISIBLE}]"
_RUN: Final = re.compile(rf"{_TOKEN}*")
_CHARACTERS: Final = frozenset(
    chr(code) for code in chain(range(0x250), *UNSEEN) if re.match(_TOKEN, chr(code))
)
_LETTERS: Final = re.compile(r"[A-Za-z]{1,10}")
_HAS_DIGIT: Final = re.compile(r"\d|^[(+\-./)]+$")
_BRACKETED: Final = re.compile(r"[(\[{](?:at|dot)[)\]}]$", re.IGNORECASE)
_HAS_BRACKETED_AT: Final = re.compile(r"[(\[{]at[)\]}]", re.IGNORECASE)
_ACCOUNT: Final = re.compile(r"(?:^|[^A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4})*$")
_LOCAL_TAIL: Final = re.compile(rf"[{LOCAL}]+$")

_SPOKEN: Final = frozenset({"dash", "hyphen", "minus", "dot", "point", "space"})
_EXTENSIONS: Final = frozenset({"x", "ext", "extension"})
#: Words that go on with a number: separators, extensions, and what tells that it was a phone's.
_FOLLOWERS: Final = _SPOKEN | _EXTENSIONS | {
    "office", "home", "mobile", "cell", "fax", "desk", "work",
}  # fmt: skip
_BEGINNINGS: Final = frozenset(word[:length] for word in _FOLLOWERS for length in range(1, len(word) + 1))


#: A number with too few digits for a value, before a word that does not go on with it: most numbers of prose.
PLAIN_NUMBER: Final = re.compile(
    rf"(?:\d{{1,6}}|\d{{1,3}}[.,]\d{{1,3}})[%a-z]{{0,2}}[.,;:!?)]{{0,2}}(?:\n| {{1,2}}"
    rf"(?=(?!(?:{'|'.join(sorted(_FOLLOWERS))})(?![a-z]))[a-z]+[^A-Za-z]))"
)


def token_start(text: str, place: int, floor: int) -> int:
    """Where the run of characters that ``place`` ends begins; not before ``floor``."""
    while place > floor and text[place - 1] in _CHARACTERS:
        place -= 1
    return place


def block_start(text: str, trigger: re.Match[str], floor: int, *, window: int) -> int:
    """Where the block with a trigger begins, no further back than a window."""
    reach = window - (_BRACKETED_REACH if text[trigger.start()] in "([{" else 1)
    floor = max(floor, trigger.start() - reach)
    start = token_start(text, trigger.start(), floor)
    if start == trigger.start() and start > floor and text[start] in "([{" and text[start - 1] == " ":
        start = token_start(text, start - 1, floor)
    return start


def held_start(text: str, floor: int, *, window: int) -> int:
    """From where on a text without a trigger may still become part of a block."""
    start = token_start(text, len(text), max(floor, len(text) - window + 1))
    tail = text[start:]
    may_be_at = not tail or (tail[0] in "([{" and tail[1:].lower() in ("", "a", "at"))
    if may_be_at and start > floor and text[start - 1] == " ":
        return token_start(text, start - 1, max(floor, start - window + _BRACKETED_REACH))
    return start


def block_end(view: str, *, is_last: bool) -> int | None:
    """Where the block at the beginning of ``view`` ends; None when it has to be known what follows.

    ``is_last`` tells that nothing follows.
    """
    start = place = 0
    while True:
        run = _RUN.match(view, place)
        start, place = place, run.end() if run else place
        if place == len(view):
            return place if is_last else None
        if view[place] not in " \t":
            return place
        following = place + 1
        if view[following : following + 1] == " ":
            following += 1
        if following == len(view):
            return place if is_last else None
        joins = _joins(view, start, place, following, is_last=is_last)
        if joins is None:
            return None
        if not joins:
            return place
        place = following


def _joins(view: str, start: int, end: int, following: int, *, is_last: bool) -> bool | None:
    """Whether a value may go on from the token ``view[start:end]`` to ``following``; None: not known yet."""
    token, character = view[start:end], view[following]
    if _BRACKETED.search(token):
        return character in _CHARACTERS
    if character in "([{":
        if _HAS_BRACKETED_AT.search(view, 0, end):
            return True
        if not _HAS_DIGIT.search(token):
            return _begins_bracketed(view[following : following + 4], is_last=is_last)
    if (character.isupper() or character.isdigit()) and _ACCOUNT.search(view, 0, end):
        return True
    if character.isdigit():
        word = token.lower().rstrip(".")
        return word in _SPOKEN or word in _EXTENSIONS or _HAS_DIGIT.search(token) is not None
    return _HAS_DIGIT.search(token) is not None and _number_goes_on(view, following, is_last=is_last)


def _begins_bracketed(head: str, *, is_last: bool) -> bool | None:
    """Whether an ``(at)`` begins with these at most four characters."""
    if len(head) < 4 and not is_last and head[1:].lower() in ("", "a", "at"):
        return None
    return head[1:3].lower() == "at"


def _number_goes_on(view: str, following: int, *, is_last: bool) -> bool | None:
    """Whether a number may go on with what is no digit."""
    if view[following] in "([+-./x":
        return True
    word = _LETTERS.match(view, following)
    if word is None:
        return False
    told = word.group().lower()
    if word.end() == len(view) and not is_last:
        return None if told in _BEGINNINGS else False
    return told in _FOLLOWERS


def next_part(view: str, longest: int) -> int:
    """How far to go in a full window in which no value begins, so that none that goes on after it is cut."""
    step = len(view) - longest - 1
    tail = _LOCAL_TAIL.search(view)
    return min(tail.start(), step) if tail is not None and tail.start() else step
