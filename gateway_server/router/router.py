"""From what a caller asks for to the targets that may serve the call, in the order of trial."""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.route_pb2 import Route
from aigateway.v1.routing_pb2 import CandidateExclusion, RoutingStrategy
from gateway_server.call import CallContext, Principal
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request, reason_name
from gateway_server.router.affinity import Affinity, Session, session_key
from gateway_server.router.breaker import BreakerState, Cooldown
from gateway_server.router.catalog import Candidate, Catalog, Destination
from gateway_server.router.facts import RequestFacts
from gateway_server.router.filters import Exclusion, forbids, is_unlikely
from gateway_server.router.health import HealthBook, TargetHealth
from gateway_server.router.retries import TryPolicy
from gateway_server.router.strategies import Prospect, Situation, order
from gateway_server.usage.cost import expected_nanos
from gateway_server.usage.expectation import OutputExpectation

_CE: Final = CandidateExclusion
_RATE_LIMITED: Final = reason_name(ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED)
_PRIORITY: Final = RoutingStrategy.ROUTING_STRATEGY_PRIORITY
#: What a key must not learn of models that it may not use, or that nobody may: that there are such models.
HIDDEN: Final = frozenset({_CE.CANDIDATE_EXCLUSION_NOT_ALLOWED, _CE.CANDIDATE_EXCLUSION_DISABLED})
#: Strategies that look at what a request would cost.
_BY_COST: Final = frozenset(
    {RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED, RoutingStrategy.ROUTING_STRATEGY_BALANCED}
)
#: Kinds of calls of which is kept who may serve them.
_KEPT_KINDS: Final = 1_000


class Option(NamedTuple):
    """A target that may be tried, its place in the list that it is from, and what it was ordered by."""

    candidate: Candidate
    health: TargetHealth
    position: int
    weight: int = 1
    score: float | None = None


class Dropped(NamedTuple):
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


