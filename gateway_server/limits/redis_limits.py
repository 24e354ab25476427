"""Rate limits that several processes share in Redis: one script, and one round trip for checks that meet.

A breaker keeps calls from waiting for a Redis that is away. Which limits belong together is told by their
``group``, which becomes the hash tag of their keys, so that they are on one node of a Redis Cluster.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from redis.exceptions import AskError, RedisError

from gateway_server.clock import Clock
from gateway_server.limits.checks import CONCURRENT, Check, Refusal, Taken
from gateway_server.limits.limiter import LimitsAwayError
from gateway_server.metrics import Metrics
from gateway_server.redis_script import Command, RedisScript
from gateway_server.tasks import end_task

_LOG: Final = logging.getLogger(__name__)

_SCRIPT: Final = files("gateway_server.limits").joinpath("take.lua").read_text()

#: How long a call waits for an answer. A round trip may take as long, and twice that with a new connection.
_TIMEOUT_SECONDS: Final = 0.05
#: After so many failures in a row nobody waits any more, but for one that tries now and then.
_FAILURES: Final = 3
_PROBE_SECONDS: Final = 1.0
#: How long a node of a cluster is left alone that has told to ask another one: for some keys it would answer.
_REDIRECTED_SECONDS: Final = 60.0
#: How long a settlement waits for a check to travel with.
_LINGER_SECONDS: Final = 0.01
#: Settlements that wait while Redis is away; what is beyond that ends with its lease.
_MAX_SETTLEMENTS: Final = 10_000


@dataclass(slots=True)
class _Asked:
    """One run of the script, and who waits for it.

    Nobody waits for a settlement. ``places`` makes what may be run twice of it: it only frees places.
    """

    command: Command
    answer: asyncio.Future[list[int]] | None = None
    places: Callable[[], Command] | None = None


class RedisLimits:
    """Counts in Redis. Its owner starts and closes it; safe on one event loop."""

    def __init__(self, url: str, *, clock: Clock, metrics: Metrics) -> None:
        """``url`` is as redis-py takes it: ``redis://``, ``rediss://``, with user, password and database."""
        self._script = RedisScript(url, _SCRIPT, connect_seconds=_TIMEOUT_SECONDS)
        self._clock = clock
        self._metrics = metrics
        self._asked: list[_Asked] = []
        self._filled = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._waking: asyncio.TimerHandle | None = None
        #: Whether it was told that some commands fail by themselves.
        self._has_refused = False
        self._failures = 0
        self._probe_at = 0.0
        self._redirected_until = 0.0
        metrics.limiter_shared.set(1)

    @property
    def is_away(self) -> bool:
        """Whether Redis is known to be out of reach."""
        return self._failures >= _FAILURES

    @property
    def probe_seconds(self) -> float:
        """After how many seconds somebody tries again, while it is away."""
        return max(_PROBE_SECONDS, self._redirected_until - self._clock.monotonic())

    async def take(self, group: str, checks: Sequence[Check], lease: str, *, lease_seconds: float) -> Taken:
        """As ``Buckets.take``. Raises LimitsAwayError; a cancel leaves nothing taken."""
        command = _command(
            "take", group, checks, lease, [check.cost for check in checks], seconds=lease_seconds
        )
        answer = self._ask(command)
        try:
            room, *values = await _in_time(asyncio.shield(answer))
        except (asyncio.CancelledError, LimitsAwayError):  # Redis may take it all the same
            answer.add_done_callback(lambda done: self._give_back(done, group, checks, lease))
            raise
        if room:
            # Lua's numbers are doubles: what is left of a large limit is exact only here.
            return Taken([], [check.limit - used for check, used in zip(checks, values, strict=True)])
        return Taken(_refusals(checks, values), [])

    async def look(self, group: str, checks: Sequence[Check]) -> list[Refusal]:
        """What ``take`` would be refused by; takes nothing. Raises LimitsAwayError."""
        costs = [check.cost for check in checks]
        room, *values = await _in_time(self._ask(_command("look", group, checks, "", costs)))
        return [] if room else _refusals(checks, values)

    def settle(self, group: str, checks: Sequence[Check], lease: str, corrections: Sequence[int]) -> None:
        """As ``Buckets.settle``, in the next round trip; never waits, never fails."""
        self._put(
            _Asked(
                _command("settle", group, checks, lease, corrections),
                places=lambda: _command("settle", group, checks, lease, [0] * len(checks)),
            )
        )

    def give_back(self, group: str, checks: Sequence[Check], lease: str) -> None:
        """Undoes what was taken, at once; never waits, never fails."""
        self.settle(group, checks, lease, [-check.cost for check in checks])
        self._filled.set()

    async def used(self, group: str, checks: Sequence[Check]) -> list[int]:
        """As ``Buckets.used``. Raises LimitsAwayError."""
        _, *values = await _in_time(self._ask(_command("used", group, checks, "", [0] * len(checks))))
        return values

    async def start(self) -> None:
        """Begins to send."""
        self._sender = asyncio.create_task(self._send_for_ever(), name="redis limits")

    async def close(self) -> None:
        """Sends what is settled and stops; does not fail."""
        if self._sender is not None:
            await end_task(self._sender)
            self._sender = None
        await self._send(self._take_asked())
        await self._script.close()

    def _ask(self, command: Command) -> asyncio.Future[list[int]]:
        """The answer to come. Raises LimitsAwayError, as the answer may."""
        if self.is_away:
            if self._clock.monotonic() < self._probe_at:
                raise LimitsAwayError
            self._probe_at = self._clock.monotonic() + _PROBE_SECONDS  # this one tries for all
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._put(_Asked(command, answer))
        return answer

    def _give_back(
        self, answer: asyncio.Future[list[int]], group: str, checks: Sequence[Check], lease: str
    ) -> None:
        """Undoes a step whose call has gone meanwhile."""
        if answer.exception() is None and answer.result()[0] == 1:
            self.give_back(group, checks, lease)
        else:
            self.settle(group, checks, lease, [0] * len(checks))

    def _put(self, asked: _Asked) -> None:
        if asked.answer is None and len(self._asked) >= _MAX_SETTLEMENTS:
            return
        self._asked.append(asked)
        if asked.answer is not None:
            self._filled.set()
        elif self._waking is None:  # a settlement goes along with the next check, if one comes soon
            self._waking = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._wake)

    def _take_asked(self) -> list[_Asked]:
        asked, self._asked = self._asked, []
        self._filled.clear()
        return asked

    async def _send_for_ever(self) -> None:
        while True:
            await self._filled.wait()
            if self.is_away and not any(asked.answer for asked in self._asked):
                await asyncio.sleep(_PROBE_SECONDS)  # settlements wait until it is there again
            await self._send(self._take_asked())

    def _wake(self) -> None:
        self._waking = None
        self._filled.set()

    async def _send(self, asked: list[_Asked]) -> None:
        """One round trip for all of them."""
        if not asked:
            return
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS * (1 if self._script.is_connected else 2)):
                answers = await self._script.run([each.command for each in asked])
        except asyncio.CancelledError:
            self._fail(asked)
            raise
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of whatever it is
            if not isinstance(error, (RedisError, OSError)):
                _LOG.exception("sending to Redis failed")
            self._tell(error)
            self._fail(asked)
            return
        self._tell(None)
        for each, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                self._refuse(each, answer)
            elif each.answer is not None and not each.answer.done():
                each.answer.set_result(answer)

    def _refuse(self, asked: _Asked, error: Exception) -> None:
        """The script cannot do this, however often it is asked: it is nobody else's matter."""
        if not self._has_refused:
            _LOG.error("Redis cannot count for some limits, which each process counts for itself: %s", error)
        self._has_refused = True
        _tell_away(asked)

    def _fail(self, asked: list[_Asked]) -> None:
        """Nobody knows what Redis did. Who waits is told; places are freed when it is back."""
        for each in asked:
            if each.places is not None:
                self._put(_Asked(each.places(), places=each.places))
            else:
                _tell_away(each)

    def _tell(self, error: Exception | None) -> None:
        was_away, now = self.is_away, self._clock.monotonic()
        if isinstance(error, AskError):
            self._redirected_until = now + _REDIRECTED_SECONDS
            self._failures = _FAILURES
        elif now < self._redirected_until:
            return
        else:
            self._failures = 0 if error is None else self._failures + 1
        if error is not None:
            self._probe_at = max(now + _PROBE_SECONDS, self._redirected_until)
        if self.is_away != was_away:
            self._metrics.limiter_shared.set(0 if self.is_away else 1)
            if isinstance(error, AskError):
                _LOG.error(
                    "rate limits are counted by each process for itself: Redis is a node of a cluster, whose "
                    "redirections are not followed; redis_url must name a single server, or a proxy"
                )
            elif self.is_away:
                _LOG.error(
                    "rate limits are counted by each process for itself: Redis is away (%s)",
                    type(error).__name__,
                )
            else:
                _LOG.warning("rate limits are shared again")


def _tell_away(asked: _Asked) -> None:
    if asked.answer is not None and not asked.answer.done():
        asked.answer.set_exception(LimitsAwayError())
        asked.answer.exception()  # whoever waits has it; nobody may


async def _in_time(answer: asyncio.Future[list[int]]) -> list[int]:
    """The answer, if it comes soon. Raises LimitsAwayError."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await answer
    except TimeoutError:
        raise LimitsAwayError from None


def _refusals(checks: Sequence[Check], waits: Sequence[int]) -> list[Refusal]:
    pairs = zip(checks, waits, strict=True)
    return [Refusal(check, None if wait < 0 else wait) for check, wait in pairs if wait != -2]


def _command(
    mode: str, group: str, checks: Sequence[Check], lease: str, amounts: Sequence[int], *, seconds: float = 0
) -> Command:
    """Arguments of the script; ``seconds`` is the length of the lease."""
    keys: Command = [f"aigw:{{{group}}}:{check.key}" for check in checks]
    values: Command = [mode, lease, round(seconds * 1_000_000)]
    for check, amount in zip(checks, amounts, strict=True):
        values += ["c" if check.kind == CONCURRENT else "b", check.limit, amount]
    return [len(keys), *keys, *values]
