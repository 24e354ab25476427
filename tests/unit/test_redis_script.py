"""The connection to Redis when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway_server.redis_script import RedisScript


async def greet_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the greeting, and never answers anything else."""
    with suppress(OSError):
        while asked := await reader.read(65_536):
            if b"HELLO" in asked:
                writer.write(b"%1\r\n+proto\r\n:3\r\n")
    writer.close()


async def test_a_cancel_is_not_swallowed_wherever_it_comes() -> None:
    async with await asyncio.start_server(greet_only, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for steps in range(60):
            script = RedisScript(f"redis://127.0.0.1:{port}", "return 1", connect_seconds=1)
            task = asyncio.create_task(script.run([[0]]))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=1)
            assert task.cancelled(), f"after {steps} steps"
            await script.close()
