"""What was seen of a target of late: how long it takes, and how many attempts are under way at it."""

import math
from collections import deque
from typing import Final

#: How much of a mean the last sample is.
_WEIGHT: Final = 0.2
#: A mean that nobody adds to fades, so that a slow target is tried again: by two thirds in so many seconds.
_FADE_SECONDS: Final = 300.0
#: Times that are kept for percentiles, and how many it takes to tell one.
_KEPT: Final = 64
_ENOUGH: Final = 20


class Observations:
    """One target's times, in seconds, and its attempts under way."""

    __slots__ = ("_first_token", "_first_tokens", "_latencies", "_latency", "_seen_at", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._latency: float | None = None
        self._first_token: float | None = None
        self._first_tokens: deque[float] = deque(maxlen=_KEPT)
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._seen_at = 0.0

    @property
    def latency(self) -> float | None:
        """The decayed mean time of a whole attempt that served."""
        return self._latency

    @property
    def time_to_first_token(self) -> float | None:
        """The decayed mean time to the first content of a stream."""
        return self._first_token

    def fading(self, now: float) -> tuple[float, float]:
        """The mean times to the first content and in all as the least-latency strategy sees them.

        0 for what is not known, so that it is tried.
        """
        if self._latency is None:
            return 0.0, 0.0
        left = math.exp(-max(now - self._seen_at, 0.0) / _FADE_SECONDS)
        return (self._first_token or 0.0) * left, self._latency * left

    def usual_wait(self, percentile: float, *, streams: bool) -> float | None:
        """The time within which that share of streams had content, or of answers were complete.

        None when too few are known.
        """
        waits = self._first_tokens if streams else self._latencies
        if len(waits) < _ENOUGH:
            return None
        ordered = sorted(waits)
        return ordered[min(int(len(ordered) * percentile), len(ordered) - 1)]

    def add(self, now: float, latency: float, first_token: float | None) -> None:
        """Takes an attempt that served into account."""
        self._seen_at = now
        self._latency = _blend(self._latency, latency)
        self._latencies.append(latency)
        if first_token is not None:
            self._first_token = _blend(self._first_token, first_token)
            self._first_tokens.append(first_token)


def _blend(mean: float | None, sample: float) -> float:
    return sample if mean is None else mean + (sample - mean) * _WEIGHT
