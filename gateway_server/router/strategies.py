"""How targets are ordered: pure functions of what a request would cost and what was seen of each target.

``balanced`` scores a target by ``weight * (1 - quality / best quality) + (1 - weight) * (1 - lowest cost /
cost)``: 0 for one that is the best and the cheapest, 0.5 of either part for one that is half as good, or
twice as dear. Both parts are ratios, so neither the unit nor one outlier among the targets matters. What is
free counts as a tenth of the cheapest that is not, so that those stay apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from aigateway.v1.routing_pb2 import RoutingStrategy

#: What a strategy that goes by something puts targets behind of which that is not known.
_UNKNOWN: Final = math.inf
_SHARE_OF_FREE: Final = 0.1


class Prospect(NamedTuple):
    """A target as the strategies see it. ``position`` is its place in the route's list, and is unique.

    Costs are in billionths of a US dollar, times in seconds; None is not known. A time of 0 has not been
    measured yet.
    """

    position: int
    weight: int = 1
    estimated_cost_nanos: int | None = None
    quality_score: float | None = None
    time_to_first_token: float = 0.0
    latency: float = 0.0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """What an order depends on besides the targets: ``turn`` counts the calls of a route."""

    draw: Random
    turn: int = 0
    streams: bool = False
    quality_weight: float = 0.5


class Ranked(NamedTuple):
    """A target in its place, by its position, and what it was ordered by: lower is better."""

    position: int
    score: float | None


Strategy = Callable[[Sequence[Prospect], Situation], list[Ranked]]


def order(
    strategy: RoutingStrategy.ValueType, prospects: Sequence[Prospect], situation: Situation
) -> list[Ranked]:
    """All of the targets in the order of trial."""
    return _STRATEGIES[strategy](prospects, situation)


def _cost_optimized(prospects: Sequence[Prospect], _: Situation) -> list[Ranked]:
    return _by_score(prospects, [_or_unknown(each.estimated_cost_nanos) for each in prospects])


def _quality_first(prospects: Sequence[Prospect], _: Situation) -> list[Ranked]:
    scores = [_UNKNOWN if each.quality_score is None else -each.quality_score for each in prospects]
    return _by_score(prospects, scores)


def _balanced(prospects: Sequence[Prospect], situation: Situation) -> list[Ranked]:
    best = max((each.quality_score or 0.0 for each in prospects), default=0.0)
    costs = [each.estimated_cost_nanos for each in prospects if each.estimated_cost_nanos is not None]
    of_free = min((cost for cost in costs if cost > 0), default=1) * _SHARE_OF_FREE
    lowest = min(costs, default=0) or of_free
    weight = situation.quality_weight
    return _by_score(
        prospects,
        [
            weight * _shortfall(each.quality_score or 0.0, best)
            + (1 - weight) * _excess(each.estimated_cost_nanos, lowest, of_free)
            for each in prospects
        ],
    )


def _shortfall(quality: float, best: float) -> float:
    """0 for the best, 1 for no quality at all, or none that is known."""
    return 1 - quality / best if best > 0 else 0.0


def _excess(cost: int | None, lowest: float, of_free: float) -> float:
    """0 for the cheapest, nearer to 1 the dearer; 1 without a price."""
    return 1.0 if cost is None else 1 - lowest / (cost or of_free)


def _priority(prospects: Sequence[Prospect], _: Situation) -> list[Ranked]:
    return [Ranked(each.position, None) for each in sorted(prospects, key=_position)]


def _weighted(prospects: Sequence[Prospect], situation: Situation) -> list[Ranked]:
    """A random order in which each target comes first as often as its weight says.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006).
    """
    keys = [-math.log(1 - situation.draw.random()) / each.weight for each in prospects]
    return [Ranked(position, None) for position, _ in _by_score(prospects, keys)]


def _round_robin(prospects: Sequence[Prospect], situation: Situation) -> list[Ranked]:
    in_order = sorted(prospects, key=_position)
    first = situation.turn % len(in_order) if in_order else 0
    return [Ranked(each.position, None) for each in in_order[first:] + in_order[:first]]


def _least_latency(prospects: Sequence[Prospect], situation: Situation) -> list[Ranked]:
    scores = [each.time_to_first_token if situation.streams else each.latency for each in prospects]
    return _by_score(prospects, scores)


def _least_busy(prospects: Sequence[Prospect], situation: Situation) -> list[Ranked]:
    """The less busy of two drawn at random first: nearly as good as the least busy, without the herd.

    Mitzenmacher, "The power of two choices in randomized load balancing" (2001).
    """
    drawn = sorted(prospects, key=_position)
    situation.draw.shuffle(drawn)
    first = min(drawn[:2], key=lambda each: each.in_flight, default=None)
    others = sorted((each for each in drawn if each is not first), key=lambda each: each.in_flight)
    in_order = others if first is None else [first, *others]
    return [Ranked(each.position, float(each.in_flight)) for each in in_order]


_STRATEGIES: Final[Mapping[RoutingStrategy.ValueType, Strategy]] = {
    RoutingStrategy.ROUTING_STRATEGY_UNSPECIFIED: _priority,
    RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED: _cost_optimized,
    RoutingStrategy.ROUTING_STRATEGY_QUALITY_FIRST: _quality_first,
    RoutingStrategy.ROUTING_STRATEGY_BALANCED: _balanced,
    RoutingStrategy.ROUTING_STRATEGY_PRIORITY: _priority,
    RoutingStrategy.ROUTING_STRATEGY_WEIGHTED: _weighted,
    RoutingStrategy.ROUTING_STRATEGY_ROUND_ROBIN: _round_robin,
    RoutingStrategy.ROUTING_STRATEGY_LEAST_LATENCY: _least_latency,
    RoutingStrategy.ROUTING_STRATEGY_LEAST_BUSY: _least_busy,
}


def _by_score(prospects: Sequence[Prospect], scores: Sequence[float]) -> list[Ranked]:
    """Lowest first; of equals the one that the route names first."""
    ranked = sorted(zip(scores, (each.position for each in prospects), strict=True))
    return [Ranked(position, None if score == _UNKNOWN else score) for score, position in ranked]


def _or_unknown(number: int | None) -> float:
    return _UNKNOWN if number is None else number


def _position(prospect: Prospect) -> int:
    return prospect.position
