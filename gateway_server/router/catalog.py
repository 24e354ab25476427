"""The providers, models and routes that calls can go to: a snapshot of the store."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aigateway.v1.model_pb2 import Model, ModelCapability
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route
from aigateway.v1.usage_pb2 import Modality
from gateway_server.allowed_models import model_names
from gateway_server.call import RateLimit
from gateway_server.errors import GatewayError
from gateway_server.providers.base import BuildEndpoint, Endpoint, Target
from gateway_server.resource_names import model_name
from gateway_server.usage.schedule import next_price_time, priced_at

_log = logging.getLogger(__name__)


# Not with slots: what is looked up of it at every call is kept.
@dataclass(frozen=True)
class Candidate:
    """A model that could serve a call, the endpoint that reaches it, and its names among callers.

    ``provider_etag`` tells this state of its provider from others. ``rate_limits`` are those of the provider
    and of the model, which all tenants use up together.
    """

    target: Target
    endpoint: Endpoint
    names: tuple[str, str]
    provider_etag: str = ""
    rate_limits: tuple[RateLimit, ...] = ()

    @property
    def name(self) -> str:
        """``provider/model``, by resource ids."""
        return self.names[0]

    @cached_property
    def resource_name(self) -> str:
        """``providers/{provider}/models/{model}``."""
        return model_name(self.target.provider_id, self.names[1])

    @cached_property
    def capabilities(self) -> frozenset[ModelCapability.ValueType]:
        """What the model can do; empty when that is not known."""
        return frozenset(self.target.model.capabilities)

    @cached_property
    def input_modalities(self) -> frozenset[Modality.ValueType]:
        """What the model reads; empty when that is not known."""
        return frozenset(self.target.model.input_modalities)

    @cached_property
    def label(self) -> str:
        """``provider/model``, by the provider's own name for the model."""
        return self.target.label

    @cached_property
    def context_window_tokens(self) -> int:
        """Tokens it can read and write together; 0 when that is not known."""
        return self.target.model.context_window_tokens

    @cached_property
    def max_output_tokens(self) -> int:
        """Tokens it can write; 0 when that is not known."""
        return self.target.model.max_output_tokens

    @cached_property
    def has_price(self) -> bool:
        """Whether it is known what it costs."""
        return self.target.model.HasField("price")

    @cached_property
    def quality_score(self) -> float | None:
        """How good its answers are, from 0 to 100."""
        model = self.target.model
        return model.quality_score if model.HasField("quality_score") else None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of those that a name stands for: a model of a name that is switched off, or not there, has no
    candidate.
    """

    model: str
    candidate: Candidate | None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Destination:
    """What a caller's word for a model stands for: the targets in the order of their list."""

    name: str
    choices: Sequence[Choice]
    route: Route | None = None

    @property
    def has_candidates(self) -> bool:
        """Whether any of them is there and switched on."""
        return any(choice.candidate is not None for choice in self.choices)


class Catalog:
    """An immutable snapshot. A provider whose settings cannot be used is left out and logged."""

    def __init__(
        self,
        providers: Iterable[Provider],
        models: Iterable[Model],
        build_endpoint: BuildEndpoint,
        *,
        routes: Iterable[Route] = (),
        now: float = 0.0,
    ) -> None:
        """Models have the prices that hold at ``now``, in Unix seconds."""
        providers = list(providers)
        models = list(models)
        #: Until when the prices hold, in Unix seconds; None when no others are scheduled.
        self.next_price_time = next_price_time(models, now)
        self.provider_etags: Mapping[str, str] = {
            each.name.partition("/")[2]: each.etag for each in providers
        }
        endpoints = _endpoints(providers, build_endpoint)
        #: Of the providers that are switched on, by name, with their types.
        self.endpoints: Mapping[str, tuple[Endpoint, str]] = {
            name: (endpoint, provider.provider_type) for name, (endpoint, provider) in endpoints.items()
        }
        choices: dict[str, Choice] = {}
        self._by_name: dict[str, Destination] = {}
        by_name: dict[str, list[Choice]] = {}
        for model in models:
            provider = "/".join(model.name.split("/")[:2])
            provider_id, model_id = provider.partition("/")[2], model.name.rpartition("/")[2]
            provider_model = model.provider_model or model_id
            candidate: Candidate | None = None
            names = model_names(provider_id, model_id)
            if not model.disabled and provider in endpoints:
                endpoint, of_provider = endpoints[provider]
                target = Target(
                    provider_id=provider_id,
                    provider_type=of_provider.provider_type,
                    provider_model=provider_model,
                    model=priced_at(model, now),
                )
                candidate = Candidate(
                    target, endpoint, names, of_provider.etag, _rate_limits(of_provider, model)
                )
            choice = choices[model.name] = Choice(model.name, candidate)
            for name in {*names, provider_model, f"{provider_id}/{provider_model}"}:
                by_name.setdefault(name, []).append(choice)
        self._by_name = {name: Destination(name, of_name) for name, of_name in by_name.items()}
        for route in routes:
            name = route.name.partition("/")[2]
            self._by_name[name] = Destination(name, _choices_of(route, choices), route)

    def find(self, name: str) -> Destination | None:
        """What ``provider/model``, a bare model name or a route stands for; a route hides a model."""
        return self._by_name.get(name)

    def candidates(self) -> Sequence[Candidate]:
        """Every model that is switched on, once."""
        found = {
            choice.candidate.name: choice.candidate
            for destination in self._by_name.values()
            for choice in destination.choices
            if choice.candidate is not None
        }
        return [found[name] for name in sorted(found)]


def _rate_limits(provider: Provider, model: Model) -> tuple[RateLimit, ...]:
    limits = (RateLimit.of(each.name, each.rate_limits) for each in (provider, model))
    return tuple(limit for limit in limits if limit.limits_something)


def _choices_of(route: Route, choices: Mapping[str, Choice]) -> list[Choice]:
    """The targets of a route; every model there is when it names none."""
    if not route.targets:
        return list(choices.values())
    found: list[Choice] = []
    for target in route.targets:
        known = choices.get(target.model)
        candidate = None if known is None else known.candidate
        found.append(Choice(target.model, candidate, target.weight or 1))
    return found


def _endpoints(
    providers: Iterable[Provider], build_endpoint: BuildEndpoint
) -> dict[str, tuple[Endpoint, Provider]]:
    endpoints: dict[str, tuple[Endpoint, Provider]] = {}
    for provider in providers:
        if provider.disabled:
            continue
        try:
            endpoints[provider.name] = (build_endpoint(provider), provider)
        except GatewayError as error:
            _log.error("%s is left out: %s", provider.name, error.message)
    return endpoints
