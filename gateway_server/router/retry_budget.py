"""How many retries a target gets, so that a failing one is not stormed by those that it failed."""

from typing import Final

#: Retries that may come at once.
CAPACITY: Final = 10.0
#: What a first try adds, and what a second adds: one retry in five calls, and one a second at least.
PER_CALL: Final = 0.2
PER_SECOND: Final = 1.0


class RetryBudget:
    """A bucket of retries: at most ``CAPACITY + calls * PER_CALL + seconds * PER_SECOND`` are ever taken."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        """``now`` and all times are seconds on a monotonic clock."""
        self._left = CAPACITY
        self._at = now

    def add_call(self, now: float) -> None:
        """Notes a first try."""
        self._refill(now)
        self._left = min(self._left + PER_CALL, CAPACITY)

    def take(self, now: float) -> bool:
        """Takes one retry, if one is left."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._left + (now - self._at) * PER_SECOND, CAPACITY)
            self._at = now
