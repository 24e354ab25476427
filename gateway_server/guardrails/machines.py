"""What looks at a text that comes in pieces: for values to mask, and for sentences to judge."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import re2

from gateway_server.guardrails.pii import Found, Piece
from gateway_server.guardrails.pii.characters import INVISIBLE, plain


class SpanMachine(Protocol):
    """Takes one text apart into text without findings and findings; every cutting gives the same."""

    def feed(self, text: str) -> list[Piece]:
        """What is decided now that ``text`` has come."""
        ...

    def close(self) -> list[Piece]:
        """The rest: the text has ended."""
        ...

    @property
    def held(self) -> str:
        """What is held back."""
        ...


#: How many characters from a place on tell whether something is found there.
REACH: Final = 64

SURROGATES: Final = re.compile(r"[\ud800-\udfff]")
#: How much of a text is looked at in one go.
_CHUNK: Final = 16_384
#: How much of it is asked for at once, at first: RE2 may look to the end of that for every match.
_ROOM: Final = 256
#: How much of a match that goes on is remembered. RE2 counts no further than 1,000 in one repetition.
_REMEMBERED: Final = 2048
#: What is forgotten at once of a longer one, after its first ``_HEAD`` characters. So many are whole rounds
#: of repetitions of up to eight characters and of most other usual lengths.
_FORGOTTEN: Final = 840
_HEAD: Final = 1024


class PatternMachine:
    r"""Finds what one RE2 pattern matches, leftmost first, in a time that is linear in the text.

    A match begins where the pattern matches within the ``REACH`` characters from there on. It goes on for as
    long as the pattern, from the same beginning, matches further within ``REACH`` characters from where it
    has got to. That takes one character more for what stands after the match, so ``REACH`` characters are
    held back, and every decision depends on the text alone. What follows from it: a match that needs more
    than ``REACH`` characters before it is one at all is not found, and an optional part that needs as many
    is left out. What is asked of the end of a match (\b, $) counts as given where a match fills all that is
    known: what it is can only be told further on, and it is masked so far.
    Of what is longer than ``_REMEMBERED`` characters the middle is forgotten.
    """

    def __init__(
        self, pattern: "re2._Regexp[str]", kind: str, loose: "re2._Regexp[str] | None" = None
    ) -> None:
        """``loose`` is what ``loosened`` makes of the pattern, None where that is the same."""
        self._pattern = pattern
        self._loose = loose
        self._kind = kind
        self._text = ""
        #: How much of ``_text`` is decided; it is kept as context.
        self._decided = 0
        #: Where the match began that may go on.
        self._open: int | None = None

    def feed(self, text: str) -> list[Piece]:
        """What is decided now that ``text`` has come."""
        pieces: list[Piece] = []
        for start in range(0, len(text), _CHUNK):
            self._text += text[start : start + _CHUNK]
            pieces += self._advance(len(self._text) - REACH)
        return pieces

    def close(self) -> list[Piece]:
        """The rest: the text has ended."""
        pieces = self._advance(len(self._text))
        self._open = None
        return pieces

    @property
    def held(self) -> str:
        """What is held back."""
        return self._text[self._decided :]

    def _advance(self, end: int) -> list[Piece]:
        """Decides about everything before ``end``."""
        pieces: list[Piece] = []
        if self._decided >= end:
            return pieces
        text = SURROGATES.sub("\ufffd", self._text)
        place, room = self._decided, _ROOM
        done = place
        while place < end:
            if self._open is None:
                found, stop = self._find(text, place, min(place + room, end))
                room = _ROOM if found or stop < place + room else 2 * room
                for start, after in found:
                    if start > done:
                        pieces.append(self._text[done:start])
                    pieces.append(Found(self._text[start:after], self._kind, 1.0))
                    done = after
                place = max(stop, done)
                continue
            stop = self._end_if_open(text, self._open, place)
            if stop <= place:
                self._open = None
                continue
            pieces.append(Found(self._text[place:stop], self._kind, 1.0, continues=True))
            place = stop
            if place - self._open > _REMEMBERED:
                cut = self._open + _HEAD
                text = text[:cut] + text[cut + _FORGOTTEN :]
                self._text = self._text[:cut] + self._text[cut + _FORGOTTEN :]
                place, end = place - _FORGOTTEN, end - _FORGOTTEN
            done = place
        if place > done:
            pieces.append(self._text[done:place])
        kept = max((place if self._open is None else self._open) - 1, 0)
        self._text, self._decided = self._text[kept:], place - kept
        if self._open is not None:
            self._open -= kept
        return pieces

    def _find(self, text: str, place: int, after: int) -> tuple[list[tuple[int, int]], int]:
        """Matches that begin before ``after``, and how far that was looked at; the last may be open."""
        matches: list[tuple[int, int]] = []
        before = max(place - 1, 0)
        # As much as may be known where the last of them could begin; the others see no more for it, since
        # what is further away than ``REACH`` is asked for again.
        limit = after - 1 + REACH
        search = self._pattern if self._loose is None else self._loose
        for match in search.finditer(text[before : limit + 1], place - before, limit - before):
            start, stop = before + match.start(), before + match.end()
            if start >= after:
                break
            is_known = stop + REACH <= limit
            if stop > start + REACH or self._loose is not None:
                is_known, stop = False, self._end_if_open(text, start, start)
                if stop == start:
                    return matches, start + 1
            if stop > start:
                matches.append((start, stop))
                if not is_known:
                    self._open = start
                    return matches, stop
        return matches, after

    def _end_of_match(self, text: str, start: int, limit: int) -> int:
        """Where what begins at ``start`` ends, no further than ``limit``; ``start`` where nothing does."""
        before = max(start - 1, 0)
        # What stands around it counts for what is asked of places: \b, ^ and $.
        match = self._pattern.match(text[before : limit + 1], start - before, limit - before)
        return start if match is None else before + match.end()

    def _end_if_open(self, text: str, start: int, place: int) -> int:
        """Where what begins at ``start`` and has got to ``place`` gets to, for all that is known there."""
        limit = place + REACH
        stop = self._end_of_match(text, start, limit)
        if stop <= place and self._loose is not None:
            # What has to stand after it may come yet.
            before = max(start - 1, 0)
            match = self._pattern.match(text[before:limit], start - before)
            if match is not None and before + match.end() == limit:
                return limit
        return stop


#: In a pattern: what is quoted, escaped or a class; and what asks for something after a place.
_TOKEN: Final = re.compile(
    r"(?s)(?P<after>\\[bBz]|\$)|\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"
)


def closed(pattern: str) -> str:
    r"""The pattern with an end to what it quotes, \Q to \E, so that others may follow."""
    quoted = [token[0] for token in _TOKEN.finditer(pattern) if token[0].startswith("\\Q")]
    return pattern if not quoted or quoted[-1].endswith("\\E") else rf"{pattern}\E"


def loosened(pattern: str) -> str:
    r"""The pattern without what it asks of the places within it and at its end: \b, \B, \z, $."""
    return _TOKEN.sub(
        lambda token: "(?:)" if token["after"] and token.start() else token[0],
        pattern,
    )


class WordList:
    """Words to look for."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = frozenset(map(seen_of, words))
        #: Of the words, the longest first.
        self.lengths = sorted({len(word) for word in self.words}, reverse=True)
        #: What they begin with.
        self.first = frozenset(word[0] for word in self.words)
        self._sorted = sorted(self.words)

    def may_be_in(self, text: str) -> bool:
        """False where no character of ``text`` begins one."""
        return not self.first.isdisjoint(_fold(text))

    def has_longer(self, beginning: str) -> bool:
        """Whether one begins so, or is this, so that what follows matters."""
        index = bisect_left(self._sorted, beginning)
        return index < len(self._sorted) and self._sorted[index].startswith(beginning)


