"""Where a provider's secret comes from: a variable of the environment or a file. Never from the resource."""

import os
from pathlib import Path
from typing import NoReturn

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Credential, Endpoint
from gateway_server.providers.registry import build_endpoint


def endpoint_of(provider: Provider) -> Endpoint:
    """The endpoint of a Provider resource. Reads files: call it in a thread.

    Raises INVALID_REQUEST when the resource's settings cannot be used. A secret that cannot be had is
    told when it is needed, as UPSTREAM_CREDENTIAL_REJECTED.
    """
    return _build(provider, read_credential(provider))


def validate_provider(provider: Provider) -> None:
    """Raises INVALID_REQUEST when the resource's settings cannot be used; reads nothing."""
    _build(provider, _none)


def _build(provider: Provider, credential: Credential) -> Endpoint:
    config = dict(provider.config.items())
    return build_endpoint(provider.provider_type, provider.base_url, credential, config)


def read_credential(provider: Provider) -> Credential:
    """What gives the secret that ``credential_ref`` names: ``env:NAME``, ``file:PATH``, or none."""
    kind, _, place = provider.credential_ref.partition(":")
    if not kind:
        return _none
    if kind == "env":
        return lambda: os.environ.get(place, "").strip() or _missing(provider)
    try:
        secret = Path(place).read_text().strip()
    except (OSError, UnicodeDecodeError):
        secret = ""
    return lambda: secret or _missing(provider)


def _none() -> None:
    """The provider has no credential and is called without one."""


def _missing(provider: Provider) -> NoReturn:
    raise GatewayError(
        ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED,
        f"the credential of {provider.name} is not at the place that its credential_ref names",
        metadata={"provider": provider.name},
    )
