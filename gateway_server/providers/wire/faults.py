"""Errors that every wire format raises in the same words."""

from aigateway.v1.error_reason_pb2 import ErrorReason as Reason
from gateway_server.errors import GatewayError


def protocol_error(provider: str, cause: str) -> GatewayError:
    """The error for an answer that cannot be used; ``provider`` is as in Target, or empty if not known."""
    return GatewayError(
        Reason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR,
        f"{provider or 'the provider'} sent an answer that cannot be used: {cause}",
        metadata={"provider": provider, "cause": cause} if provider else {"cause": cause},
        retryable=True,
    )


def status_error(
    status: int,
    provider: str,
    *,
    http_status: int | None,
    code: str = "",
    parameter: str = "",
    is_content_refusal: bool = False,
    is_out_of_quota: bool = False,
) -> GatewayError:
    """Sorts a failure by its status, so that it is told who is at fault and whether a retry may help.

    ``http_status`` is None when the failure came inside an answer, for which ``status`` was then found.
    ``code`` and ``parameter`` are the provider's own words, reduced to what may be shown. A refusal on
    grounds of content is the caller's matter whatever the status; waiting fills no empty account.
    """
    told = f"HTTP {http_status}" if http_status else "within its answer"
    words = f"{told}, {code}" if code else told
    metadata = {"provider": provider}
    if http_status:
        metadata["http_status"] = str(http_status)
    if status < 400:
        what = "a redirect, which is not followed" if status >= 300 else "no answer"
        error = protocol_error(provider, f"{told} is {what}")
        error.retryable = False
        return error
    if is_out_of_quota or status in {402, 429}:
        return _rate_limited(provider, code, is_out_of_quota=is_out_of_quota or status == 402)
    if status in {401, 403} and not is_content_refusal:
        message = f"{provider} refused the gateway's credential ({told})"
        return GatewayError(Reason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED, message, metadata=metadata)
    if status in {408, 409} or status >= 500:
        metadata["cause"] = code or "server_error"
        message = f"{provider} failed ({told}, {metadata['cause']})"
        return GatewayError(
            Reason.ERROR_REASON_UPSTREAM_UNAVAILABLE, message, metadata=metadata, retryable=True
        )
    if code:
        metadata["provider_code"] = code
    if parameter:
        metadata["provider_parameter"] = parameter
    message = f"{provider} refused the request ({words})"
    return GatewayError(Reason.ERROR_REASON_UPSTREAM_REJECTED, message, metadata=metadata)


def _rate_limited(provider: str, code: str, *, is_out_of_quota: bool) -> GatewayError:
    metadata = {"provider": provider}
    if code:
        metadata["provider_code"] = code
    if is_out_of_quota:
        message = f"the gateway's account at {provider} has no quota left"
        return GatewayError(Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED, message, metadata=metadata)
    message = f"{provider} takes no more requests from the gateway for now"
    return GatewayError(Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED, message, metadata=metadata, retryable=True)
