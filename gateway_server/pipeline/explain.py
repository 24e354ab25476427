"""What the router knows, told: whom it would try for a conversation, and how its targets are doing."""

from typing import Final

from aigateway.v1.chat_service_pb2 import ExplainRouteRequest, ExplainRouteResponse
from aigateway.v1.routing_pb2 import BreakerState, RouteCandidate, TargetState
from gateway_server.call import CallContext
from gateway_server.clock import Clock
from gateway_server.resource_names import model_name
from gateway_server.router import breaker
from gateway_server.router.affinity import Session
from gateway_server.router.catalog import Candidate
from gateway_server.router.facts import ChatFacts
from gateway_server.router.health import HealthBook, TargetHealth
from gateway_server.router.router import HIDDEN, Router
from gateway_server.usage.ceiling import chat_ceiling, most_nanos

_STATES: Final = {
    breaker.BreakerState.CLOSED: BreakerState.BREAKER_STATE_CLOSED,
    breaker.BreakerState.OPEN: BreakerState.BREAKER_STATE_OPEN,
    breaker.BreakerState.HALF_OPEN: BreakerState.BREAKER_STATE_HALF_OPEN,
}


class Explainer:
    """Explains routing without calling anybody."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def explain(self, request: ExplainRouteRequest, call: CallContext) -> ExplainRouteResponse:
        """The targets in the order of trial, then those that were dropped.

        Raises MODEL_NOT_FOUND, INVALID_REQUEST. A key that is no admin's sees no models that it may not use.
        """
        facts = ChatFacts(request.request, streams=False)
        plan = self._router.explain(facts, call)
        session = self._router.session_of(plan)
        route = plan.destination.route
        answer = ExplainRouteResponse(
            route="" if route is None else route.name,
            strategy=plan.strategy,
            input_tokens=facts.input_tokens,
        )
        for rank, option in enumerate(plan.options, start=1):
            candidate = self._describe(option.candidate, request, facts, session)
            candidate.rank = rank
            if option.score is not None:
                candidate.strategy_score = option.score
            answer.candidates.append(candidate)
        for dropped in plan.dropped:
            if dropped.exclusion.kind in HIDDEN and not call.principal.is_admin_reader:
                continue
            candidate = RouteCandidate(model=dropped.model)
            if dropped.candidate is not None:
                candidate = self._describe(dropped.candidate, request, facts, session)
            candidate.exclusion = dropped.exclusion.kind
            candidate.exclusion_detail = dropped.exclusion.detail
            answer.candidates.append(candidate)
        return answer

    def _describe(
        self, candidate: Candidate, request: ExplainRouteRequest, facts: ChatFacts, session: Session | None
    ) -> RouteCandidate:
        described = RouteCandidate(
            model=candidate.resource_name, provider_model=candidate.target.provider_model
        )
        cost = self._router.estimate(candidate, facts, session)
        if cost is not None:
            model = candidate.target.model
            described.estimated_cost_nanos = cost
            described.maximum_cost_nanos = most_nanos(chat_ceiling(request.request, model), model.price)
        if candidate.quality_score is not None:
            described.quality_score = candidate.quality_score
        health = self._router.health.of(candidate.name)
        _set_seconds(described, "time_to_first_token", health.observations.time_to_first_token)
        _set_seconds(described, "latency", health.observations.latency)
        error_rate = health.breaker.error_rate(self._router.health.now())
        if error_rate is not None:
            described.error_rate = error_rate
        return described


def list_target_states(book: HealthBook, clock: Clock) -> list[TargetState]:
    """How every target is doing that calls were planned for, in order of their names."""
    return [_state_of(health, clock) for health in sorted(book, key=lambda each: each.name)]


def _state_of(health: TargetHealth, clock: Clock) -> TargetState:
    now = clock.monotonic()
    provider_id, _, model_id = health.name.partition("/")
    state = TargetState(
        model=model_name(provider_id, model_id),
        breaker_state=_STATES[health.breaker.state(now)],
        requests_in_flight=health.observations.in_flight,
        traffic_share=health.breaker.share(now),
    )
    cooldown = health.breaker.cooldown(now)
    if cooldown is not None:
        state.cooldown_end_time.FromNanoseconds(round((clock.now() + cooldown.until - now) * 1e9))
        state.cooldown_reason = cooldown.reason
    error_rate = health.breaker.error_rate(now)
    if error_rate is not None:
        state.error_rate = error_rate
    _set_seconds(state, "time_to_first_token", health.observations.time_to_first_token)
    _set_seconds(state, "latency", health.observations.latency)
    return state


def _set_seconds(message: RouteCandidate | TargetState, field: str, seconds: float | None) -> None:
    if seconds is not None:
        getattr(message, field).FromNanoseconds(round(seconds * 1e9))
