"""From what a caller asks for to the targets that may serve the call, in the order of trial."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Price
from aigateway.v1.routing_pb2 import CandidateExclusion, RoutingStrategy
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.call import CallContext, Principal
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request, reason_name
from gateway_server.router.affinity import Affinity, Session, session_key
from gateway_server.router.breaker import Cooldown
from gateway_server.router.catalog import Candidate, Catalog, Destination
from gateway_server.router.facts import RequestFacts
from gateway_server.router.filters import Exclusion, forbids, is_unlikely
from gateway_server.router.health import HealthBook, TargetHealth
from gateway_server.router.retries import TryPolicy
from gateway_server.router.strategies import Prospect, Situation, order
from gateway_server.usage.cost import price_usage
from gateway_server.usage.expectation import OutputExpectation

_CE: Final = CandidateExclusion


@dataclass(frozen=True, slots=True)
class Option:
    """A target in the order of trial. ``ready_at`` is on the monotonic clock: not before then, as asked."""

    candidate: Candidate
    health: TargetHealth
    score: float | None = None
    ready_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Dropped:
    """A target that is not to be tried; ``candidate`` is None for one that is not there."""

    model: str
    candidate: Candidate | None
    exclusion: Exclusion


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to try for one call, in order, and how. ``session`` is the key of the caller's session, if any."""

    name: str
    destination: Destination
    strategy: RoutingStrategy.ValueType
    options: Sequence[Option]
    dropped: Sequence[Dropped]
    policy: TryPolicy
    hedges: bool = False
    session: bytes | None = None


