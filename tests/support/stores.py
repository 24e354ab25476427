"""Real databases for tests: one fresh, migrated store for each backend that the tests run on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.schema import upgrade

#: What the suites that touch a database run on, each in turn.
BACKENDS: Final[Sequence[str]] = ("sqlite",)


@asynccontextmanager
async def fresh_database(backend: str, folder: Path) -> AsyncIterator[str]:
    """The URL of an empty database, without tables."""
    match backend:
        case "sqlite":
            yield f"sqlite:///{folder / 'gateway.db'}"
        case _:
            raise ValueError(f"no such backend: {backend}")


@asynccontextmanager
async def fresh_store(backend: str, folder: Path) -> AsyncIterator[Store]:
    """A store with all tables and no rows."""
    async with fresh_database(backend, folder) as url:
        await upgrade(url)
        store = open_store(url)
        try:
            yield store
        finally:
            await store.close()


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = 1_760_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