class WordMachine:
    """Finds listed words and phrases as wholes, by how they look.

    Case, full-width forms and other look-alikes of ``plain``, how much and which white space there is, and
    characters that nobody sees make no difference. As it is written, a word has at most ``REACH`` characters
    and one. Held back is only what may become one.
    """

    def __init__(self, words: WordList) -> None:
        self._words = words
        self._text = ""
        self._is_in_word = False

    def feed(self, text: str) -> list[Piece]:
        """What is decided now that ``text`` has come."""
        self._text += text
        return self._advance(is_last=False)

    def close(self) -> list[Piece]:
        """The rest: the text has ended."""
        pieces = self._advance(is_last=True)
        self._is_in_word = False
        return pieces

    @property
    def held(self) -> str:
        """What is held back."""
        return self._text

    def _advance(self, *, is_last: bool) -> list[Piece]:
        text, pieces = self._text, list[Piece]()
        folded = _fold(text)
        done = place = 0
        while place < len(text):
            character = folded[place]
            if _INVISIBLE.match(character) or (self._is_in_word and character.isalnum()):
                place += 1
                continue
            self._is_in_word = False
            length = 0
            if character in self._words.first:
                known = self._word_in(folded[place : place + REACH + 1], is_last=is_last)
                if known is None:
                    break
                length = known
            if length:
                if place > done:
                    pieces.append(text[done:place])
                pieces.append(Found(text[place : place + length], "word", 1.0))
                place += length
                done = place
                continue
            self._is_in_word = character.isalnum()
            place += 1
        if place > done:
            pieces.append(text[done:place])
        self._text = text[place:]
        return pieces

    def _word_in(self, view: str, *, is_last: bool) -> int | None:
        """How long the longest listed word is that ``view`` begins with, 0 for none, None: not known yet."""
        seen, ends = _seen(view)
        if not is_last and len(view) <= REACH and self._words.has_longer(seen):
            return None
        for length in self._words.lengths:
            if length <= len(seen) and seen[:length] in self._words.words and _ends_at(seen, length):
                return ends[length - 1]
        return 0