@dataclass(slots=True)
class _Survey:
    """Targets of a destination, sorted into those that can be tried and those that cannot."""

    ready: list[Option] = field(default_factory=list)
    positions: list[tuple[int, int]] = field(default_factory=list)
    cooling: list[tuple[Option, Cooldown]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


class Router:
    """Plans calls by the current catalog and what is known of each target's health."""

    def __init__(
        self,
        catalog: Catalog,
        health: HealthBook,
        *,
        affinity: Affinity,
        expectation: OutputExpectation,
        policy: TryPolicy,
        draw: Random,
    ) -> None:
        self._catalog = catalog
        self.health = health
        self.affinity = affinity
        self.draw = draw
        self._expectation = expectation
        self._policy = policy
        self._turns: dict[str, itertools.count[int]] = {}

    @property
    def catalog(self) -> Catalog:
        """What calls are planned by."""
        return self._catalog

    @catalog.setter
    def catalog(self, catalog: Catalog) -> None:
        before, self._catalog = self._catalog, catalog
        for provider_id, etag in before.provider_etags.items():
            if catalog.provider_etags.get(provider_id) != etag:
                self.health.forget(provider_id)

    def name_of(self, model: str, principal: Principal) -> str:
        """The word that a call goes by: what it says, else the tenant's default route.

        Raises INVALID_REQUEST when there is neither.
        """
        if model:
            return model
        if principal.default_route:
            return principal.default_route.partition("/")[2]
        raise invalid_request("model", "must be given: the tenant has no default route")

    def plan(self, facts: RequestFacts, call: CallContext) -> Plan:
        """Whom to try for a call.

        Raises MODEL_NOT_FOUND, MODEL_NOT_ALLOWED, FEATURE_NOT_SUPPORTED, MODEL_UNPRICED, or what keeps all
        targets from being tried for now: UPSTREAM_RATE_LIMITED, UPSTREAM_UNAVAILABLE or
        UPSTREAM_CREDENTIAL_REJECTED, with how long to wait.
        """
        plan = self.explain(facts, call)
        if not plan.options:
            raise self._nobody(plan, call)
        return plan

    def explain(self, facts: RequestFacts, call: CallContext) -> Plan:
        """As ``plan``, with no options where that would raise. Raises MODEL_NOT_FOUND, INVALID_REQUEST."""
        name = self.name_of(facts.model, call.principal)
        destination = self._catalog.find(name)
        if destination is None or not destination.has_candidates:
            raise _not_found(name, f"no enabled provider serves a model {name!r}")
        survey = self._survey(destination, facts, call)
        self._drop_unlikely(survey, facts, call)
        options = facts.options
        route = destination.route
        strategy = options.strategy or (
            RoutingStrategy.ROUTING_STRATEGY_PRIORITY if route is None else route.strategy
        )
        key = session_key(options.session_affinity, call.principal, model=name, end_user_id=facts.end_user_id)
        ordered = survey.ready
        if len(ordered) > 1:
            ordered = self._order(destination, strategy, survey, facts, self.affinity.find(key))
        ordered = _limited(ordered, destination, facts)
        policy = self._policy if route is None else self._policy.overridden_by(route.retry_policy)
        return Plan(
            name=name,
            destination=destination,
            strategy=strategy,
            options=ordered,
            dropped=survey.dropped,
            policy=policy,
            hedges=route is not None and route.fallback_policy.hedging_enabled,
            session=key,
        )

    def estimate(self, candidate: Candidate, facts: RequestFacts, session: Session | None) -> int | None:
        """What a request is expected to cost at a target, in billionths of a US dollar."""
        model = candidate.target.model
        if not model.HasField("price"):
            return None
        cached = session.cached_tokens if session is not None and session.target == candidate.name else 0
        output = self._expectation.of(candidate.target.label, limit=facts.max_output_tokens)
        return _expected_nanos(model.price, facts.input_tokens, output * facts.choices, cached)

    def session_of(self, plan: Plan) -> Session | None:
        """Where the session of a planned call was served last."""
        return self.affinity.find(plan.session)

    def _survey(self, destination: Destination, facts: RequestFacts, call: CallContext) -> _Survey:
        survey = _Survey()
        now = call.clock.monotonic()
        route = None if destination.route is None else destination.name
        for position, choice in enumerate(destination.choices):
            candidate = choice.candidate
            if candidate is None:
                exclusion = Exclusion(_CE.CANDIDATE_EXCLUSION_DISABLED, "it is switched off, or not there")
                survey.dropped.append(Dropped(choice.model, None, exclusion))
                continue
            found = forbids(candidate, facts, call.principal, route=route)
            if found is not None:
                survey.dropped.append(Dropped(choice.model, candidate, found))
                continue
            health = self.health.of(candidate.name)
            cooldown = health.breaker.cooldown(now)
            if cooldown is not None:
                option = Option(candidate, health, ready_at=cooldown.until)
                survey.cooling.append((option, cooldown))
                detail = f"{cooldown.reason}, for {max(cooldown.until - now, 0.0):.1f} s"
                exclusion = Exclusion(_CE.CANDIDATE_EXCLUSION_COOLING_DOWN, detail)
                survey.dropped.append(Dropped(choice.model, candidate, exclusion))
                continue
            survey.ready.append(Option(candidate, health))
            survey.positions.append((position, choice.weight))
        if not survey.ready:
            self._take_cooling(survey)
        return survey

    def _take_cooling(self, survey: _Survey) -> None:
        """When all that would do are to be left alone, takes those that told for how long."""
        limited = reason_name(ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED)
        waiting = [(option, cooldown) for option, cooldown in survey.cooling if cooldown.reason == limited]
        for place, (option, _) in enumerate(sorted(waiting, key=lambda each: each[1].until)):
            survey.ready.append(option)
            survey.positions.append((place, 1))
        names = {option.candidate.name for option in survey.ready}
        survey.dropped = [
            each for each in survey.dropped if each.candidate is None or each.candidate.name not in names
        ]

    def _drop_unlikely(self, survey: _Survey, facts: RequestFacts, call: CallContext) -> None:
        """Drops what would probably fail, unless that is all there is."""
        if len(survey.ready) < 2:
            return
        remaining = call.remaining()
        kept: list[int] = []
        dropped: list[Dropped] = []
        for index, option in enumerate(survey.ready):
            seen = option.health.observations
            usual = seen.time_to_first_token if facts.streams else seen.latency
            found = is_unlikely(option.candidate, facts, remaining=remaining, usual_time=usual)
            if found is None:
                kept.append(index)
            else:
                dropped.append(Dropped(option.candidate.resource_name, option.candidate, found))
        if kept and dropped:
            survey.ready = [survey.ready[index] for index in kept]
            survey.positions = [survey.positions[index] for index in kept]
            survey.dropped += dropped

    def _order(
        self,
        destination: Destination,
        strategy: RoutingStrategy.ValueType,
        survey: _Survey,
        facts: RequestFacts,
        session: Session | None,
    ) -> list[Option]:
        now = self.health.now()
        prospects: list[Prospect] = []
        by_position: dict[int, Option] = {}
        for option, (position, weight) in zip(survey.ready, survey.positions, strict=True):
            seen = option.health.observations
            by_position[position] = option
            prospects.append(
                Prospect(
                    position=position,
                    weight=weight,
                    estimated_cost_nanos=self.estimate(option.candidate, facts, session),
                    quality_score=option.candidate.quality_score,
                    time_to_first_token=seen.fading(seen.time_to_first_token, now),
                    latency=seen.fading(seen.latency, now),
                    in_flight=seen.in_flight,
                )
            )
        route = destination.route
        has_weight = route is not None and route.HasField("quality_weight")
        situation = Situation(
            draw=self.draw,
            turn=next(self._turns.setdefault(destination.name, itertools.count())),
            streams=facts.streams,
            quality_weight=route.quality_weight if route is not None and has_weight else 0.5,
        )
        ordered = [
            Option(by_position[each.position].candidate, by_position[each.position].health, each.score)
            for each in order(strategy, prospects, situation)
        ]
        ordered = self._slowly(ordered, now)
        if session is not None:
            ordered.sort(key=lambda option: option.candidate.name != session.target)
        return ordered

    def _slowly(self, ordered: list[Option], now: float) -> list[Option]:
        """Puts targets that have just recovered behind the others, the less often the longer ago it is."""
        late = [option for option in ordered if self._is_passed_over(option, now)]
        if not late or len(late) == len(ordered):
            return ordered
        return [option for option in ordered if option not in late] + late

    def _is_passed_over(self, option: Option, now: float) -> bool:
        share = option.health.breaker.share(now)
        return share < 1 and self.draw.random() >= share

    def _nobody(self, plan: Plan, call: CallContext) -> GatewayError:
        """Why there is nobody to try: of all reasons the one that is nearest to an answer."""
        by_kind = {dropped.exclusion.kind: dropped for dropped in reversed(plan.dropped)}
        name = plan.name
        if _CE.CANDIDATE_EXCLUSION_COOLING_DOWN in by_kind:
            return self._cooling(plan, call)
        if (dropped := by_kind.get(_CE.CANDIDATE_EXCLUSION_UNPRICED)) is not None:
            owner = next(each.owner for each in call.principal.budgets if not each.allow_unpriced_models)
            return GatewayError(
                ErrorReason.ERROR_REASON_MODEL_UNPRICED,
                f"{dropped.model} has no price, and {owner} has a budget",
                metadata={"model": dropped.model, "owner": owner},
            )
        if (dropped := by_kind.get(_CE.CANDIDATE_EXCLUSION_CAPABILITY)) is not None:
            return feature_not_supported(dropped.exclusion.detail, model=name)
        if _CE.CANDIDATE_EXCLUSION_NOT_REQUESTED in by_kind:
            return _not_found(name, f"no provider that the request allows serves a model {name!r}")
        return GatewayError(
            ErrorReason.ERROR_REASON_MODEL_NOT_ALLOWED,
            f"the key may not use the model {name!r}",
            metadata={"model": name},
        )

    def _cooling(self, plan: Plan, call: CallContext) -> GatewayError:
        """The error when all that would do are left alone: the first to be tried again says why."""
        now = call.clock.monotonic()
        cooldowns: list[tuple[float, str, Candidate]] = []
        for dropped in plan.dropped:
            if dropped.candidate is not None:
                cooldown = self.health.of(dropped.candidate.name).breaker.cooldown(now)
                if cooldown is not None:
                    cooldowns.append((cooldown.until, cooldown.reason, dropped.candidate))
        until, why, candidate = min(cooldowns, key=lambda each: each[0])
        return cooling_down(candidate, Cooldown(until, why), now)


def cooling_down(candidate: Candidate, cooldown: Cooldown, now: float) -> GatewayError:
    """The error for a call that would have to go to a target that is left alone."""
    reasons = ErrorReason.keys()
    reason = ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE
    if f"ERROR_REASON_{cooldown.reason}" in reasons:
        reason = ErrorReason.Value(f"ERROR_REASON_{cooldown.reason}")
    provider = candidate.target.provider
    return GatewayError(
        reason,
        f"{provider} is left alone for a while ({cooldown.reason})",
        metadata={"provider": provider, "cause": "cooling_down"},
        retry_after=max(cooldown.until - now, 0.0),
    )


def _limited(ordered: list[Option], destination: Destination, facts: RequestFacts) -> list[Option]:
    """Those that may be tried in this call: one where it may not fall back, else the same model's or all."""
    if not ordered:
        return ordered
    route = destination.route
    if facts.options.disable_fallback or (route is not None and route.fallback_policy.disabled):
        return ordered[:1]
    if not facts.any_model_will_do:
        first = ordered[0].candidate
        ordered = [each for each in ordered if _is_same_model(each.candidate, first)]
    most = 0 if route is None else route.fallback_policy.max_targets
    return ordered[:most] if most else ordered


def _is_same_model(one: Candidate, other: Candidate) -> bool:
    return one.names[1] == other.names[1] or one.target.provider_model == other.target.provider_model


def _expected_nanos(price: Price, input_tokens: int, output_tokens: int, cached_tokens: int) -> int:
    usage = TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=min(cached_tokens, input_tokens),
    )
    return price_usage(usage, price).total_nanos


def _not_found(name: str, message: str) -> GatewayError:
    return GatewayError(ErrorReason.ERROR_REASON_MODEL_NOT_FOUND, message, metadata={"model": name})
