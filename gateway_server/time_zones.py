"""Time zones by their IANA names, read from files once and off the event loop."""

import asyncio
from datetime import UTC, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_loaded: Final[dict[str, tzinfo]] = {"": UTC, "UTC": UTC}


async def load_time_zones(*names: str) -> None:
    """Makes zones ready for ``time_zone``. Raises KeyError with the name of one that does not exist."""
    for name in names:
        if name not in _loaded:
            try:
                _loaded[name] = await asyncio.to_thread(ZoneInfo, name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise KeyError(name) from None


def time_zone(name: str) -> tzinfo:
    """A zone that was loaded; empty means UTC. Raises KeyError."""
    return _loaded[name]
