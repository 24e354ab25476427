"""Short English prose that speaks of nothing an attack speaks of, told apart quickly.

Reading all features of a text costs a third of a small call, however short it is. Most questions need not be
read so closely: an order to drop rules has to name at least two of the things that attacks are about.
"""

import re
from collections.abc import Mapping
from typing import Final

import re2

#: Longer texts are read closely: something may be hidden in them.
_LONGEST: Final = 600
_LONGEST_WORD: Final = 20
#: By how many letters stems are looked up; none is shorter.
_FIRST_LETTERS: Final = 3
#: How many different concepts of attacks are too many, and how many when one is of those below.
_MANY_CONCEPTS: Final = 3
_MANY_BESIDE: Final = 2
_SUSPICIOUS: Final = frozenset({"ignore", "rule", "prompt", "prior", "hidden", "password", "persona", "mode"})
#: The share of words that plain English has and other languages, ciphers and scraps have not.
_COMMON_SHARE: Final = 0.25
_MOST_SINGLE_LETTERS: Final = 2

_PLAIN: Final = re.compile(r"[A-Za-z0-9 .,;:?!'\"()\-\n/%$&]*")
_WORD: Final = re.compile(r"[a-z']+")
#: RE2 tells it in a fifth of the time.
_MIXED: Final = re2.compile(r"[A-Za-z][0-9]|[0-9][a-z]{2}|[a-z][A-Z]|[a-z][.!$/][a-z]")
_COMMON_WORDS: Final = """
    a about all also an and any are as at be been but by can could did do does for from get give had
    has have how i if in into is it its like make may me more most much my no not of on one or other
    our out over should so some such than that the their them then there these they this to up use
    was we were what when where which who why will with would you your write explain please between
    list best long many difference
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())


class PlainText:
    """Tells by a lexicon of concepts, written as in ``concepts``."""

    def __init__(self, lexicon: Mapping[str, str]) -> None:
        self._words: dict[str, int] = {}
        #: By their first letters, the shortest first.
        self._stems: dict[str, list[tuple[str, int]]] = {}
        self._suspicious = {index for index, name in enumerate(lexicon) if name in _SUSPICIOUS}
        for concept, words in enumerate(lexicon.values()):
            for entry in words.split():
                if not entry.isascii():
                    continue
                stem = entry.rstrip("*")
                if stem != entry:
                    self._stems.setdefault(stem[:_FIRST_LETTERS], []).append((stem, concept))
                else:
                    self._words.setdefault(stem.replace("_", " "), concept)
        for stems in self._stems.values():
            stems.sort(key=lambda stem: len(stem[0]))

    def is_plain(self, text: str) -> bool:
        """Whether the text is short English prose with few concepts of attacks."""
        if len(text) > _LONGEST or not _PLAIN.fullmatch(text) or _MIXED.search(text):
            return False
        words = _WORD.findall(text.lower())
        common = sum(map(_COMMON.__contains__, words))
        if common < _COMMON_SHARE * len(words) or not words:
            return False
        lengths = list(map(len, words))
        single_letters = lengths.count(1) - words.count("a") - words.count("i")
        if max(lengths) > _LONGEST_WORD or single_letters > _MOST_SINGLE_LETTERS:
            return False
        return self._says_little(words)

    def _says_little(self, words: list[str]) -> bool:
        concepts: set[int] = set()
        before = ""
        for word in words:
            found = self._words.get(word)
            if found is None:
                found = self._words.get(f"{before} {word}")
            if found is None:
                for stem, concept in self._stems.get(word[:_FIRST_LETTERS], ()):
                    if word.startswith(stem):
                        found = concept
                        break
            if found is not None:
                concepts.add(found)
            before = word
        return len(concepts) < (_MANY_CONCEPTS if concepts.isdisjoint(self._suspicious) else _MANY_BESIDE)
