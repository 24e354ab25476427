"""Scores of texts that were judged before: a conversation comes again with each of its turns."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from gateway_server.guardrails.detectors import AttackScores, TextModels
from gateway_server.guardrails.hashed_cache import HashedCache

T = TypeVar("T")


class CachedModels:
    """Judges like ``models`` and remembers the last texts by their hashes alone; any thread may ask."""

    def __init__(self, models: TextModels, *, size: int = 8_192) -> None:
        self._models = models
        self._attacks = HashedCache[AttackScores](size)
        self._moderations = HashedCache[Mapping[str, float]](size)

    def attack(self, text: str) -> AttackScores:
        """See TextModels."""
        return _judge(text, self._models.attack, self._attacks)

    def moderation(self, text: str) -> Mapping[str, float]:
        """See TextModels."""
        return _judge(text, self._models.moderation, self._moderations)


def _judge(text: str, judge: Callable[[str], T], cache: HashedCache[T]) -> T:
    result = cache.get(text)
    if result is None:
        result = judge(text)
        cache.put(text, result)
    return result
