"""When a breaker opens, what it lets through, and that it always closes again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.router.breaker import BREAKER_OPEN, Breaker, BreakerState, Cooldown, Passage
from gateway_server.router.retry_budget import CAPACITY, PER_CALL, PER_SECOND, RetryBudget


def fail(breaker: Breaker, times: int, now: float) -> None:
    for _ in range(times):
        passage = breaker.begin(now)
        assert passage is not None
        breaker.fail(passage, now)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, 5, now)
    assert breaker.state(now) is BreakerState.OPEN
    return breaker


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = Breaker()
    fail(breaker, 4, 0.0)
    breaker.succeed(Passage.FREE, 0.0)
    fail(breaker, 4, 0.0)
    assert breaker.state(0.0) is BreakerState.CLOSED
    fail(breaker, 1, 0.0)
    assert breaker.cooldown(0.0) == Cooldown(2.0, BREAKER_OPEN)


def test_half_of_ten_that_fail_open_it_and_fewer_do_not() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(3):
            breaker.succeed(Passage.FREE, 1.0)
        fail(breaker, 2, 1.0)
    assert breaker.state(1.0) is BreakerState.CLOSED
    assert breaker.error_rate(1.0) == pytest.approx(0.4)
    breaker.succeed(Passage.FREE, 1.0)
    fail(breaker, 4, 1.0)
    assert breaker.state(1.0) is BreakerState.OPEN


def test_failures_of_long_ago_do_not_count() -> None:
    breaker = Breaker()
    for second in range(0, 100, 12):
        fail(breaker, 4, float(second))
        breaker.succeed(Passage.FREE, float(second))
    assert breaker.state(100.0) is BreakerState.CLOSED
    assert breaker.error_rate(200.0) is None


def test_half_open_lets_one_through_at_a_time() -> None:
    breaker = opened()
    assert breaker.begin(1.9) is None
    assert breaker.begin(2.0) is Passage.PROBE
    assert breaker.begin(2.0) is None
    breaker.abandon(Passage.PROBE)
    assert breaker.begin(2.1) is Passage.PROBE
    breaker.succeed(Passage.PROBE, 2.2)
    assert breaker.begin(2.2) is Passage.FREE


def test_it_stays_open_longer_after_each_probe_that_fails() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(8):
        cooldown = breaker.cooldown(now)
        assert cooldown is not None
        waits.append(cooldown.until - now)
        now = cooldown.until
        assert breaker.begin(now) is Passage.PROBE
        breaker.fail(Passage.PROBE, now)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_what_began_before_it_opened_tells_nothing() -> None:
    breaker = opened()
    breaker.succeed(Passage.FREE, 1.0)
    breaker.fail(Passage.FREE, 1.0)
    assert breaker.cooldown(1.0) == Cooldown(2.0, BREAKER_OPEN)
    assert breaker.begin(2.0) is Passage.PROBE
    breaker.fail(Passage.FREE, 2.0)
    breaker.abandon(Passage.FREE)
    assert breaker.begin(2.0) is None, "the probe is still under way"


def test_anothers_breaker_is_believed_for_the_shortest_time_then_a_probe_decides() -> None:
    for heard, believed in ((1e9, 2.0), (0.5, 0.5)):
        breaker = Breaker()
        breaker.hear_of_opening(heard, 0.0)
        assert breaker.cooldown(0.0) == Cooldown(believed, BREAKER_OPEN)
        breaker.hear_of_opening(heard, 0.4)  # again, which makes it no longer
        assert breaker.state(believed) is BreakerState.HALF_OPEN
        assert breaker.begin(believed) is Passage.PROBE
        assert breaker.begin(believed) is None
        assert breaker.succeed(Passage.PROBE, believed)
        assert breaker.state(believed) is BreakerState.CLOSED


def test_who_has_seen_a_target_serve_after_all_believes_nobody_for_a_minute() -> None:
    """So another process that cannot reach it, or that lies, costs two seconds and a probe in a minute."""
    breaker = Breaker()
    closed_for = opened_for = 0.0
    for tenth in range(6000):
        now = tenth / 10
        breaker.hear_of_opening(60.0, now)
        if breaker.begin(now) is Passage.PROBE:
            breaker.succeed(Passage.PROBE, now)
        if breaker.state(now) is BreakerState.CLOSED:
            closed_for += 0.1
        else:
            opened_for += 0.1
    assert closed_for > 29 * opened_for


def test_anothers_word_changes_nothing_of_what_was_found_here() -> None:
    breaker = opened()
    breaker.hear_of_opening(1.0, 0.5)
    assert breaker.cooldown(0.5) == Cooldown(2.0, BREAKER_OPEN)


def test_anothers_probe_that_served_allows_one_here_at_once_and_no_more() -> None:
    breaker = opened()
    breaker.hear_of_closing(0.5)
    assert breaker.begin(0.5) is Passage.PROBE
    assert breaker.begin(0.5) is None
    assert breaker.fail(Passage.PROBE, 0.5) == 4.0
    assert breaker.cooldown(0.5) == Cooldown(4.5, BREAKER_OPEN)
    closed = Breaker()
    closed.hear_of_closing(0.0)
    assert closed.begin(0.0) is Passage.FREE
    assert closed.share(0.0) == 1.0


def test_its_share_comes_back_little_by_little() -> None:
    breaker = opened()
    assert breaker.share(0.0) == 1.0
    breaker.begin(2.0)
    breaker.succeed(Passage.PROBE, 2.0)
    assert [breaker.share(now) for now in (2.0, 7.0, 12.0, 20.0)] == pytest.approx([0.1, 0.55, 1.0, 1.0])


def test_a_cooldown_ends_by_itself_and_is_not_made_shorter() -> None:
    breaker = Breaker()
    breaker.cool_down(Cooldown(10.0, "UPSTREAM_RATE_LIMITED"))
    breaker.cool_down(Cooldown(5.0, "UPSTREAM_CREDENTIAL_REJECTED"))
    assert breaker.cooldown(9.9) == Cooldown(10.0, "UPSTREAM_RATE_LIMITED")
    assert breaker.cooldown(10.0) is None
    assert breaker.begin(10.0) is Passage.FREE


def test_of_a_wait_and_an_open_breaker_the_longer_holds() -> None:
    breaker = opened()
    breaker.cool_down(Cooldown(1.0, "UPSTREAM_RATE_LIMITED"))
    assert breaker.cooldown(0.0) == Cooldown(2.0, BREAKER_OPEN)
    breaker.cool_down(Cooldown(3.0, "UPSTREAM_RATE_LIMITED"))
    assert breaker.cooldown(0.0) == Cooldown(3.0, "UPSTREAM_RATE_LIMITED")


HEARD = ("hear_of_opening", "hear_of_closing")
STEPS = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from(("succeed", "fail", "abandon", "cool_down", *HEARD))),
    max_size=60,
)


@given(STEPS)
def test_whatever_happened_it_closes_once_the_target_serves(steps: list[tuple[float, str]]) -> None:
    breaker, now = Breaker(), 0.0
    for elapsed, what in steps:
        now += elapsed
        match what:
            case "hear_of_opening":
                breaker.hear_of_opening(1e9, now)
                continue
            case "hear_of_closing":
                breaker.hear_of_closing(now)
                continue
        passage = breaker.begin(now)
        if passage is None:
            continue
        match what:
            case "succeed":
                breaker.succeed(passage, now)
            case "fail":
                breaker.fail(passage, now)
            case "cool_down":
                breaker.abandon(passage)
                breaker.cool_down(Cooldown(now + 3, "UPSTREAM_RATE_LIMITED"))
            case _:
                breaker.abandon(passage)
    cooldown = breaker.cooldown(now)
    if cooldown is not None:
        assert cooldown.until <= now + 60
        now = cooldown.until
    passage = breaker.begin(now)
    assert passage is not None
    breaker.succeed(passage, now)
    assert breaker.state(now) is BreakerState.CLOSED
    assert breaker.begin(now) is Passage.FREE


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 3), st.integers(0, 9)), max_size=60))
def test_no_more_retries_than_the_budget_has(steps: list[tuple[float, int, int]]) -> None:
    now, calls, taken = 0.0, 0, 0
    budget = RetryBudget(now)
    for elapsed, new_calls, retries in steps:
        now += elapsed
        calls += new_calls
        for _ in range(new_calls):
            budget.add_call(now)
        taken += sum(budget.take(now) for _ in range(retries))
        assert taken <= CAPACITY + calls * PER_CALL + now * PER_SECOND + 1e-6
