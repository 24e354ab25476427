"""Scores of texts that were judged before: a conversation comes again with each of its turns."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from threading import Lock
from typing import Final, Generic, TypeVar

from gateway_server.guardrails.detectors import AttackScores, TextModels

T = TypeVar("T")

_DIGEST_BYTES: Final = 16


class CachedModels:
    """Judges like ``models`` and remembers the last texts by their hashes alone; any thread may ask."""

    def __init__(self, models: TextModels, *, size: int = 8_192) -> None:
        self._attack = _Remembered(models.attack, size)
        self._moderation = _Remembered(models.moderation, size)

    def attack(self, text: str) -> AttackScores:
        """See TextModels."""
        return self._attack.judge(text)

    def moderation(self, text: str) -> Mapping[str, float]:
        """See TextModels."""
        return self._moderation.judge(text)


class _Remembered(Generic[T]):
    """The last results of a pure function of a text."""

    def __init__(self, judge: Callable[[str], T], size: int) -> None:
        self._judge = judge
        self._size = size
        self._results: OrderedDict[bytes, T] = OrderedDict()
        self._lock = Lock()

    def judge(self, text: str) -> T:
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        with self._lock:
            result = self._results.get(key)
            if result is not None:
                self._results.move_to_end(key)
                return result
        result = self._judge(text)
        with self._lock:
            self._results[key] = result
            if len(self._results) > self._size:
                self._results.popitem(last=False)
        return result
