"""Laws that hold in bad times, on a clock that is not real: the short form of ``bench.simulation``."""

from __future__ import annotations

import asyncio

import pytest

from aigateway.v1.routing_pb2 import RoutingStrategy
from bench.simulation import (
    DEADLINE_SECONDS,
    Outcome,
    SimulatedTarget,
    VirtualClock,
    VirtualLoop,
    World,
    by_gateway,
    make_targets,
    most_retries,
    router_of,
    run,
    simulate,
    ways,
)
from gateway_server.call import CallContext, Principal

STRATEGIES = (
    RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED,
    RoutingStrategy.ROUTING_STRATEGY_ROUND_ROBIN,
)


def world_of(seed: int) -> World:
    return World(targets=10, requests=3_000, requests_a_second=40, seed=seed)


def outcome_of(name: str, seed: int) -> Outcome:
    [make_way] = [make_way for each, make_way in ways(seed) if each == name]
    return simulate(name, make_way, world_of(seed))


def test_the_same_seed_gives_the_same_outcome() -> None:
    assert outcome_of("cost optimized", 3).row() == outcome_of("cost optimized", 3).row()


@pytest.mark.parametrize("seed", [1, 2])
def test_it_sends_less_to_what_fails_and_pays_less_than_plain_round_robin(seed: int) -> None:
    plain, routed = outcome_of("plain round robin with retries", seed), outcome_of("round robin", seed)
    cheap = outcome_of("cost optimized", seed)
    assert routed.served >= routed.requests * 0.998
    assert cheap.served >= cheap.requests * 0.998
    assert routed.attempts_while_failing < plain.attempts_while_failing
    assert cheap.cost < plain.cost


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_laws(seed: int, strategy: RoutingStrategy.ValueType) -> None:
    world = world_of(seed)
    targets = make_targets(world)
    router = router_of(targets, strategy, seed)

    async def all_of_it() -> None:
        outcome = await run("laws", by_gateway(router, targets), targets, world)
        assert outcome.requests == world.requests, "each call comes to an end"
        assert max(outcome.latencies) <= DEADLINE_SECONDS
        for target in targets:
            assert target.attempts - target.calls <= most_retries(target, VirtualClock().monotonic())
        assert sum(health.observations.in_flight for health in router.health) == 0
        # All faults are over; whatever the breakers thought, each target serves again.
        await asyncio.sleep(max(fault.end for target in targets for fault in target.faults) + 60)
        for target in targets:
            await serves(target)

    async def serves(target: SimulatedTarget) -> None:
        clock = VirtualClock()
        now = clock.monotonic()
        call = CallContext("c", "m", Principal("t", "k", frozenset()), clock, now, now, now + 30)
        assert await by_gateway(router, targets, model=target.name)(call) is target

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(all_of_it())
