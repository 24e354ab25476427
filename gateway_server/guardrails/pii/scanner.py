"""Finds personal data in a text that comes in pieces; the result does not depend on how it is cut.

What is decided at a place depends only on the text around it, at most ``CONTEXT`` characters before it and
``WINDOW`` from it on, and it is decided when those are known. A whole text is fed in one piece, so streaming
gives what the whole gives by construction.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

import re2

from gateway_server.guardrails.pii import networks, phones
from gateway_server.guardrails.pii.blocks import (
    PLAIN_NUMBER,
    TRIGGER,
    WINDOW,
    block_end,
    block_start,
    held_start,
    next_part,
)
from gateway_server.guardrails.pii.characters import INVISIBLE, LONG_DASHES, plain
from gateway_server.guardrails.pii.emails import (
    AT,
    BEGUN_DOT,
    BRACKETED_DOT,
    EMAIL_TAIL,
    HAS_AT,
    LOCAL,
    find_email,
)
from gateway_server.guardrails.pii.matches import CONTEXT, LONGEST, Match, Recognizer
from gateway_server.guardrails.pii.networks import find_ip_address
from gateway_server.guardrails.pii.numbers import find_card, find_iban, find_ssn
from gateway_server.guardrails.pii.phones import find_phone

_INVISIBLE: Final = re.compile(rf"[{INVISIBLE}]")
_LONG_DASH: Final = re.compile(f"[{LONG_DASHES}]")
#: For which kinds long dashes part, and which: others see every dash as a hyphen.
_PARTING_DASHES: Final[Mapping[Recognizer, re.Pattern[str]]] = {
    find_phone: phones.PARTING_DASH,
    find_ip_address: networks.PARTING_DASH,
}
#: How much before a place is kept: there may be invisible characters among what tells.
_KEPT: Final = 2 * CONTEXT
#: The recognizers whose values all have what ``_WORTH`` asks for.
_USUAL: Final = frozenset({find_ssn, find_card, find_email, find_phone, find_ip_address, find_iban})
#: What a text must have to be worth a look: an @ or seven digits near each other; and for some kinds, others.
_DIGITS_OR_AT: Final = (
    r"@|%40|[(\[{]at[)\]}]|\d(?:(?:[^A-Za-z\d]{0,4}| (?:dash|hyphen|minus|dot|point|space) )\d){6}"
)
_WORTH_ALSO: Final = {find_ip_address: r":|\d\.\d+\.\d", find_iban: r"[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{4}"}
#: A number with a decimal point and too few digits for a card: of the usual kinds, no other has such a point.
SHORT_DECIMAL: Final = re.compile(r"-?[0-9]{1,3}\.[0-9]{1,8}")
_LABEL: Final = rf"A-Za-z0-9\u00c0-\u024f{INVISIBLE}"
_OPEN_EMAIL: Final = re.compile(
    rf"[{LOCAL}](?:{BRACKETED_DOT}?[{LOCAL}{INVISIBLE}]){{0,63}}{AT}"
    rf"(?P<domain>(?:{BRACKETED_DOT}?[.\-{_LABEL}])*){BEGUN_DOT}$"
)
_DOMAIN: Final = re.compile(rf"(?:(?:[.\-]{{0,2}}|{BRACKETED_DOT})[{_LABEL}]+)*")
_DOMAIN_TAIL: Final = re.compile(rf"(?:[.\-]{{1,2}}|{BEGUN_DOT})$")
#: With invisible characters among them, values are longer than they look: so few fewer than a window.
_ROOM_WITH_INVISIBLE: Final = 9

#: Which type wins where values overlap; other types come after these.
_PRECEDENCE: Final[Mapping[str, int]] = {
    "EMAIL_ADDRESS": 0,
    "IBAN_CODE": 1,
    "CREDIT_CARD": 2,
    "US_SSN": 3,
    "IP_ADDRESS": 4,
    "PHONE_NUMBER": 6,
}
_OTHER: Final = 5


@cache
def worth_of(recognizers: tuple[Recognizer, ...]) -> re.Pattern[str] | None:
    """What a text of plain characters has, if anything can be found in it; None where that is not known."""
    if not _USUAL.issuperset(recognizers):
        return None
    also = [_WORTH_ALSO[recognize] for recognize in recognizers if recognize in _WORTH_ALSO]
    return re.compile("|".join([_DIGITS_OR_AT, *also]), re.IGNORECASE)


@cache
def ascii_worth_of(recognizers: tuple[Recognizer, ...]) -> "re2._Regexp[str] | None":
    """The same for texts of ASCII, which RE2 tells in a twentieth of the time where they are long."""
    worth = worth_of(recognizers)
    if worth is None:
        return None
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    return re2.compile(worth.pattern, options)


@dataclass(frozen=True, slots=True)
class Found:
    """A value in its own words; ``continues`` tells that it goes on with the value found just before."""

    text: str
    entity_type: str
    score: float
    continues: bool = False


#: What a text is taken apart into: text without findings, and findings.
Piece = str | Found


class PiiScanner:
    """Takes one text apart."""

    def __init__(
        self,
        recognizers: Sequence[Recognizer],
        *,
        min_score: float = 0.0,
        allowed_values: frozenset[str] = frozenset(),
        context: str = "",
        window: int = WINDOW,
    ) -> None:
        """``context`` is what stands before the text without being a part of it, such as a field's name.

        At most ``window`` characters are held back, from ``MIN_WINDOW`` to ``WINDOW``.
        """
        self._recognizers = recognizers
        self._worth = worth_of(tuple(recognizers))
        self._finds_emails = find_email in recognizers
        self._min_score = min_score
        self._allowed = allowed_values
        #: The text from a little before what is held, as it is written and in plain characters.
        self._raw = context[-_KEPT:]
        self._plain = plain(self._raw)
        #: How much of it is decided, and only context by now.
        self._decided = len(self._raw)
        self._window = window
        self._is_in_email = False

    def feed(self, text: str) -> list[Piece]:
        """What is decided now that ``text`` has come."""
        self._raw += text
        self._plain += plain(text)
        return self._advance(is_last=False)

    def close(self) -> list[Piece]:
        """The rest: the text has ended."""
        return self._advance(is_last=True)

    @property
    def held(self) -> str:
        """What is held back."""
        return self._raw[self._decided :]

    def _advance(self, *, is_last: bool) -> list[Piece]:
        raw, text, place = self._raw, self._plain, self._decided
        self._has_invisible = _INVISIBLE.search(text) is not None
        pieces: list[Piece] = []
        while True:
            if self._is_in_email:
                end, is_over = _domain_end(text, place, is_last=is_last)
                if end > place:
                    pieces.append(Found(raw[place:end], "EMAIL_ADDRESS", 1.0, continues=True))
                place = end
                if not is_over:
                    break
                self._is_in_email = False
            trigger, floor = self._next_trigger(text, place)
            if trigger is not None:
                start = block_start(text, trigger, floor, window=self._window)
            else:
                start = len(text) if is_last else held_start(text, floor, window=self._window)
            if start > place:
                pieces.append(raw[place:start])
                place = start
            if trigger is None:
                break
            length = self._take(text, place, pieces, is_last=is_last)
            if not length:
                break
            place += length
        kept = max(0, place - _KEPT)
        self._raw, self._plain, self._decided = raw[kept:], text[kept:], place - kept
        return pieces

    def _next_trigger(self, text: str, place: int) -> tuple[re.Match[str] | None, int]:
        """The next trigger of a block worth a look, and a place that the block begins at or after."""
        while (trigger := TRIGGER.search(text, place)) is not None and self._worth is not None:
            number = PLAIN_NUMBER.match(text, trigger.start())
            if number is None:
                break
            place = number.end()
        return trigger, place

    def _take(self, text: str, place: int, pieces: list[Piece], *, is_last: bool) -> int:
        """Decides about the block that begins at ``place``, or its beginning; gives how much that was."""
        view = text[place : place + self._window]
        length = block_end(view, is_last=is_last and place + len(view) == len(text))
        if length is not None:
            pieces += self._take_block(text, view, place, length)
            return length
        if len(view) < self._window:
            return 0
        part, length = self._take_part(text, view, place)
        pieces += part
        return length

    def _take_block(self, text: str, view: str, place: int, length: int) -> Iterator[Piece]:
        raw = self._raw[place : place + length]
        done = 0
        # One character more, so that it is seen what the block ends at, and a line's end, so that it ends.
        shown = f"{view[: length + 1]}\n"
        for match in self._matches(text, shown, place, length):
            if match.start > done:
                yield raw[done : match.start]
            yield Found(raw[match.start : match.end], match.entity_type, match.score)
            done = match.end
        if done < length:
            yield raw[done:]

    def _take_part(self, text: str, view: str, place: int) -> tuple[list[Piece], int]:
        """The beginning of a block that is longer than a window, and how long that is."""
        raw = self._raw[place : place + self._window]
        matches = self._matches(text, view, place, self._window)
        open_email = _OPEN_EMAIL.search(view) if self._finds_emails and HAS_AT.search(view) else None
        starts = [match.start for match in matches[:1]]
        if open_email is not None:
            starts.append(open_email.start())
        if starts and min(starts) > 0:
            return [raw[: min(starts)]], min(starts)
        if matches and matches[0].start == 0:
            match = matches[0]
            self._is_in_email = (
                match.entity_type == "EMAIL_ADDRESS" and EMAIL_TAIL.match(view, match.end) is not None
            )
            return [Found(raw[: match.end], match.entity_type, match.score)], match.end
        if open_email is not None:
            self._is_in_email = True
            end = open_email.end("domain")
            return [Found(raw[:end], "EMAIL_ADDRESS", 1.0)], end
        longest = (
            self._window - _ROOM_WITH_INVISIBLE
            if self._has_invisible and _INVISIBLE.search(view)
            else LONGEST
        )
        step = next_part(view, min(longest, self._window - 2))
        return [raw[:step]], step

    def _matches(self, plain_text: str, shown: str, place: int, length: int) -> list[Match]:
        """What is found in ``shown[:length]``, in order, without overlaps; places are within ``shown``."""
        kept = max(0, place - _KEPT)
        before = plain_text[kept:place]
        looked_at = before + shown
        places: Sequence[int] = range(len(shown))
        if self._has_invisible:
            before = _INVISIBLE.sub("", before)
            shown, places = _visible(shown)
        before = before[-CONTEXT:]
        if self._worth is not None and not self._worth.search(shown):
            return []
        text, offset = before + shown, len(before)
        dashed = _with_long_dashes(looked_at, self._raw[kept : kept + len(looked_at)])
        if dashed is not None:
            dashed = _INVISIBLE.sub("", dashed)[-len(text) :]
        found = [
            Match(
                places[match.start - offset],
                places[match.end - offset - 1] + 1,
                match.entity_type,
                match.score,
            )
            for recognize in self._recognizers
            for match in recognize(text if dashed is None else _parted(dashed, recognize), offset)
            if match.score >= self._min_score
        ]
        if not found:
            return found
        found.sort(key=lambda match: (_PRECEDENCE.get(match.entity_type, _OTHER), match.start - match.end))
        chosen: list[Match] = []
        for match in found:
            if match.end <= length and all(
                match.end <= other.start or other.end <= match.start for other in chosen
            ):
                chosen.append(match)
        chosen.sort(key=lambda match: match.start)
        if not self._allowed:
            return chosen
        raw = self._raw[place : place + length]
        return [match for match in chosen if raw[match.start : match.end] not in self._allowed]


class _Scanner(Protocol):
    """What takes a text apart: this one, or one around it."""

    def feed(self, text: str) -> list[Piece]: ...

    def close(self) -> list[Piece]: ...


def scan(scanner: _Scanner, text: str) -> list[Piece]:
    """The whole of ``text`` taken apart by a fresh scanner."""
    return [*scanner.feed(text), *scanner.close()]


def spans(pieces: Sequence[Piece]) -> list[Match]:
    """Where the findings are in the text that the pieces make up."""
    found: list[Match] = []
    place = 0
    for piece in pieces:
        if isinstance(piece, str):
            place += len(piece)
            continue
        start, end = place, place + len(piece.text)
        place = end
        if piece.continues and found:
            start = found.pop().start
        found.append(Match(start, end, piece.entity_type, piece.score))
    return found


def _visible(view: str) -> tuple[str, Sequence[int]]:
    """The visible characters, and the place of each in ``view``."""
    places = [place for place, character in enumerate(view) if not _INVISIBLE.match(character)]
    return "".join(view[place] for place in places), places


def _with_long_dashes(plain_text: str, raw: str) -> str | None:
    """The plain text of ``raw`` with its long dashes as they are written; None where it has none."""
    if not _LONG_DASH.search(raw):
        return None
    characters = list(plain_text)
    for dash in _LONG_DASH.finditer(raw):
        if characters[dash.start()] == "-":
            characters[dash.start()] = dash.group()
    return "".join(characters)


def _parted(text: str, recognize: Recognizer) -> str:
    """Plain text as a recognizer is to see its long dashes: as spaces where they part, else as hyphens."""
    parting = _PARTING_DASHES.get(recognize)
    return plain(text if parting is None else parting.sub(" ", text))


def _domain_end(text: str, place: int, *, is_last: bool) -> tuple[int, bool]:
    """How far an open address goes in what is known of the text, and whether it ends there."""
    domain = _DOMAIN.match(text, place)
    end = place if domain is None else domain.end()
    is_open = not is_last and (end == len(text) or _DOMAIN_TAIL.fullmatch(text, end) is not None)
    return end, not is_open