class _Eligible(NamedTuple):
    """The targets of a destination that may serve a kind of call, and why others may not."""

    options: tuple[Option, ...]
    dropped: tuple[Dropped, ...]


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
        self._kept: dict[Hashable, _Eligible] = {}
        self._policies: dict[str, TryPolicy] = {}

    @property
    def catalog(self) -> Catalog:
        """What calls are planned by."""
        return self._catalog

    @catalog.setter
    def catalog(self, catalog: Catalog) -> None:
        before, self._catalog = self._catalog, catalog
        self._kept.clear()
        self._policies.clear()
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
        """As ``plan``, with no options where that would raise. Raises MODEL_NOT_FOUND, INVALID_REQUEST.

        To a key that is no admin's, what it may not use does not exist.
        """
        name = self.name_of(facts.model, call.principal)
        destination = self._catalog.find(name)
        if destination is None or not destination.has_candidates:
            raise _unknown(name)
        eligible = self._eligible(destination, facts, call.principal)
        if not eligible.options and not call.principal.is_admin_reader and _hides_all(eligible):
            raise _unknown(name)
        dropped = list(eligible.dropped)
        ordered = self._ready(eligible, call.clock.monotonic(), dropped)
        if len(ordered) > 1:
            ordered = _likely(ordered, facts, call.remaining(), dropped)
        options = facts.options
        route = destination.route
        strategy = options.strategy or (_PRIORITY if route is None else route.strategy)
        key = session_key(options.session_affinity, call.principal, model=name, end_user_id=facts.end_user_id)
        if len(ordered) > 1:
            ordered = self._order(destination, strategy, ordered, facts, self.affinity.find(key))
        ordered = _limited(ordered, destination, facts)
        return Plan(
            name=name,
            destination=destination,
            strategy=strategy,
            options=ordered,
            dropped=dropped,
            policy=self._policy if route is None else self._policy_of(route),
            hedges=route is not None and route.fallback_policy.hedging_enabled,
            session=key,
        )

    def breaker_states(self) -> list[tuple[str, BreakerState]]:
        """The state of the breaker of each target that is there and was looked at; from any thread."""
        now = self.health.now()
        return [
            (health.name, health.breaker.state(now))
            for health in list(self.health)  # at once: meanwhile others may come
            if self._catalog.find(health.name) is not None
        ]

    def estimate(self, candidate: Candidate, facts: RequestFacts, session: Session | None) -> int | None:
        """What a request is expected to cost at a target, in billionths of a US dollar."""
        if not candidate.has_price:
            return None
        output = self._expectation.of(candidate.label, limit=facts.max_output_tokens)
        return expected_nanos(
            candidate.target.model.price,
            input_tokens=facts.input_tokens,
            output_tokens=output * facts.choices,
            cached_tokens=0 if session is None or session.target != candidate.name else session.cached_tokens,
        )

    def session_of(self, plan: Plan) -> Session | None:
        """Where the session of a planned call was served last."""
        return self.affinity.find(plan.session)

    def _eligible(self, destination: Destination, facts: RequestFacts, principal: Principal) -> _Eligible:
        """Who may serve such a call at all. Callers make many calls of few kinds, so it is kept."""
        options = facts.options
        kind = (
            destination.name,
            principal.allowed_models,
            principal.needs_prices,
            facts.needs,
            facts.modalities,
            tuple(options.allowed_providers),
            tuple(options.excluded_providers),
        )
        eligible = self._kept.get(kind)
        if eligible is None:
            eligible = self._sort_out(destination, facts, principal)
            if len(self._kept) >= _KEPT_KINDS:
                self._kept.clear()
            self._kept[kind] = eligible
        return eligible

    def _sort_out(self, destination: Destination, facts: RequestFacts, principal: Principal) -> _Eligible:
        options: list[Option] = []
        dropped: list[Dropped] = []
        route = None if destination.route is None else destination.name
        for position, choice in enumerate(destination.choices):
            candidate = choice.candidate
            if candidate is None:
                exclusion = Exclusion(_CE.CANDIDATE_EXCLUSION_DISABLED, "it is switched off, or not there")
                dropped.append(Dropped(choice.model, None, exclusion))
            elif (found := forbids(candidate, facts, principal, route=route)) is not None:
                dropped.append(Dropped(choice.model, candidate, found))
            else:
                options.append(Option(candidate, self.health.of(candidate.name), position, choice.weight))
        return _Eligible(tuple(options), tuple(dropped))

    def _policy_of(self, route: Route) -> TryPolicy:
        policy = self._policies.get(route.name)
        if policy is None:
            policy = self._policies[route.name] = self._policy.overridden_by(route.retry_policy)
        return policy

    def _ready(self, eligible: _Eligible, now: float, dropped: list[Dropped]) -> list[Option]:
        """Those that are not cooling down; adds the others to ``dropped``.

        When all are, those remain that told for how long: a call may be able to wait.
        """
        ready: list[Option] = []
        cooling: list[tuple[Option, Cooldown]] = []
        for option in eligible.options:
            cooldown = option.health.breaker.cooldown(now)
            if cooldown is None:
                ready.append(option)
            else:
                cooling.append((option, cooldown))
        if not ready:
            waiting = [each for each in cooling if each[1].reason == _RATE_LIMITED]
            ready = [option for option, _ in sorted(waiting, key=lambda each: each[1].until)]
            cooling = [each for each in cooling if each[1].reason != _RATE_LIMITED]
        for option, cooldown in cooling:
            detail = f"{cooldown.reason}, for {max(cooldown.until - now, 0.0):.1f} s"
            exclusion = Exclusion(_CE.CANDIDATE_EXCLUSION_COOLING_DOWN, detail)
            dropped.append(Dropped(option.candidate.resource_name, option.candidate, exclusion))
        return ready

    def _order(
        self,
        destination: Destination,
        strategy: RoutingStrategy.ValueType,
        options: list[Option],
        facts: RequestFacts,
        session: Session | None,
    ) -> list[Option]:
        now = self.health.now()
        costs_matter = strategy in _BY_COST
        prospects = [
            Prospect(
                place,
                option.weight,
                self.estimate(option.candidate, facts, session) if costs_matter else None,
                option.candidate.quality_score,
                *option.health.observations.fading(now),
                option.health.observations.in_flight,
            )
            for place, option in enumerate(options)
        ]
        route = destination.route
        has_weight = route is not None and route.HasField("quality_weight")
        situation = Situation(
            draw=self.draw,
            turn=next(self._turns.setdefault(destination.name, itertools.count())),
            streams=facts.streams,
            quality_weight=route.quality_weight if route is not None and has_weight else 0.5,
        )
        ranked = order(strategy, prospects, situation)
        ordered = [options[each.position]._replace(score=each.score) for each in ranked]
        ordered = self._slowly(ordered, now)
        if session is not None:
            ordered.sort(key=lambda option: option.candidate.name != session.target)
        return ordered

    def _slowly(self, ordered: list[Option], now: float) -> list[Option]:
        """Puts targets that have just recovered behind the others, the less often the longer ago it is."""
        recovering = [option for option in ordered if option.health.breaker.is_recovering(now)]
        if not recovering:
            return ordered
        late = [option for option in recovering if self._is_passed_over(option, now)]
        if not late or len(late) == len(ordered):
            return ordered
        places = {option.position for option in late}
        return [option for option in ordered if option.position not in places] + late

    def _is_passed_over(self, option: Option, now: float) -> bool:
        return self.draw.random() >= option.health.breaker.share(now)

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


def _likely(
    options: list[Option], facts: RequestFacts, remaining: float, dropped: list[Dropped]
) -> list[Option]:
    """Those that will probably not fail, unless that is none; adds the others to ``dropped``."""
    likely: list[Option] = []
    unlikely: list[Dropped] = []
    for option in options:
        seen = option.health.observations
        usual = seen.time_to_first_token if facts.streams else seen.latency
        found = is_unlikely(option.candidate, facts, remaining=remaining, usual_time=usual)
        if found is None:
            likely.append(option)
        else:
            unlikely.append(Dropped(option.candidate.resource_name, option.candidate, found))
    if not likely:
        return options
    dropped += unlikely
    return likely


def _hides_all(eligible: _Eligible) -> bool:
    """Whether a caller may not know of any target."""
    return all(each.exclusion.kind in HIDDEN for each in eligible.dropped)


def _unknown(name: str) -> GatewayError:
    return _not_found(name, f"no enabled provider serves a model {name!r} that the key may use")


def _not_found(name: str, message: str) -> GatewayError:
    return GatewayError(ErrorReason.ERROR_REASON_MODEL_NOT_FOUND, message, metadata={"model": name})
