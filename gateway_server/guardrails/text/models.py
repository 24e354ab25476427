"""The classifiers of texts: one model file, loaded once, that any number of threads read.

A score of 0.5 is the threshold that ships: about one harmless text in a hundred, of any length, reaches it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.remembered import Remembered
from gateway_server.guardrails.text.concepts import ATTACK, MODERATION
from gateway_server.guardrails.text.features import (
    Concepts,
    Reading,
    chunk_texts,
    find_features,
    make_concepts,
    read_chunk,
)
from gateway_server.guardrails.text.gibberish import gibberish_tail
from gateway_server.guardrails.text.normalise import normalise, views
from gateway_server.guardrails.text.plainness import PlainText
from gateway_server.guardrails.text.rules import Kind, find_rule
from gateway_server.guardrails.text.scoring import category_scores, window_scores

Number = TypeVar("Number", bound=np.generic)

CATEGORIES: Final = ("hate", "harassment", "sexual", "violence", "self_harm", "illicit")

_FILE: Final = Path(__file__).with_name("model.npz")
#: The score of a text that a rule finds, if the model gives less.
_RULE_SCORE: Final = 0.9
#: By how much a tail of gibberish raises a score, on the logistic scale.
_GIBBERISH_WEIGHT: Final = 6.0
_STEEPNESS: Final = 0.8
#: So many texts of up to so many characters are read once for all that is asked of them.
_READINGS: Final = 16
_LONGEST_READING: Final = 32768


@dataclass(frozen=True, slots=True)
class AttackScores:
    """How surely a text is an attack, and of which kind: from 0 to 1, and 0.5 is the shipped threshold."""

    attack: float
    injection: float
    jailbreak: float


#: Of texts that need no closer look.
_PLAIN: Final = AttackScores(0.01, 0.01, 0.01)


@dataclass(frozen=True, slots=True)
class Heads:
    """Weights of linear heads, whole bytes, with what makes scores of them."""

    #: A row for each feature; of one, two, four or eight bytes, which numpy gathers the quickest.
    weights: NDArray[np.int8]
    #: By which the sums of each head are multiplied.
    scales: NDArray[np.float32]
    #: The sum at which each score is 0.5.
    thresholds: NDArray[np.float32]


class TextModels:
    """Scores texts for attacks and for what should not be written."""

    __slots__ = ("_attack", "_attack_concepts", "_moderation", "_moderation_concepts", "_plain", "_recent")

    def __init__(self, attack: Heads, moderation: Heads) -> None:
        self._attack = attack
        self._moderation = moderation
        self._attack_concepts = make_concepts(ATTACK)
        self._moderation_concepts = make_concepts(MODERATION)
        self._plain = PlainText(ATTACK)
        self._recent = Remembered(_read, _READINGS)

    def attack(self, text: str) -> AttackScores:
        """How surely the text, or what is encoded in it, tries to take over a model or to free it."""
        if self._plain.is_plain(text):
            return _PLAIN
        best, jailbreak, rule = -math.inf, 0.5, None
        for view in views(text):
            for scores in _score(self._read(view), self._attack, self._attack_concepts):
                top = int(scores[:, 0].argmax())
                if scores[top, 0] > best:
                    best, jailbreak = float(scores[top, 0]), _logistic(float(scores[top, 1]))
            rule = rule or find_rule(view)
        best -= float(self._attack.thresholds[0])
        score = _logistic(_STEEPNESS * best + _GIBBERISH_WEIGHT * gibberish_tail(text))
        if rule is not None and score < _RULE_SCORE:
            score, jailbreak = _RULE_SCORE, float(rule is Kind.JAILBREAK)
        return AttackScores(score, score * min(1.0, 2 - 2 * jailbreak), score * min(1.0, 2 * jailbreak))

    def moderation(self, text: str) -> Mapping[str, float]:
        """How surely the text is of each category, at its worst place."""
        best = np.full(len(CATEGORIES), -np.inf, dtype=np.float32)
        for scores in _score(self._read(normalise(text)), self._moderation, self._moderation_concepts):
            best = np.maximum(best, category_scores(scores))
        above = (best - self._moderation.thresholds).tolist()
        return {name: _logistic(_STEEPNESS * score) for name, score in zip(CATEGORIES, above, strict=True)}

    def _read(self, plain: str) -> Sequence[Reading]:
        return self._recent.judge(plain) if len(plain) <= _LONGEST_READING else _read(plain)


def _read(plain: str) -> Sequence[Reading]:
    return tuple(map(read_chunk, chunk_texts(plain)))


def _score(readings: Sequence[Reading], heads: Heads, concepts: Concepts) -> Iterator[NDArray[np.float32]]:
    """The scores of the windows of each chunk, (windows, heads)."""
    for reading in readings:
        scores = window_scores(find_features(reading, concepts), heads.weights)
        yield scores[:, : len(heads.scales)] * heads.scales


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


@cache
def load_models() -> TextModels:
    """The models of the file that ships, the same object each time."""
    with np.load(_FILE, allow_pickle=False) as arrays:
        heads = [
            Heads(
                _frozen(_padded(arrays[f"{name}_weights"])),
                _frozen(arrays[f"{name}_scales"]),
                _frozen(arrays[f"{name}_thresholds"]),
            )
            for name in ("attack", "moderation")
        ]
    return TextModels(*heads)


def _padded(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    heads = weights.shape[1]
    return np.pad(weights, ((0, 0), (0, (1 << (heads - 1).bit_length()) - heads)))


def _frozen(array: NDArray[Number]) -> NDArray[Number]:
    array.setflags(write=False)
    return array
