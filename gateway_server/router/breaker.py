"""When a target is left alone: after many failures, and for as long as a provider asks.

A breaker is closed while calls go through, open while none do, and half open while one probe at a time does.
After it closes, the target gets its share of calls back little by little.
"""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

#: The window in which failures are counted, in slices that drop out one by one.
_SLICE_SECONDS: Final = 1.0
_SLICES: Final = 10
#: Opens when so many attempts in the window have failed at this rate, or so many in a row.
_MIN_ATTEMPTS: Final = 10
_FAILURE_RATE: Final = 0.5
_FAILURES_IN_A_ROW: Final = 5
#: How long it stays open: longer each time that a probe fails.
_FIRST_OPEN_SECONDS: Final = 2.0
_LONGEST_OPEN_SECONDS: Final = 60.0
#: For so long after a probe has served here, this process knows better than others that it is well.
_SURE_SECONDS: Final = 60.0
#: How long a target takes to get its whole share back, and what it starts with.
_SLOW_START_SECONDS: Final = 10.0
_SLOW_START_SHARE: Final = 0.1


class Passage(Enum):
    """On which terms an attempt was let through."""

    FREE = auto()
    """As any other."""
    PROBE = auto()
    """To see whether the target has recovered; nobody else goes through meanwhile."""


class BreakerState(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Every call."""
    OPEN = "open"
    """None."""
    HALF_OPEN = "half_open"
    """One at a time, to see whether the target has recovered."""


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Until when a target is left alone, on the monotonic clock, and why: a reason of the contract, or
    ``BREAKER_OPEN``.
    """

    until: float
    reason: str


BREAKER_OPEN: Final = "BREAKER_OPEN"


class Breaker:
    """The breaker of one target. Times are seconds on a monotonic clock that the caller reads."""

    __slots__ = (
        "_closed_at",
        "_cooldown",
        "_failures",
        "_in_a_row",
        "_open_seconds",
        "_open_until",
        "_probing",
        "_slice",
        "_successes",
    )

    def __init__(self) -> None:
        self._successes = [0] * _SLICES
        self._failures = [0] * _SLICES
        self._slice = 0
        self._in_a_row = 0
        self._open_until: float | None = None
        self._open_seconds = _FIRST_OPEN_SECONDS
        self._closed_at = -math.inf
        self._probing = False
        self._cooldown: Cooldown | None = None

    def state(self, now: float) -> BreakerState:
        """What it lets through."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def cooldown(self, now: float) -> Cooldown | None:
        """Why no call may go to the target now, if none may: of two reasons the one that holds longer."""
        told = self._cooldown
        if told is not None and now >= told.until:
            told = None
        if self._open_until is not None and (now < self._open_until or self._probing):
            until = max(self._open_until, now)
            if told is None or until > told.until:
                return Cooldown(until, BREAKER_OPEN)
        return told

    def begin(self, now: float) -> Passage | None:
        """Lets one attempt through, or not; whoever is let through tells one of the three that follow."""
        if self.cooldown(now) is not None:
            return None
        if self._open_until is None:
            return Passage.FREE
        self._probing = True
        return Passage.PROBE

    def abandon(self, passage: Passage) -> None:
        """An attempt ended without telling anything of the target."""
        if passage is Passage.PROBE:
            self._probing = False

    def succeed(self, passage: Passage, now: float) -> bool:
        """An attempt served; gives whether that has closed it."""
        if passage is Passage.PROBE:
            self._probing = False
            self._close(now)
        elif self._open_until is not None:
            return False  # it began before the breaker opened; the next probe will see
        self._in_a_row = 0
        self._turn(now)
        self._successes[self._slice % _SLICES] += 1
        return passage is Passage.PROBE

    def fail(self, passage: Passage, now: float) -> float:
        """An attempt failed by the target's fault; gives for how many seconds that has opened it, or 0."""
        if passage is Passage.PROBE:
            self._probing = False
            self._open_seconds = min(self._open_seconds * 2, _LONGEST_OPEN_SECONDS)
            self._open_until = now + self._open_seconds
            return self._open_seconds
        if self._open_until is not None:
            return 0.0
        self._turn(now)
        self._failures[self._slice % _SLICES] += 1
        self._in_a_row += 1
        failures, attempts = self._counts()
        if self._in_a_row >= _FAILURES_IN_A_ROW or (
            attempts >= _MIN_ATTEMPTS and failures >= attempts * _FAILURE_RATE
        ):
            self._open_until = now + self._open_seconds
            return self._open_seconds
        return 0.0

    def hear_of_opening(self, seconds: float, now: float) -> None:
        """Another process's breaker has opened for ``seconds``.

        It is believed for the shortest time, and then a probe from here decides: the fault may be between
        that process and the target.
        """
        if self._open_until is None and now - self._closed_at >= _SURE_SECONDS:
            self._open_until = now + min(seconds, _FIRST_OPEN_SECONDS)

    def hear_of_closing(self, now: float) -> None:
        """Another process's probe has served: one from here may find out at once whether it does here too."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, now)

    def cool_down(self, cooldown: Cooldown) -> None:
        """Leaves the target alone until then; never for a shorter time than was asked before."""
        if self._cooldown is None or cooldown.until > self._cooldown.until:
            self._cooldown = cooldown

    def error_rate(self, now: float) -> float | None:
        """The share of attempts in the window that failed; None when there were none."""
        self._turn(now)
        failures, attempts = self._counts()
        return failures / attempts if attempts else None

    def is_recovering(self, now: float) -> bool:
        """Whether it has closed of late, and the target does not get its whole share yet."""
        return now - self._closed_at < _SLOW_START_SECONDS

    def share(self, now: float) -> float:
        """How much of its share of calls the target gets, above 0 and up to 1."""
        since = (now - self._closed_at) / _SLOW_START_SECONDS
        return min(1.0, _SLOW_START_SHARE + since * (1 - _SLOW_START_SHARE))

    def _close(self, now: float) -> None:
        self._open_until = None
        self._open_seconds = _FIRST_OPEN_SECONDS
        self._closed_at = now
        self._successes = [0] * _SLICES
        self._failures = [0] * _SLICES

    def _counts(self) -> tuple[int, int]:
        failures = sum(self._failures)
        return failures, failures + sum(self._successes)

    def _turn(self, now: float) -> None:
        """Drops the slices that are out of the window by now."""
        current = int(now / _SLICE_SECONDS)
        for passed in range(min(max(current - self._slice, 0), _SLICES)):
            self._successes[(current - passed) % _SLICES] = 0
            self._failures[(current - passed) % _SLICES] = 0
        self._slice = max(current, self._slice)
