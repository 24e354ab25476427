"""The secret of a call, checked before it goes into a header."""

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Credential
from gateway_server.providers.config import is_header_value
from gateway_server.providers.kept_fresh import SecretUnavailableError


def read_api_key(credential: Credential, provider: str) -> bytes | None:
    """The key as it stands in a header, None when there is none.

    Raises UPSTREAM_CREDENTIAL_REJECTED for what is no key; ``provider`` is as in Target, or empty.
    """
    try:
        secret = credential()
    except SecretUnavailableError as error:
        raise credential_error(error.cause, provider) from error
    if secret is None or not (secret := secret.strip()):
        return None
    if not is_header_value(secret):
        raise credential_error("holds characters that no API key has", provider)
    return secret.encode("ascii")


def require_api_key(credential: Credential, provider: str) -> bytes:
    """As read_api_key; raises UPSTREAM_CREDENTIAL_REJECTED also when there is none."""
    key = read_api_key(credential, provider)
    if key is None:
        raise credential_error("is missing", provider)
    return key


def credential_error(what: str, provider: str) -> GatewayError:
    """The error for a credential that cannot be used; ``what`` follows its name."""
    return GatewayError(
        ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED,
        f"the gateway's credential for {provider or 'the provider'} {what}",
        metadata={"provider": provider} if provider else {},
    )
