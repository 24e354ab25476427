"""What looks at a text that comes in pieces: for values to mask, and for sentences to judge."""

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import re2

from gateway_server.guardrails.pii import Found, Piece


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


#: The most characters of what a pattern or a list of words finds.
LONGEST_MATCH: Final = 64

_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")
#: How much is given to RE2 at once: it takes a copy.
_CHUNK: Final = 16_384


class PatternMachine:
    """Finds what one RE2 pattern matches, at most ``LONGEST_MATCH`` characters of it, leftmost first.

    Whether something matches depends on one character before it and one after that length, so as much is
    held back.
    """

    def __init__(self, pattern: "re2._Regexp[str]", kind: str) -> None:
        self._pattern = pattern
        self._kind = kind
        self._text = ""
        #: How much of ``_text`` is decided; it is kept as context.
        self._decided = 0

    def feed(self, text: str) -> list[Piece]:
        """What is decided now that ``text`` has come."""
        pieces: list[Piece] = []
        for start in range(0, len(text), _CHUNK):
            self._text += text[start : start + _CHUNK]
            pieces += self._advance(len(self._text) - LONGEST_MATCH)
        return pieces

    def close(self) -> list[Piece]:
        """The rest: the text has ended."""
        return self._advance(len(self._text))

    @property
    def held(self) -> str:
        """What is held back."""
        return self._text[self._decided :]

    def _advance(self, end: int) -> list[Piece]:
        """Decides about matches that begin before ``end``."""
        text = _SURROGATES.sub("\ufffd", self._text)
        pieces: list[Piece] = []
        place = self._decided
        while place < end:
            start, length = self._next_match(text, place, end)
            if start > place:
                pieces.append(self._text[place:start])
            if length:
                pieces.append(Found(self._text[start : start + length], self._kind, 1.0))
            place = start + length
        kept = max(place - 1, 0)
        self._text, self._decided = self._text[kept:], place - kept
        return pieces

    def _next_match(self, text: str, place: int, end: int) -> tuple[int, int]:
        """Where the next match begins and how long it is; ``end`` and 0 when there is none before that."""
        while place < end:
            found = self._pattern.search(text, place)
            if found is None or found.start() >= end:
                break
            start = found.start()
            # As if nothing but the characters around it were known, which is what a stream knows.
            view = text[max(start - 1, 0) : start + LONGEST_MATCH + 1]
            offset = min(start, 1)
            match = self._pattern.match(view, offset)
            if match is not None and 0 < match.end() - offset <= LONGEST_MATCH:
                return start, match.end() - offset
            place = start + 1
        return end, 0


class WordList:
    """Words to look for."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = frozenset(map(_fold, words))
        #: Of the words, the longest first.
        self.lengths = sorted({len(word) for word in self.words}, reverse=True)
        self._sorted = sorted(self.words)

    def has_longer(self, beginning: str) -> bool:
        """Whether one begins so, or is this, so that what follows matters."""
        index = bisect_left(self._sorted, beginning)
        return index < len(self._sorted) and self._sorted[index].startswith(beginning)


class WordMachine:
    """Finds listed words and phrases as wholes, without regard to case.

    Held back is only what may become one.
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
        return self._advance(is_last=True)

    @property
    def held(self) -> str:
        """What is held back."""
        return self._text

    def _advance(self, *, is_last: bool) -> list[Piece]:
        text, pieces = self._text, list[Piece]()
        done = place = 0
        while place < len(text):
            if self._is_in_word and text[place].isalnum():
                place += 1
                continue
            self._is_in_word = False
            length = self._word_at(text, place, is_last=is_last)
            if length is None:
                break
            if length:
                if place > done:
                    pieces.append(text[done:place])
                pieces.append(Found(text[place : place + length], "word", 1.0))
                place += length
                done = place
                continue
            self._is_in_word = text[place].isalnum()
            place += 1
        if place > done:
            pieces.append(text[done:place])
        self._text = text[place:]
        return pieces

    def _word_at(self, text: str, place: int, *, is_last: bool) -> int | None:
        """The length of the longest listed word that begins here, 0 for none, None: not known yet."""
        view = text[place : place + LONGEST_MATCH + 1]
        folded = _fold(view)
        if not is_last and len(view) <= LONGEST_MATCH and self._words.has_longer(folded):
            return None
        for length in self._words.lengths:
            if length <= len(view) and folded[:length] in self._words.words and _ends_at(view, length):
                return length
        return 0


def _ends_at(view: str, length: int) -> bool:
    """Whether a word of this length is whole."""
    return length == len(view) or not (view[length].isalnum() and view[length - 1].isalnum())


def _fold(text: str) -> str:
    """Without case, one character for one."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(each.lower() if len(each.lower()) == 1 else each for each in text)


#: Where a sentence ends: at its mark with what closes it, or at a line's end.
_SENTENCE_END: Final = re.compile(r"[.!?\u2026]+[\"')\]\u201d\u2019]*(?=\s)|[\u3002\uff01\uff1f]+|\n+")
#: A sentence that gets longer than this is cut at a space, or anywhere.
LONGEST_SENTENCE: Final = 400


@dataclass(slots=True)
class SentenceMachine:
    """Cuts a text into sentences; every cutting gives the same."""

    held: str = ""

    def feed(self, text: str) -> list[str]:
        """The sentences that are complete now that ``text`` has come."""
        self.held += text
        sentences: list[str] = []
        start = 0
        while True:
            view = self.held[start : start + LONGEST_SENTENCE]
            end = _SENTENCE_END.search(view)
            # At the end of what is known, an end may still grow.
            if end is not None and (end.end() < len(view) or len(view) == LONGEST_SENTENCE):
                length = end.end()
            elif len(view) == LONGEST_SENTENCE:
                length = view.rfind(" ") + 1 or LONGEST_SENTENCE
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
