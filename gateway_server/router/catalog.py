"""The providers and models that calls can go to: a snapshot of the store, with its look-ups prepared."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from gateway_server.allowed_models import model_names
from gateway_server.errors import GatewayError
from gateway_server.providers.base import BuildEndpoint, Endpoint, Target

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could serve a call, the endpoint that reaches it, and its names among callers."""

    target: Target
    endpoint: Endpoint
    names: tuple[str, str]

    @property
    def name(self) -> str:
        """``provider/model``, by resource ids."""
        return self.names[0]


class Catalog:
    """An immutable snapshot. A provider whose settings cannot be used is left out and logged."""

    def __init__(
        self, providers: Iterable[Provider], models: Iterable[Model], build_endpoint: BuildEndpoint
    ) -> None:
        endpoints = _endpoints(providers, build_endpoint)
        self._by_name: dict[str, list[Candidate]] = {}
        for model in models:
            provider = "/".join(model.name.split("/")[:2])
            if model.disabled or provider not in endpoints:
                continue
            endpoint, provider_type = endpoints[provider]
            provider_id = provider.partition("/")[2]
            model_id = model.name.rpartition("/")[2]
            provider_model = model.provider_model or model_id
            candidate = Candidate(
                Target(
                    provider_id=provider_id,
                    provider_type=provider_type,
                    provider_model=provider_model,
                    model=model,
                ),
                endpoint,
                model_names(provider_id, model_id),
            )
            for name in {*candidate.names, provider_model, f"{provider_id}/{provider_model}"}:
                self._by_name.setdefault(name, []).append(candidate)

    def find(self, name: str) -> list[Candidate]:
        """Who serves ``provider/model`` or a bare model name; empty when nobody does."""
        return self._by_name.get(name, [])


def _endpoints(
    providers: Iterable[Provider], build_endpoint: BuildEndpoint
) -> dict[str, tuple[Endpoint, str]]:
    endpoints: dict[str, tuple[Endpoint, str]] = {}
    for provider in providers:
        if provider.disabled:
            continue
        try:
            endpoints[provider.name] = (build_endpoint(provider), provider.provider_type)
        except GatewayError as error:
            _log.error("%s is left out: %s", provider.name, error.message)
    return endpoints