def _ends_at(seen: str, length: int) -> bool:
    """Whether a word of this length is whole."""
    return length == len(seen) or not (seen[length].isalnum() and seen[length - 1].isalnum())


_INVISIBLE: Final = re.compile(f"[{INVISIBLE}]")
_WHITE: Final = re.compile(r"\s")
#: What makes a text differ from how it looks, once it is folded.
_UNSEEN: Final = re.compile(f"  |[{INVISIBLE}]")


def seen_of(word: str) -> str:
    """A word by how it looks, which is how words are compared."""
    return _seen(_fold(word))[0]


def _seen(folded: str) -> tuple[str, Sequence[int]]:
    """What is seen of a folded text, a run of spaces as one, and where each character of that ends."""
    if not _UNSEEN.search(folded):
        return folded, range(1, len(folded) + 1)
    seen, ends = "", list[int]()
    for place, character in enumerate(folded):
        if _INVISIBLE.match(character) or (character == " " and seen.endswith(" ")):
            continue
        seen += character
        ends.append(place + 1)
    return seen, ends


def _fold(text: str) -> str:
    """In plain characters without case, white space as spaces; one character for one."""
    if text.isascii():
        return _WHITE.sub(" ", text.lower())
    # By themselves, since the lower case of some depends on the characters around them.
    return _WHITE.sub(" ", "".join(map(_fold_one, plain(text))))


@lru_cache(4096)
def _fold_one(character: str) -> str:
    return next((form for form in (character.casefold(), character.lower()) if len(form) == 1), character)


#: Where a sentence ends: at its mark with what closes it, or at a line's end.
_SENTENCE_END: Final = re.compile(r"[.!?\u2026]+[\"')\]\u201d\u2019]*(?=\s)|[\u3002\uff01\uff1f]+|\n+")
#: A sentence that gets longer than this is cut at a space, or anywhere.
LONGEST_SENTENCE: Final = 400
_SPACE: Final = re.compile(" ")


@dataclass(slots=True)
class SentenceMachine:
    """Cuts a text into sentences; every cutting gives the same.

    ``ends`` is what they end with, and may ask for the character that follows. One that gets too long is cut
    after the last of ``breaks``, or the last space.
    """

    held: str = ""
    ends: re.Pattern[str] = _SENTENCE_END
    breaks: re.Pattern[str] = _SPACE

    def feed(self, text: str) -> list[str]:
        """The sentences that are complete now that ``text`` has come."""
        self.held += text
        sentences: list[str] = []
        start = 0
        while True:
            view = self.held[start : start + LONGEST_SENTENCE]
            end = self.ends.search(view)
            # At the end of what is known, an end may still grow.
            if end is not None and (end.end() < len(view) or len(view) == LONGEST_SENTENCE):
                length = end.end()
            elif len(view) == LONGEST_SENTENCE:
                length = self._break(view)
            else:
                break
            sentences.append(view[:length])
            start += length
        self.held = self.held[start:]
        return sentences

    def close(self) -> list[str]:
        """The rest: the text has ended."""
        rest, self.held = self.held, ""
        return [rest] if rest else []

    def _break(self, view: str) -> int:
        place = 0
        for found in self.breaks.finditer(view):
            place = found.end()
        return place or view.rfind(" ") + 1 or LONGEST_SENTENCE
