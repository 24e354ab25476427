"""Tails of scraps that an optimiser appends to a request: how much the end of a text looks like one."""

import re
from functools import cache
from typing import Final, Protocol

import re2

_TAIL: Final = 240
_LONGEST: Final = 4000
#: Brackets and marks inside or between words as no prose, and no code that runs, has them.
_SCRAP: Final = (
    r"[a-z][A-Z]|[a-zA-Z][(\[{\\}\])!$*|]{1,3}[a-zA-Z]|[({\[\\]{2,}|\]\(|[})\]]\s?[({\[]|\\\+|\*\*[A-Za-z]+\s"
    r"|--[>A-Za-z]|[=+\\]{2,}\s"
    r"|[.,;:!?]{2,}[A-Za-z(\[{]|\s[\\|}\])$%^&*+=<>~]+\s|:: |\"\"|``|[a-z]\\n"
)
_CODE: Final = (
    r"\n[ \t]|[;{]\s*\n|\w+\(\w*\);|</|https?://|^\s*[{\[<]|=>|\n.*\n.*\n"
    r"|\"\s*:\s|\+\+|\w\[\w+\]|; ?}|\b(?:for|if|while) ?\("
)
_PROSE: Final = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z']+){4,}")


class _Pattern(Protocol):
    def search(self, text: str) -> object: ...
    def findall(self, text: str) -> list[str]: ...


@cache
def _compiled(source: str) -> _Pattern:
    pattern: _Pattern = re2.compile(source)
    return pattern


def gibberish_tail(text: str) -> float:
    """From 0 to 1: a request in prose that ends in scraps gives 1, code and prose alone give 0."""
    text = text.strip()
    if not 60 <= len(text) <= _LONGEST or _PROSE.match(text[:80].lstrip("\"'#* ")) is None:
        return 0.0
    # RE2 takes no halves of pairs.
    text = text.encode("utf-8", "replace").decode()
    tail = text[max(30, len(text) - _TAIL) :]
    found = _compiled(_SCRAP).findall(tail)
    if not found or _compiled(_CODE).search(text):
        return 0.0
    end = tail[-120:]
    scraps = max(len(found) / max(len(tail), 50), len(_compiled(_SCRAP).findall(end)) / max(len(end), 50))
    return min(1.0, max(0.0, (scraps - 0.03) / 0.05))
