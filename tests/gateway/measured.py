"""What tests measured; the run's summary tells it."""

from __future__ import annotations

_figures: dict[str, list[float]] = {}


def tell_seconds(what: str, seconds: float) -> None:
    """Notes a time; of several under one name the summary shows the least and the most."""
    _figures.setdefault(what, []).append(seconds)


def lines() -> list[str]:
    """One line for each name."""
    return [
        f"{what}: {min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f} ms ({len(seconds)} times)"
        for what, seconds in _figures.items()
    ]
