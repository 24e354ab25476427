"""Where a provider's secret comes from: a variable of the environment, a file, or sealed from the store."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NoReturn

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.base import Credential, Endpoint, PreparedEndpoint
from gateway_server.providers.credential_files import CredentialFiles, is_below
from gateway_server.providers.registry import build_endpoint
from gateway_server.storage.providers import place_of
from gateway_server.storage.sealing import MasterKeys, SealedSecret, UnsealError

_log: Final = logging.getLogger(__name__)

_FIELD: Final = "provider.credential_ref"
#: Variables of the gateway itself, its pepper and master key among them. No provider is to be sent those.
_OWN_VARIABLES: Final = "AIGW_*"


@dataclass(frozen=True, slots=True)
class CredentialRules:
    """What a ``credential_ref`` may name: variables by glob, and the folders that files must be below.

    Whoever administers providers chooses where a credential is sent. Without these rules that would be any
    variable and any file of this process.
    """

    variables: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

    def check(self, credential_ref: str) -> None:
        """Raises INVALID_REQUEST for what it may not name. Looks at the text alone."""
        if not credential_ref:
            return
        kind, _, place = credential_ref.partition(":")
        match kind:
            case "env":
                if fnmatchcase(place, _OWN_VARIABLES) or not any(
                    fnmatchcase(place, pattern) for pattern in self.variables
                ):
                    raise invalid_request(
                        _FIELD, "names a variable that the setting credential_env does not allow"
                    )
            case "file":
                if not self.folders:
                    raise invalid_request(_FIELD, "names a file, but the setting credential_dirs allows none")
                path = Path(place)
                if not path.is_absolute() or not any(is_below(path, folder) for folder in self.folders):
                    raise invalid_request(
                        _FIELD, "must name a file by its full path, below a folder of credential_dirs"
                    )
            case _:
                raise invalid_request(_FIELD, "must be env:NAME or file:PATH")


class Credentials:
    """Gives endpoints their credentials."""

    def __init__(self, rules: CredentialRules, files: CredentialFiles, master_keys: MasterKeys) -> None:
        self._rules = rules
        self._files = files
        self._master_keys = master_keys

    def endpoint_of(self, provider: Provider, sealed: SealedSecret | None = None) -> Endpoint:
        """The endpoint of a Provider resource. Reads files and fetches tokens: call it in a thread.

        ``sealed`` is the credential that the store keeps for it. Raises INVALID_REQUEST when the resource's
        settings cannot be used. A secret that cannot be had is told when it is needed, as
        UPSTREAM_CREDENTIAL_REJECTED.
        """
        endpoint = _build(provider, self._credential_of(provider, sealed))
        if isinstance(endpoint, PreparedEndpoint):
            endpoint.prepare()
        return endpoint

    def validate(self, provider: Provider) -> None:
        """Raises INVALID_REQUEST when the resource's settings cannot be used; reads nothing."""
        _build(provider, _none)
        self._rules.check(provider.credential_ref)

    def _credential_of(self, provider: Provider, sealed: SealedSecret | None) -> Credential:
        name = provider.name
        if not provider.credential_ref:
            return _none if sealed is None else self._open(provider, sealed)
        try:
            self._rules.check(provider.credential_ref)
        except GatewayError as error:  # the settings have changed since the provider was written
            _log.error("%s has no credential: %s", name, error.message)
            return _failing(name, "is at a place that the gateway's settings do not allow")
        kind, _, place = provider.credential_ref.partition(":")
        if kind == "env":
            missing = _failing(name, "is not in the variable that its credential_ref names")
            return lambda: os.environ.get(place, "").strip() or missing()
        file = self._files.open(Path(place))
        missing = _failing(name, "is not in the file that its credential_ref names, or that cannot be read")
        return lambda: file.secret or missing()

    def _open(self, provider: Provider, sealed: SealedSecret) -> Credential:
        try:
            secret = self._master_keys.open(sealed, place_of(provider))
        except UnsealError as error:
            _log.error("the credential of %s %s", provider.name, error)
            return _failing(provider.name, "cannot be opened with the gateway's master key; see its log")
        return lambda: secret


def _build(provider: Provider, credential: Credential) -> Endpoint:
    config = dict(provider.config.items())
    return build_endpoint(provider.provider_type, provider.base_url, credential, config)


def _none() -> None:
    """The provider has no credential and is called without one."""


def _failing(provider: str, what: str) -> Callable[[], NoReturn]:
    """What raises, for a provider whose credential cannot be had."""

    def fail() -> NoReturn:
        raise GatewayError(
            ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED,
            f"the gateway's credential for {provider} {what}",
            metadata={"provider": provider},
        )

    return fail
