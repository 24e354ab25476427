"""Models that judge texts by words that a test puts in, so that it is known what they say."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway_server.guardrails.text.models import CATEGORIES


@dataclass(frozen=True, slots=True)
class Scores:
    """See gateway_server.guardrails.detectors.AttackScores."""

    injection: float
    jailbreak: float


class WordModels:
    """A text scores 0.9 where it says INJECTION, JAILBREAK, or a category in capitals; else 0.1."""

    def attack(self, text: str) -> Scores:
        """See TextModels."""
        return Scores(_score("INJECTION", text), _score("JAILBREAK", text))

    def moderation(self, text: str) -> Mapping[str, float]:
        """See TextModels."""
        return {category: _score(category.upper(), text) for category in CATEGORIES}


def _score(word: str, text: str) -> float:
    return 0.9 if word in text else 0.1
