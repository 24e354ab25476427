"""One connection to Redis that runs one Lua script, many times in one round trip."""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

#: What follows the script in EVALSHA: the number of keys, keys, arguments.
Command = list[bytes | str | int | float]

#: What Redis says of itself that redis-py has no classes for.
_STATES: Final = ("BUSY", "MISCONF", "NOREPLICAS")


class RedisScript:
    """Connects itself when it is needed. Its one user bounds how long that takes, and closes it."""

    def __init__(self, url: str, script: str, *, connect_seconds: float) -> None:
        """``url`` is as redis-py takes it: ``redis://``, ``rediss://``, with user, password and database."""
        pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=connect_seconds,
            socket_timeout=None,  # redis-py's is kept by asyncio.wait_for, which loses cancels on Python 3.11
            retry=Retry(NoBackoff(), 0),
            # A connection begins with nothing but HELLO: less to go wrong in 50 ms, and no file is read.
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        #: redis-py's client above it would cost several times as much.
        self._connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._script: Final = script
        self._digest: Final = sha1(script.encode()).hexdigest()  # noqa: S324 -- Redis names scripts by it

    @property
    def is_connected(self) -> bool:
        """Whether the next round trip need not connect first."""
        return bool(self._connection.is_connected)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of the script; an error that is of one command alone is its answer.

        Raises RedisError, OSError for what keeps Redis from answering anybody.
        """
        answers = await self.exchange([("EVALSHA", self._digest, *command) for command in commands])
        again = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if again:
            # Redis has forgotten the script: it was restarted, or flushed. None of these has run.
            _, *later = await self.exchange(
                [
                    ("SCRIPT", "LOAD", self._script),
                    *(("EVALSHA", self._digest, *commands[place]) for place in again),
                ]
            )
            for place, answer in zip(again, later, strict=True):
                answers[place] = answer
        for answer in answers:
            if isinstance(answer, Exception) and not _is_of_command(answer):
                raise answer
        return answers

    async def run_one(self, command: Command) -> Any:  # noqa: ANN401 -- whatever the script gives
        """The answer of the script. Raises RedisError, OSError."""
        [answer] = await self.run([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Answers to commands, sent together; an error of one is its answer."""
        connection = self._connection
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            # redis-py's own packing takes eight times as long.
            packed = b"".join([pack_command(command) for command in commands])
            await connection.send_packed_command(packed, check_health=False)
            answers: list[Any] = []
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)  # what is still to come is nobody's answer any more
            raise
        return answers

    async def close(self) -> None:
        """Closes the connection; does not fail."""
        with suppress(RedisError, OSError):
            await self._connection.disconnect()


def _is_of_command(error: Exception) -> bool:
    """Whether a command failed by what it found, not by the state that Redis is in.

    Redis that is loading, full, read-only or a part of a cluster says so by classes of their own.
    """
    return type(error) is ResponseError and not str(error).startswith(_STATES)
