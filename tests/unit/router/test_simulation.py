"""Laws that hold in bad times, on a clock that is not real: the short form of ``bench.simulation``."""

from __future__ import annotations

from functools import cache

import pytest

from bench.simulation import Outcome, World, simulate, ways
from gateway_server.router.retry_budget import RetryBudget


def world_of(seed: int) -> World:
    return World(targets=10, requests=3_000, requests_a_second=40, seed=seed)


def simulated(name: str, world: World) -> Outcome:
    [make_way] = [make_way for each, make_way in ways(world.seed) if each == name]
    return simulate(name, make_way, world)


@cache
def outcome_of(name: str, world: World) -> Outcome:
    """As it comes out again each time."""
    return simulated(name, world)


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, second = (simulated("cost optimized", world_of(3)) for _ in range(2))
    assert first.row() == second.row()


@pytest.mark.parametrize("seed", [1, 2])
def test_it_sends_less_to_what_fails_and_pays_less_than_plain_round_robin(seed: int) -> None:
    world = world_of(seed)
    plain, routed = outcome_of("plain round robin with retries", world), outcome_of("round robin", world)
    cheap = outcome_of("cost optimized", world)
    assert routed.served >= routed.requests * 0.998
    assert cheap.served >= cheap.requests * 0.998
    assert routed.attempts_while_failing < plain.attempts_while_failing
    assert cheap.cost < plain.cost


#: Far more than the targets take: what a retry budget is for.
STORM = World(targets=5, requests=2_000, requests_a_second=1_000, seed=1)


@pytest.mark.parametrize("name", ["cost optimized", "round robin"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_laws(name: str, seed: int) -> None:
    """``simulate`` holds the gateway to them."""
    assert outcome_of(name, world_of(seed)).requests == 3_000


def test_the_laws_in_a_storm() -> None:
    assert outcome_of("cost optimized", STORM).requests == 2_000


def test_a_storm_without_a_retry_budget_breaks_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryBudget, "take", lambda _budget, _now: True)
    with pytest.raises(AssertionError, match=r"got \d+ retries"):
        simulated("cost optimized", STORM)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["cost optimized", "round robin"])
def test_the_laws_at_full_size(name: str) -> None:
    """Fifty targets and a hundred thousand requests."""
    outcome = outcome_of(name, World())
    assert outcome.served >= 0.9995 * outcome.requests
