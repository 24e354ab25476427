"""What attempts make of a target's health, and who is told."""

from __future__ import annotations

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.metrics import Metrics
from gateway_server.router.health import HealthBook, News, TargetHealth, Word


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time


def failure(reason: str, *, retryable: bool = True, retry_after: float | None = None) -> GatewayError:
    value = ErrorReason.Value(f"ERROR_REASON_{reason}")
    return GatewayError(value, "", retryable=retryable, retry_after=retry_after)


def end_one(book: HealthBook, health: TargetHealth, error: BaseException | None) -> None:
    passage = book.begin(health)
    assert passage is not None
    book.end(health, passage, error)


@pytest.mark.parametrize(
    ("error", "seconds", "reason"),
    [
        (failure("UPSTREAM_CREDENTIAL_REJECTED"), 30, "UPSTREAM_CREDENTIAL_REJECTED"),
        (failure("UPSTREAM_RATE_LIMITED", retryable=False), 60, "UPSTREAM_RATE_LIMITED"),
        (failure("UPSTREAM_RATE_LIMITED", retry_after=7.0), 7, "UPSTREAM_RATE_LIMITED"),
        (failure("UPSTREAM_RATE_LIMITED", retry_after=86_400.0), 600, "UPSTREAM_RATE_LIMITED"),
    ],
)
def test_one_failure_that_says_for_how_long(error: GatewayError, seconds: float, reason: str) -> None:
    clock, told = SetClock(), []
    book = HealthBook(clock, on_cooldown=lambda *cooldown: told.append(cooldown))
    health = book.of("p/m")
    end_one(book, health, error)
    assert told == [("p/m", reason)]
    assert book.begin(health) is None
    assert not book.is_left_alone(health, seconds)
    clock.time = seconds
    assert book.begin(health) is not None


@pytest.mark.parametrize(
    "error",
    [
        failure("UPSTREAM_REJECTED", retryable=False),
        failure("FEATURE_NOT_SUPPORTED", retryable=False),
        failure("BUDGET_EXCEEDED", retryable=False),
        failure("SLOW_READER", retryable=False),
        ValueError(),
        None,
    ],
)
def test_what_is_not_the_targets_fault_opens_nothing(error: BaseException | None) -> None:
    book = HealthBook(SetClock())
    health = book.of("p/m")
    for _ in range(50):
        end_one(book, health, error)
    assert book.begin(health) is not None


def test_an_opening_breaker_is_counted_once_in_the_metrics() -> None:
    metrics = Metrics()
    book = HealthBook(SetClock(), on_cooldown=metrics.count_cooldown)
    health = book.of("p/m")
    passages = [book.begin(health) for _ in range(8)]
    for passage in passages:
        assert passage is not None
        book.end(health, passage, failure("UPSTREAM_UNAVAILABLE"))
    labels = {"target": "p/m", "reason": "BREAKER_OPEN"}
    assert metrics.registry.get_sample_value("aigateway_target_cooldowns_total", labels) == 1
    assert health.observations.in_flight == 0


def test_a_changed_provider_is_forgiven() -> None:
    book = HealthBook(SetClock())
    mine, others = book.of("p/m"), book.of("q/m")
    for health in (mine, others):
        end_one(book, health, failure("UPSTREAM_CREDENTIAL_REJECTED"))
    book.forget("p")
    assert book.begin(mine) is not None
    assert book.begin(others) is None


def test_without_a_breaker_nothing_is_left_alone() -> None:
    book = HealthBook(SetClock(), breaks=False)
    health = book.of("p/m")
    for _ in range(20):
        end_one(book, health, failure("UPSTREAM_CREDENTIAL_REJECTED"))
    assert book.begin(health) is not None


def test_what_others_do_well_to_know_is_told() -> None:
    """Not what one call finds out, and may be of this process alone: refused credentials, empty accounts."""
    clock, told = SetClock(), list[Word]()
    book = HealthBook(clock)
    book.tell = told.append
    for name in ("credential", "quota", "limited", "down"):
        book.of(name)
    end_one(book, book.of("credential"), failure("UPSTREAM_CREDENTIAL_REJECTED"))
    end_one(book, book.of("quota"), failure("UPSTREAM_RATE_LIMITED", retryable=False))
    end_one(book, book.of("down"), None)
    assert told == []
    end_one(book, book.of("limited"), failure("UPSTREAM_RATE_LIMITED", retry_after=7.0))
    for _ in range(5):
        end_one(book, book.of("down"), failure("UPSTREAM_UNAVAILABLE"))
    clock.time = 2.0
    end_one(book, book.of("down"), failure("UPSTREAM_TIMEOUT"))
    clock.time = 6.0
    end_one(book, book.of("down"), None)
    end_one(book, book.of("down"), None)
    assert told == [
        Word(News.LIMITED, "limited", 7.0),
        Word(News.OPENED, "down", 2.0),
        Word(News.OPENED, "down", 4.0),
        Word(News.CLOSED, "down", 3.0),
    ]


def test_what_is_heard_holds_no_longer_than_what_is_found_could() -> None:
    clock = SetClock()
    book = HealthBook(clock)
    book.hear(Word(News.LIMITED, "p/m", 1e12))
    book.hear(Word(News.OPENED, "q/m", 1e12))
    limited, opened = book.of("p/m"), book.of("q/m")
    assert book.begin(limited) is None
    assert book.is_left_alone(limited, 599.9)
    assert not book.is_left_alone(limited, 600.0)
    assert not book.is_left_alone(opened, 2.0)


def test_without_a_breaker_nobody_is_heard() -> None:
    book = HealthBook(SetClock(), breaks=False)
    book.hear(Word(News.LIMITED, "p/m", 60.0))
    assert book.begin(book.of("p/m")) is not None
