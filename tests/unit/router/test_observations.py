"""What is remembered of a target's times, and of how long its answers are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.router.observations import Observations
from gateway_server.usage.expectation import OutputExpectation


def seen(*latencies: float, first_token: float | None = None, now: float = 0.0) -> Observations:
    observations = Observations()
    for latency in latencies:
        observations.add(now, latency, first_token)
    return observations


def test_a_mean_follows_what_came_last() -> None:
    observations = seen(1.0, first_token=0.2)
    observations.add(0.0, 2.0, 0.4)
    assert observations.latency == pytest.approx(1.2)
    assert observations.time_to_first_token == pytest.approx(0.24)
    observations.add(0.0, 1.2, None)
    assert observations.time_to_first_token == pytest.approx(0.24), "a whole answer tells nothing of it"


def test_what_nobody_adds_to_fades_so_that_a_slow_target_is_tried_again() -> None:
    observations = seen(9.0, first_token=3.0, now=100.0)
    assert observations.fading(100.0) == (3.0, 9.0)
    # By two thirds in five minutes, or rather to 1 / e.
    assert list(observations.fading(400.0)) == pytest.approx([1.1036, 3.3109], rel=0.001)
    assert observations.latency == 9.0
    assert Observations().fading(100.0) == (0.0, 0.0)


def test_the_usual_wait_is_told_once_enough_are_known() -> None:
    assert seen(*range(19)).usual_wait(0.95, streams=False) is None
    assert seen(*range(20)).usual_wait(0.95, streams=False) == 19
    assert seen(*range(64)).usual_wait(0.95, streams=False) == 60
    assert seen(*[99.0] * 50, *range(64)).usual_wait(0.95, streams=False) == 60, "of the last ones"
    assert seen(*range(64)).usual_wait(0.95, streams=True) is None
    assert seen(*range(64), first_token=0.5).usual_wait(0.95, streams=True) == 0.5


@given(st.lists(st.floats(0, 600), min_size=1))
def test_a_mean_is_within_what_was_seen(latencies: list[float]) -> None:
    mean = seen(*latencies).latency
    assert mean is not None
    assert min(latencies) * (1 - 1e-9) <= mean <= max(latencies) * (1 + 1e-9)


def test_the_length_of_answers_is_learned_for_each_target_and_never_above_the_limit() -> None:
    expectation = OutputExpectation()
    assert expectation.of("p/a", limit=0) == 256
    assert expectation.of("p/a", limit=100) == 100
    expectation.learn("p/a", 0)
    assert expectation.of("p/a", limit=0) == 192
    for _ in range(50):
        expectation.learn("p/a", 1_000)
    assert expectation.of("p/a", limit=0) == 1_000
    assert expectation.of("p/b", limit=0) == 256
