"""Several gateways on one database, as processes that can be killed and started again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aigateway import AsyncClient
from tests.support.gateway import ADMIN_KEY, GatewayProcess, client_of, gateway_process


class Member:
    """One gateway: its folder stays while its processes come and go."""

    def __init__(self, state_dir: Path, settings: dict[str, Any]) -> None:
        self.state_dir = state_dir
        self.deaths = 0
        self._settings = settings
        self._process: GatewayProcess | None = None
        self._clients: dict[str, AsyncClient] = {}
        self._stack = AsyncExitStack()
        #: Clients are closed at the very end: their calls have to see the process die.
        self._connections = AsyncExitStack()

    @property
    def lives(self) -> bool:
        """Whether it has been started and not been ended since."""
        return self._process is not None

    async def start(self) -> None:
        """Starts a process and waits until it serves."""
        process = await self._stack.enter_async_context(gateway_process(self.state_dir, **self._settings))
        if not await process.ready():
            raise AssertionError(f"a gateway did not start:\n{process.log}")
        self._process = process

    async def client(self, api_key: str) -> AsyncClient:
        """A client of the process that lives now."""
        assert self._process is not None
        if api_key not in self._clients:
            self._clients[api_key] = await self._connections.enter_async_context(
                client_of(self._process.address, api_key)
            )
        return self._clients[api_key]

    async def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        process, self._process = self._process, None
        assert process is not None
        process.process.kill()
        self.deaths += 1
        await self._forget()

    async def stop(self) -> None:
        """SIGTERM; it must drain and end well."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            code, log = await process.exit_code(60), process.log
            await self._forget()
            assert code == 0, log
        await self._connections.aclose()

    async def _forget(self) -> None:
        self._clients = {}
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


class Fleet:
    """The gateways, and who of them lives."""

    def __init__(self, members: list[Member], draw: random.Random) -> None:
        self.members = members
        self._draw = draw

    @property
    def deaths(self) -> int:
        """How many processes were killed."""
        return sum(member.deaths for member in self.members)

    async def client_of_somebody(self, api_key: str) -> AsyncClient | None:
        """A client of any gateway that lives; None when none does."""
        living = [member for member in self.members if member.lives]
        return await self._draw.choice(living).client(api_key) if living else None

    async def admin(self) -> AsyncClient:
        """An administrator's client of the first gateway."""
        return await self.members[0].client(ADMIN_KEY)


@asynccontextmanager
async def running_fleet(
    folder: Path, count: int, draw: random.Random, **settings: Any
) -> AsyncIterator[Fleet]:
    """``count`` gateways; all that live at the end are stopped, and must end well."""
    await asyncio.to_thread(folder.mkdir)
    fleet = Fleet([Member(folder / f"gateway-{number}", settings) for number in range(count)], draw)
    try:
        for member in fleet.members:  # in turn: the first makes the database
            await member.start()
        yield fleet
    finally:
        await asyncio.gather(*(member.stop() for member in fleet.members))
