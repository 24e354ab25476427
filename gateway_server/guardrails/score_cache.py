"""Scores of texts that were judged before: a conversation comes again with each of its turns."""

from collections.abc import Mapping

from gateway_server.guardrails.detectors import AttackScores, TextModels
from gateway_server.guardrails.remembered import Remembered


class CachedModels:
    """Judges like ``models`` and remembers the last texts by their hashes alone; any thread may ask."""

    def __init__(self, models: TextModels, *, size: int = 8_192) -> None:
        self._attack = Remembered(models.attack, size)
        self._moderation = Remembered(models.moderation, size)

    def attack(self, text: str) -> AttackScores:
        """See TextModels."""
        return self._attack.judge(text)

    def moderation(self, text: str) -> Mapping[str, float]:
        """See TextModels."""
        return self._moderation.judge(text)
