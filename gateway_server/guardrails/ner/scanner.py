"""Finds what a text names, beside the values that another scanner finds in it; every cutting gives the same.

What the model is shown is a sentence or a line, cut out by rules that know nothing of when the text came,
and the model is asked about each by itself. So a stream is held back up to the end of a sentence.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from gateway_server.guardrails.machines import SURROGATES, SentenceMachine, SpanMachine
from gateway_server.guardrails.ner.model import SCORE, Entities
from gateway_server.guardrails.pii import Found, Piece

#: As of other sentences, but not at an initial or a title before a name.
_ENDS: Final = re.compile(
    r"(?:[!?\u2026]|(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|St|Jr|Sr|Lt))(?<!\b(?:Mrs|Rev|Hon|Gen|Col|Sgt))"
    r"(?<!\b(?:Prof|Capt))\.)[.!?\u2026]*[\"')\]\u201d\u2019]*(?=\s)|[\u3002\uff01\uff1f]+|\n+"
)
#: Names go on neither after these marks nor with a small letter.
_BREAKS: Final = re.compile(r"[,;:)] | (?=[a-z])")
#: What stands where something was masked, here or on the way in.
_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z_]*_(?:REDACTED|\d{1,6})\]")
_HAS_LETTER: Final = re.compile(r"[^\W\d_]")
#: A word in small letters by itself, or an identifier: what JSON is full of, and tells a model nothing.
_SMALL_WORD: Final = re.compile(r"\s*[a-z0-9_.:/$#\-]*\s*")
#: What does not belong to a name at its ends.
_EDGES: Final = " \t\r\n.,;:!?<>()[]{}\"'\u201c\u201d\u2018\u2019"


class EntityScanner:
    """Takes one text apart. Values of ``scanner`` win where they overlap with what the model finds."""

    def __init__(
        self,
        scanner: SpanMachine,
        find: Callable[[Sequence[str]], Sequence[Entities]],
        entity_types: frozenset[str],
        allowed_values: frozenset[str] = frozenset(),
    ) -> None:
        """``find`` tells what each of some sentences names; what it raises, ``feed`` and ``close`` raise."""
        self._scanner = scanner
        self._find = find
        self._entity_types = entity_types
        self._allowed = allowed_values
        self._sentences = SentenceMachine(ends=_ENDS, breaks=_BREAKS)
        #: Values within the sentence under way, with their places in it.
        self._values: list[tuple[int, Found]] = []
        #: How much of the sentence under way is passed on already: a value that began before it.
        self._done = 0

    def feed(self, text: str) -> list[Piece]:
        """What is decided now that ``text`` has come."""
        return self._advance(self._scanner.feed(text), is_last=False)

    def close(self) -> list[Piece]:
        """The rest: the text has ended."""
        return self._advance(self._scanner.close(), is_last=True)

    @property
    def held(self) -> str:
        """What is held back."""
        return self._sentences.held[self._done :] + self._scanner.held

    def _advance(self, pieces: list[Piece], *, is_last: bool) -> list[Piece]:
        texts = [self._sentences.held]
        place = len(texts[0])
        for piece in pieces:
            text = piece if isinstance(piece, str) else piece.text
            if isinstance(piece, Found):
                self._values.append((place, piece))
            texts.append(text)
            place += len(text)
        sentences = self._sentences.feed("".join(texts[1:]))
        if is_last:
            sentences += self._sentences.close()
        return self._take("".join(texts), sentences) if sentences else []

    def _take(self, text: str, sentences: list[str]) -> list[Piece]:
        """Decides about ``sentences``, which ``text`` begins with."""
        end = sum(map(len, sentences))
        found = sorted([*self._values, *self._names_in(sentences)], key=itemgetter(0))
        pieces: list[Piece] = []
        done = self._done
        for place, value in found:
            if place >= end:
                break
            if place > done:
                pieces.append(text[done:place])
            pieces.append(value)
            done = place + len(value.text)
        if done < end:
            pieces.append(text[done:end])
        self._values = [(place - end, value) for place, value in self._values if place >= end]
        self._done = max(done - end, 0)
        return pieces

    def _names_in(self, sentences: list[str]) -> Iterator[tuple[int, Found]]:
        """What the sentences name where no value is, with the places in all of them together."""
        asked = [SURROGATES.sub("\ufffd", each) for each in sentences if _may_name(each)]
        answers = iter(self._find(asked))
        values = [(0, self._done), *((place, place + len(value.text)) for place, value in self._values)]
        start = 0
        for sentence in sentences:
            if _may_name(sentence):
                first = bisect_left(values, (start, 0)) - 1
                last = bisect_left(values, (start + len(sentence), 0))
                taken = [(begin - start, end - start) for begin, end in values[max(first, 0) : last]]
                taken += [placeholder.span() for placeholder in _PLACEHOLDER.finditer(sentence)]
                for place, name in self._names_of(sentence, next(answers), sorted(taken)):
                    yield start + place, name
            start += len(sentence)

    def _names_of(
        self, sentence: str, entities: Entities, taken: list[tuple[int, int]]
    ) -> Iterator[tuple[int, Found]]:
        """The names of one sentence, as far as they are outside of the places that are ``taken``."""
        for entity in entities:
            if entity.entity_type not in self._entity_types:
                continue
            for start, end in _free(entity.start, entity.end, taken):
                name = sentence[start:end].rstrip(_EDGES)
                place = start + len(name) - len(name.lstrip(_EDGES))
                name = name.lstrip(_EDGES)
                if _HAS_LETTER.search(name) and name not in self._allowed:
                    yield place, Found(name, entity.entity_type, SCORE)


def _may_name(sentence: str) -> bool:
    return _HAS_LETTER.search(sentence) is not None and not _SMALL_WORD.fullmatch(sentence)


def _free(start: int, end: int, taken: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of ``start`` to ``end`` is not taken; ``taken`` is in order."""
    for begin, stop in taken:
        if start < begin < end:
            yield start, begin
        if begin < end:
            start = max(start, stop)
    if start < end:
        yield start, end
