"""How each strategy orders targets: a table, and laws."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway.v1.routing_pb2 import RoutingStrategy as Strategy
from gateway_server.router.strategies import Prospect, Situation, order

MINI = Prospect(
    0, estimated_cost_nanos=100, quality_score=60, time_to_first_token=0.4, latency=2.0, in_flight=3
)
LARGE = Prospect(1, estimated_cost_nanos=2_000, quality_score=90, time_to_first_token=0.9, latency=1.0)
FREE = Prospect(
    2, estimated_cost_nanos=0, quality_score=30, time_to_first_token=0.2, latency=9.0, in_flight=1
)
UNKNOWN = Prospect(3)
ALL = [MINI, LARGE, FREE, UNKNOWN]


def positions(strategy: Strategy.ValueType, situation: Situation, prospects: list[Prospect]) -> list[int]:
    return [each.position for each in order(strategy, prospects, situation)]


def situation(**options: object) -> Situation:
    return Situation(draw=Random(1), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        (Strategy.ROUTING_STRATEGY_UNSPECIFIED, {}, [0, 1, 2, 3]),
        (Strategy.ROUTING_STRATEGY_PRIORITY, {}, [0, 1, 2, 3]),
        (Strategy.ROUTING_STRATEGY_COST_OPTIMIZED, {}, [2, 0, 1, 3]),
        (Strategy.ROUTING_STRATEGY_QUALITY_FIRST, {}, [1, 0, 2, 3]),
        (Strategy.ROUTING_STRATEGY_BALANCED, {"quality_weight": 0.0}, [2, 0, 1, 3]),
        (Strategy.ROUTING_STRATEGY_BALANCED, {"quality_weight": 1.0}, [1, 0, 2, 3]),
        (Strategy.ROUTING_STRATEGY_ROUND_ROBIN, {"turn": 0}, [0, 1, 2, 3]),
        (Strategy.ROUTING_STRATEGY_ROUND_ROBIN, {"turn": 6}, [2, 3, 0, 1]),
        # What is not known yet is tried first, so that it becomes known.
        (Strategy.ROUTING_STRATEGY_LEAST_LATENCY, {"streams": True}, [3, 2, 0, 1]),
        (Strategy.ROUTING_STRATEGY_LEAST_LATENCY, {"streams": False}, [3, 1, 0, 2]),
    ],
)
def test_the_order(strategy: Strategy.ValueType, options: dict[str, object], expected: list[int]) -> None:
    assert positions(strategy, situation(**options), ALL) == expected


def test_balanced_scores_as_it_is_explained() -> None:
    """Half as good and the cheapest: 0.5 * 0.5; the best and four times as dear: 0.5 * 0.75."""
    prospects = [
        Prospect(0, estimated_cost_nanos=100, quality_score=45),
        Prospect(1, estimated_cost_nanos=400, quality_score=90),
    ]
    scored = order(Strategy.ROUTING_STRATEGY_BALANCED, prospects, situation())
    assert [(each.position, each.score) for each in scored] == [(0, 0.25), (1, 0.375)]


def test_weighted_comes_first_as_often_as_the_weights_say() -> None:
    prospects = [Prospect(0, weight=1), Prospect(1, weight=3), Prospect(2, weight=6)]
    draws = Situation(draw=Random(7))
    first = Counter(positions(Strategy.ROUTING_STRATEGY_WEIGHTED, draws, prospects)[0] for _ in range(5_000))
    assert [first[position] / 5_000 for position in range(3)] == pytest.approx([0.1, 0.3, 0.6], abs=0.03)


def test_least_busy_does_not_send_all_to_one() -> None:
    prospects = [Prospect(position, in_flight=position) for position in range(10)]
    draws = Situation(draw=Random(7))
    first = Counter(
        positions(Strategy.ROUTING_STRATEGY_LEAST_BUSY, draws, prospects)[0] for _ in range(2_000)
    )
    assert first[0] / 2_000 == pytest.approx(
        0.2, abs=0.04
    )  # of two of ten, it is one in a fifth of the draws
    assert first[9] == 0
    assert all(first[position] > first[position + 1] for position in range(0, 8, 2))


PROSPECTS = st.lists(
    st.builds(
        Prospect,
        position=st.just(0),
        weight=st.integers(1, 100),
        estimated_cost_nanos=st.none() | st.integers(0, 2**62),
        quality_score=st.none() | st.floats(0, 100),
        time_to_first_token=st.floats(0, 600),
        latency=st.floats(0, 600),
        in_flight=st.integers(0, 1000),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda drawn: [
        Prospect(
            place,
            each.weight,
            each.estimated_cost_nanos,
            each.quality_score,
            each.time_to_first_token,
            each.latency,
            each.in_flight,
        )
        for place, each in enumerate(drawn)
    ]
)


@given(st.sampled_from(Strategy.values()), PROSPECTS, st.integers(0, 2**31), st.booleans(), st.floats(0, 1))
def test_every_target_has_one_place_whatever_is_known(
    strategy: Strategy.ValueType, prospects: list[Prospect], turn: int, streams: bool, weight: float
) -> None:
    told = Situation(draw=Random(turn), turn=turn, streams=streams, quality_weight=weight)
    assert sorted(positions(strategy, told, prospects)) == list(range(len(prospects)))


@given(PROSPECTS, st.floats(0, 1))
def test_what_is_no_dearer_and_no_worse_never_scores_worse(prospects: list[Prospect], weight: float) -> None:
    told = Situation(draw=Random(0), quality_weight=weight)
    ranked = order(Strategy.ROUTING_STRATEGY_BALANCED, prospects, told)
    scores = {each.position: each.score or 0.0 for each in ranked}
    for one, other in itertools.permutations(prospects, 2):
        if one.estimated_cost_nanos is None or other.estimated_cost_nanos is None:
            continue
        if one.estimated_cost_nanos <= other.estimated_cost_nanos and (
            (one.quality_score or 0) >= (other.quality_score or 0)
        ):
            assert scores[one.position] <= scores[other.position]
