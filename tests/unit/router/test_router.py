"""Whom a call is planned for: what is known of targets, sessions and answers changes the order."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aigateway import user
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route, RouteTarget
from aigateway.v1.routing_pb2 import CandidateExclusion, GatewayOptions, RoutingStrategy, SessionAffinity
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.call import CallContext, Principal
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Endpoint
from gateway_server.router.affinity import Affinity
from gateway_server.router.catalog import Catalog
from gateway_server.router.facts import ChatFacts
from gateway_server.router.health import HealthBook
from gateway_server.router.retries import TryPolicy
from gateway_server.router.router import Plan, Router
from gateway_server.usage.expectation import OutputExpectation
from tests.unit.router.test_health import SetClock

UNAVAILABLE = ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE
LIMITED = ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED


class World:
    """A router over the models ``p/a``, ``p/b`` and so on, each a dollar a million tokens dearer."""

    def __init__(
        self, *names: str, strategy: RoutingStrategy.ValueType = RoutingStrategy.ROUTING_STRATEGY_PRIORITY
    ) -> None:
        self.clock = SetClock()
        self.health = HealthBook(self.clock)
        self.affinity = Affinity(self.clock)
        self.expectation = OutputExpectation()
        models = [
            Model(name=f"providers/p/models/{name}", price=price(dollars))
            for dollars, name in enumerate(names, 1)
        ]
        endpoint = cast(Endpoint, SimpleNamespace(chat_format=object()))
        targets = [RouteTarget(model=model.name) for model in models]
        self.router = Router(
            Catalog(
                [Provider(name="providers/p", provider_type="vllm")],
                models,
                lambda _: endpoint,
                routes=[Route(name="routes/all", strategy=strategy, targets=targets)],
            ),
            self.health,
            affinity=self.affinity,
            expectation=self.expectation,
            policy=TryPolicy(),
            draw=Random(1),
        )

    def plan(self, *, key: str = "k", timeout: float = 30.0, **fields: Any) -> Plan:
        """The plan of a call."""
        request = CreateChatCompletionRequest(model="all", messages=[user("hello")], **fields)
        principal = Principal("acme", key, frozenset())
        now = self.clock.time
        call = CallContext("id", "m", principal, self.clock, now, now, now + timeout)
        return self.router.plan(ChatFacts(request, streams=False), call)

    def order(self, **fields: Any) -> str:
        """The names of the targets that a call would try."""
        return "".join(option.candidate.names[1] for option in self.plan(**fields).options)

    def end(self, name: str, error: GatewayError | None = None, *, latency: float = 1.0) -> None:
        """Lets an attempt at a target end so."""
        health = self.health.of(f"p/{name}")
        passage = self.health.begin(health)
        assert passage is not None
        self.health.end(health, passage, error, latency=latency)

    def open_breaker(self, name: str) -> None:
        """Five failures in a row."""
        for _ in range(5):
            self.end(name, GatewayError(UNAVAILABLE, "", retryable=True))


def price(dollars: int) -> Price:
    return Price(input_nanos_per_million=dollars * 10**9, output_nanos_per_million=dollars * 10**9)


def dropped(plan: Plan) -> list[tuple[str, str, str]]:
    return [
        (
            each.model.rpartition("/")[2],
            CandidateExclusion.Name(each.exclusion.kind).removeprefix("CANDIDATE_EXCLUSION_"),
            each.exclusion.detail,
        )
        for each in plan.dropped
    ]


def test_who_is_left_alone_is_dropped_and_for_how_long_is_told() -> None:
    world = World("a", "b", "c")
    world.open_breaker("a")
    world.end("b", GatewayError(LIMITED, "", retryable=True, retry_after=7.0))
    world.clock.time = 0.5
    plan = world.plan()
    assert [option.candidate.names[1] for option in plan.options] == ["c"]
    assert dropped(plan) == [
        ("a", "COOLING_DOWN", "BREAKER_OPEN, for 1.5 s"),
        ("b", "COOLING_DOWN", "UPSTREAM_RATE_LIMITED, for 6.5 s"),
    ]


def test_when_all_are_left_alone_those_that_told_a_time_remain() -> None:
    world = World("a", "b", "c")
    world.open_breaker("a")
    world.end("b", GatewayError(LIMITED, "", retryable=True, retry_after=7.0))
    world.end("c", GatewayError(LIMITED, "", retryable=True, retry_after=3.0))
    assert world.order() == "cb", "the first that may be asked again comes first"


def test_when_none_told_a_time_the_call_fails_at_once() -> None:
    world = World("a", "b")
    world.open_breaker("a")
    world.clock.time = 1.0
    world.open_breaker("b")
    with pytest.raises(GatewayError) as caught:
        world.plan()
    assert caught.value.reason == UNAVAILABLE
    assert caught.value.metadata["cause"] == "cooling_down"
    assert caught.value.retry_after == 1.0


def test_a_target_that_takes_longer_than_there_is_time_is_dropped_unless_there_is_no_other() -> None:
    world = World("a", "b")
    world.end("a", latency=9.0)
    assert dropped(world.plan(timeout=2.0)) == [
        ("a", "DEADLINE", "it usually takes 9.0 s, and 2.0 s are left")
    ]
    assert world.order(timeout=2.0) == "b"
    world.end("b", latency=9.0)
    assert world.order(timeout=2.0) == "ab"


def test_a_target_that_has_recovered_comes_first_the_more_often_the_longer_it_is_well() -> None:
    world = World("a", "b")
    world.open_breaker("a")
    assert world.order() == "b"
    world.clock.time = 2.0
    world.end("a")
    shares = []
    for seconds in (0.0, 5.0, 10.0):
        world.clock.time = 2.0 + seconds
        shares.append(Counter(world.order() for _ in range(1_000))["ab"] / 1_000)
    assert shares == [pytest.approx(0.1, abs=0.04), pytest.approx(0.55, abs=0.06), 1.0]


@pytest.mark.parametrize(
    ("affinity", "same", "others"),
    [
        (SessionAffinity.SESSION_AFFINITY_END_USER, {"key": "another"}, [{"end_user_id": "bob"}]),
        (SessionAffinity.SESSION_AFFINITY_API_KEY, {"end_user_id": "bob"}, [{"key": "another"}]),
    ],
)
def test_a_session_is_of_an_end_user_or_of_a_key(
    affinity: SessionAffinity.ValueType, same: dict[str, str], others: list[dict[str, str]]
) -> None:
    world = World("a", "b", "c")
    asked: dict[str, Any] = {
        "end_user_id": "ann",
        "key": "k",
        "gateway_options": GatewayOptions(session_affinity=affinity),
    }
    session = world.plan(**asked).session
    assert session is not None
    world.affinity.note(session, "p/c", TokenUsage())
    assert world.order(**asked) == "cab"
    assert world.order(**{**asked, **same}) == "cab"
    assert [world.order(**{**asked, **other}) for other in others] == ["abc"]
    assert world.order(end_user_id="ann") == "abc", "not asked for"
    world.clock.time = 601.0
    assert world.order(**asked) == "abc", "its cache is cold"


def test_what_answers_are_expected_to_cost_is_learned() -> None:
    """The cheaper one turns out to be so wordy that it is the dearer."""
    world = World("a", "b", strategy=RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED)
    assert world.order() == "ab"
    for _ in range(20):
        world.expectation.learn("p/a", 1_000)
        world.expectation.learn("p/b", 100)
    assert world.order() == "ba"
