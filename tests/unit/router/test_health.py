"""What attempts make of a target's health, and who is told."""

from __future__ import annotations

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.metrics import Metrics
from gateway_server.router.health import HealthBook, TargetHealth


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
