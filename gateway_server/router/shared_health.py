"""What processes tell each other of targets, through Redis: a few times a second, beside the calls.

No call waits for it. While Redis is away each process goes by what it sees itself; what it heard runs out.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from redis.exceptions import RedisError

from gateway_server.clock import Clock
from gateway_server.metrics import Metrics
from gateway_server.redis_script import Command, RedisScript
from gateway_server.router.health import LONGEST_SECONDS, News, Word
from gateway_server.router.router import Router
from gateway_server.tasks import end_task

_LOG: Final = logging.getLogger(__name__)

_SCRIPT: Final = files("gateway_server.router").joinpath("share.lua").read_text()
_KEY: Final = "aigw:{targets}:health"

#: How often news are exchanged: so long a process may not know what another told, and twice that at the most.
_TICK_SECONDS: Final = 0.25
_AWAY_TICK_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 0.5

#: The name of a word in Redis: its news, its target, and the state of the target's provider that it is about.
_Field = tuple[News, str, str]
#: The end of a word that holds no more.
_TAKEN_BACK: Final = 0.0


class SharedHealth:
    """Passes on what this process's router finds, and tells it of the others'. Its owner closes it."""

    def __init__(self, url: str, router: Router, *, clock: Clock, metrics: Metrics) -> None:
        self._script = RedisScript(url, _SCRIPT, connect_seconds=_TIMEOUT_SECONDS)
        self._router = router
        self._clock = clock
        self._metrics = metrics
        self._told: dict[_Field, float] = {}  # until when, on the monotonic clock
        self._unsent: set[_Field] = set()
        self._heard_closed: dict[_Field, int] = {}  # which of them: by when they end in Redis
        self._is_away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to exchange news."""
        self._metrics.target_health_shared.set(1)
        self._router.health.tell = self.tell
        self._task = asyncio.create_task(self._exchange_for_ever(), name="shared health")

    async def close(self) -> None:
        """Stops; does not fail."""
        self._router.health.tell = None
        if self._task is not None:
            await end_task(self._task)
            self._task = None
        await self._script.close()

    def tell(self, word: Word) -> None:
        """Passes a word on with the next exchange. Neither waits nor fails."""
        etag = self._etag_of(word.target)
        if etag is None or word.seconds < _TICK_SECONDS:
            return  # gone, or over before anybody has heard of it
        self._put((word.news, word.target, etag), self._clock.monotonic() + word.seconds)
        if word.news is News.CLOSED:  # the reverse would keep who opens at the same moment from hearing of it
            self._put((News.OPENED, word.target, etag), _TAKEN_BACK)

    def _etag_of(self, target: str) -> str | None:
        """Tells the state of a target's provider from others, and from those of other gateways."""
        return self._router.catalog.provider_etags.get(target.partition("/")[0])

    def _put(self, field: _Field, until: float) -> None:
        self._told[field] = until
        self._unsent.add(field)

    async def _exchange_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await self._exchange()
            except Exception as error:  # noqa: BLE001 -- whatever it is, calls go on and it is tried again
                if not isinstance(error, (RedisError, OSError)):
                    _LOG.exception("exchanging news of targets failed")
                self._note(error)
            else:
                self._note(None)
            await asyncio.sleep(_AWAY_TICK_SECONDS if self._is_away else _TICK_SECONDS)

    async def _exchange(self) -> None:
        began = self._clock.monotonic()
        self._drop_what_is_over(began)
        sent, self._unsent = self._unsent, set()
        try:
            answer = await self._script.run_one(self._command(sent, began))
        except BaseException:
            self._unsent.update(self._told)  # a Redis that comes back may have lost what it knew
            raise
        waited = self._clock.monotonic() - began
        closed: dict[_Field, int] = {}
        for field, ends, seconds in _read(answer):
            news, target, etag = field
            if self._etag_of(target) != etag or self._router.catalog.find(target) is None:
                continue  # of a provider that was changed, or is of another gateway
            if news is News.CLOSED:
                closed[field] = ends
                if self._heard_closed.get(field) == ends:
                    continue
            if seconds > waited:
                self._router.health.hear(Word(news, target, seconds - waited))
        self._heard_closed = closed

    def _drop_what_is_over(self, now: float) -> None:
        self._told = {
            field: until
            for field, until in self._told.items()
            if until > now or (until == _TAKEN_BACK and field in self._unsent)
        }
        self._unsent &= self._told.keys()

    def _command(self, fields: set[_Field], now: float) -> Command:
        arguments: Command = [1, _KEY, round(LONGEST_SECONDS * 1000)]
        for field in fields:
            arguments += [" ".join(field), max(int((self._told[field] - now) * 1000), 0)]
        return arguments

    def _note(self, error: Exception | None) -> None:
        if (error is not None) == self._is_away:
            return
        self._is_away = error is not None
        self._metrics.target_health_shared.set(0 if self._is_away else 1)
        if error is None:
            _LOG.warning("what is known of targets is shared again")
        else:
            _LOG.error(
                "each process finds out for itself how targets are doing: Redis is away (%s)",
                type(error).__name__,
            )


def _read(answer: Sequence[bytes | int]) -> Iterator[tuple[_Field, int, float]]:
    """Each word of an answer, when it ends in Redis, and for how many seconds it holds.

    Whoever can write to Redis may have written anything: what is no word is passed over.
    """
    for place in range(0, len(answer), 3):
        name, ends, milliseconds = answer[place : place + 3]
        if not isinstance(name, bytes):
            continue
        match name.decode(errors="replace").split(" "):
            case [News.OPENED | News.CLOSED | News.LIMITED as news, target, etag]:
                yield (News(news), target, etag), int(ends), int(milliseconds) / 1000
