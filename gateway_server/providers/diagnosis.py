"""Says in one line why a provider cannot be used, and what to look at, for whoever set it up."""

import errno
import ssl
from typing import Final, assert_never

import httpx

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError
from gateway_server.providers.transport import Timeouts, TransportError
from gateway_server.providers.transport.errors import TransportErrorKind as Kind
from gateway_server.providers.transport.pool import origin_of

_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL})
#: What OpenSSL says of a server that answers a TLS greeting with something else.
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"}
)


def explain_exchange(error: TransportError, provider: Provider, url: httpx.URL, timeouts: Timeouts) -> str:
    """What is wrong when there was no complete response."""
    origin, kind = origin_of(url), error.kind
    match kind:
        case Kind.DNS:
            what = f"the host of {origin} cannot be found (DNS); check {_places_of_host(provider)}"
        case Kind.CONNECT_REFUSED:
            what = _explain_refused(error.__cause__, origin)
        case Kind.CONNECT_TIMEOUT:
            what = f"no connection to {origin} within {timeouts.connect:g} s; check base_url and firewalls"
        case Kind.TLS:
            what = _explain_tls(error.__cause__, origin)
        case Kind.FIRST_BYTE_TIMEOUT:
            what = f"{origin} takes connections but does not answer within {timeouts.first_byte:g} s"
        case Kind.IDLE_TIMEOUT | Kind.TOTAL_TIMEOUT:
            what = f"{origin} did not complete its answer in time"
        case Kind.RESET:
            what = f"{origin} closes the connection without an answer; {_other_scheme(url)}"
        case Kind.PROTOCOL:
            what = f"{origin} does not answer in HTTP/1.1; {_other_scheme(url)}"
        case Kind.CUT | Kind.TOO_LARGE | Kind.CLOSED | Kind.POOL_TIMEOUT | Kind.INVALID_REQUEST:
            what = error.message
        case _:
            assert_never(kind)
    return f"{provider.name}: {what}"


def explain_status(error: GatewayError, status: int, provider: Provider, url: httpx.URL) -> str:
    """What is wrong when it answered with an HTTP status that is no success."""
    origin = origin_of(url)
    if 300 <= status < 400:
        what = f"{origin} redirects (HTTP {status}), which is not followed; set base_url to where it leads"
    elif status in {404, 405}:
        what = f"{origin} has no {url.path} (HTTP {status}); check base_url and provider_type"
    elif error.reason == ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED:
        what = f"{origin} refuses the gateway's credential, or asks for one (HTTP {status})"
    else:
        return error.message
    return f"{provider.name}: {what}"


def explain_answer(error: GatewayError, provider: Provider, url: httpx.URL) -> str:
    """What is wrong when it answered with success, but not as a provider of its type does."""
    cause = error.metadata.get("cause", "it cannot be read")
    what = f"{origin_of(url)} answers, but not as type {provider.provider_type} does ({cause})"
    return f"{provider.name}: {what}; check base_url and provider_type"


def _places_of_host(provider: Provider) -> str:
    """The settings that the host's name may come from."""
    if provider.base_url:
        return "base_url"
    return "config.region" if "region" in provider.config else "the network, and what its host is made of"


def _other_scheme(url: httpx.URL) -> str:
    """What to look at where there may be TLS, or no HTTP at all."""
    return "is it an https:// address?" if url.scheme == "http" else "check base_url"


def _explain_refused(cause: BaseException | None, origin: str) -> str:
    number = cause.errno if isinstance(cause, OSError) else None
    if number in _UNREACHABLE:
        return f"there is no way to {origin} from here; check base_url and the network"
    return f"{origin} refuses connections; check base_url, and whether the server runs"


def _explain_tls(cause: BaseException | None, origin: str) -> str:
    match cause:
        case ssl.SSLCertVerificationError():
            advice = "; the setting upstream_ca_file adds a CA" if _may_be_private(cause) else ""
            fault = cause.verify_message.rstrip(".")
            return f"the certificate of {origin} cannot be verified (TLS): {fault}{advice}"
        case ssl.SSLError() if cause.reason in _NOT_TLS:
            return f"{origin} does not speak TLS; is it an http:// address?"
        case _:
            return f"the TLS handshake with {origin} fails"


def _may_be_private(error: ssl.SSLCertVerificationError) -> bool:
    """Whether the certificate may be of a CA that is nobody's but the operator's (X509_V_ERR_*)."""
    return error.verify_code in {18, 19, 20, 21}
