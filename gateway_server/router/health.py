"""How each target is doing, as this process has seen it."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError, reason_name
from gateway_server.router.breaker import Breaker, Cooldown, Passage
from gateway_server.router.observations import Observations
from gateway_server.router.retry_budget import RetryBudget

#: How long a target is left alone that refused the credential, or whose account has no quota left.
_CREDENTIAL_SECONDS: Final = 30.0
_QUOTA_SECONDS: Final = 60.0
#: The longest that a provider's own word is believed, and another process's.
LONGEST_SECONDS: Final = 600.0

#: Failures that are the target's fault and may be over at any time.
_COUNTED: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE,
        ErrorReason.ERROR_REASON_UPSTREAM_TIMEOUT,
        ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR,
        ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED,
    }
)

_RATE_LIMITED: Final = reason_name(ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED)


class News(StrEnum):
    """What a process finds of a target that others do well to know."""

    OPENED = "opened"
    """Its breaker has opened."""
    CLOSED = "closed"
    """Its probe has served."""
    LIMITED = "limited"
    """The provider said for how long it takes no more calls."""


class Word(NamedTuple):
    """Such news of a target, ``provider/model``, and for how many seconds they hold."""

    news: News
    target: str
    seconds: float


#: How long the news of a probe that served are of use to those who have not heard of it yet.
_CLOSED_SECONDS: Final = 3.0

#: Is told what others do well to know; must neither wait nor fail.
Tell = Callable[[Word], None]
#: Is told of each new cooldown: the target's name, and why.
OnCooldown = Callable[[str, str], None]


class TargetHealth:
    """One target: its breaker, its retry budget, its observations."""

    __slots__ = ("breaker", "name", "observations", "retry_budget")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.breaker = Breaker()
        self.observations = Observations()
        self.retry_budget = RetryBudget(now)


class HealthBook:
    """The health of all targets by their names, ``provider/model``."""

    def __init__(self, clock: Clock, *, breaks: bool = True, on_cooldown: OnCooldown | None = None) -> None:
        """Without ``breaks`` nothing is ever left alone; times are observed all the same."""
        self._clock = clock
        self._breaks = breaks
        self._on_cooldown = on_cooldown
        self._targets: dict[str, TargetHealth] = {}
        #: Who passes on what other processes do well to know.
        self.tell: Tell | None = None

    def of(self, name: str) -> TargetHealth:
        """The health of a target; of a new one when nothing is known."""
        health = self._targets.get(name)
        if health is None:
            health = self._targets[name] = TargetHealth(name, self._clock.monotonic())
        return health

    def __iter__(self) -> Iterator[TargetHealth]:
        return iter(self._targets.values())

    def now(self) -> float:
        """The time that all of it is measured by."""
        return self._clock.monotonic()

    def forget(self, provider_id: str) -> None:
        """Forgets the targets of a provider that was changed: they may be all right now."""
        for name in [name for name in self._targets if name.partition("/")[0] == provider_id]:
            self._targets[name].breaker = Breaker()  # attempts under way still count in the observations

    def is_left_alone(self, health: TargetHealth, at: float) -> bool:
        """Whether a target would be left alone at a time to come, as things stand."""
        return self._breaks and health.breaker.cooldown(at) is not None

    def begin(self, health: TargetHealth) -> Passage | None:
        """Begins an attempt; None when the target is to be left alone. ``end`` must follow if it began."""
        passage = health.breaker.begin(self._clock.monotonic()) if self._breaks else Passage.FREE
        if passage is not None:
            health.observations.in_flight += 1
        return passage

    def end(
        self,
        health: TargetHealth,
        passage: Passage,
        error: BaseException | None,
        *,
        latency: float = 0.0,
        first_token: float | None = None,
    ) -> None:
        """Ends an attempt with what came of it; times are in seconds, and count when it served."""
        health.observations.in_flight -= 1
        now = self._clock.monotonic()
        if error is None:
            health.observations.add(now, latency, first_token)
        if not self._breaks:
            return
        breaker = health.breaker
        before = breaker.cooldown(now)
        if error is None or _answered(error):
            if breaker.succeed(passage, now):
                self._tell(News.CLOSED, health, _CLOSED_SECONDS)
        elif (cooldown := _cooldown_for(error, now)) is not None:
            breaker.abandon(passage)
            breaker.cool_down(cooldown)
            if _is_for_all(error):
                self._tell(News.LIMITED, health, cooldown.until - now)
        elif isinstance(error, GatewayError) and error.reason in _COUNTED:
            if open_seconds := breaker.fail(passage, now):
                self._tell(News.OPENED, health, open_seconds)
        else:
            breaker.abandon(passage)
        after = breaker.cooldown(now)
        if after is not None and after != before and self._on_cooldown is not None:
            self._on_cooldown(health.name, after.reason)

    def hear(self, word: Word) -> None:
        """Takes into account what another process found, as far as this one does not know better."""
        if not self._breaks:
            return
        breaker, now = self.of(word.target).breaker, self._clock.monotonic()
        match word.news:
            case News.OPENED:
                breaker.hear_of_opening(word.seconds, now)
            case News.CLOSED:
                breaker.hear_of_closing(now)
            case News.LIMITED:
                breaker.cool_down(Cooldown(now + min(word.seconds, LONGEST_SECONDS), _RATE_LIMITED))
            case _:
                assert_never(word.news)

    def _tell(self, news: News, health: TargetHealth, seconds: float) -> None:
        if self.tell is not None:
            self.tell(Word(news, health.name, seconds))


def _is_for_all(error: BaseException | None) -> bool:
    """Whether a failure that cools a target down says the same to every process.

    A refused credential and an empty account may be of this process alone, whose variables are its own; each
    finds out by one call.
    """
    return (
        isinstance(error, GatewayError)
        and error.reason == ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED
        and error.retryable
    )


def _answered(error: BaseException) -> bool:
    """Whether the target did what it should: it was right to refuse."""
    return isinstance(error, GatewayError) and error.reason == ErrorReason.ERROR_REASON_UPSTREAM_REJECTED


def _cooldown_for(error: BaseException | None, now: float) -> Cooldown | None:
    """For how long a failure says that the target is of no use to anybody."""
    if not isinstance(error, GatewayError):
        return None
    if error.reason == ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED:
        return Cooldown(now + _CREDENTIAL_SECONDS, error.reason_name)
    if error.reason == ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED:
        if not error.retryable:
            return Cooldown(now + _QUOTA_SECONDS, error.reason_name)
        if error.retry_after:
            return Cooldown(now + min(error.retry_after, LONGEST_SECONDS), error.reason_name)
    return None
