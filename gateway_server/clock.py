"""Time as the gateway sees it, passed in so that tests choose it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for dates, one for durations."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""
        ...


class SystemClock:
    """The clocks of the machine."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
