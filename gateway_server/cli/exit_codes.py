"""What the command exits with, and what it tells about a failure."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aigateway import GatewayError

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
NOT_ALLOWED: Final = 3
NOT_FOUND: Final = 4
UNAVAILABLE: Final = 5
REFUSED: Final = 6
CONFLICT: Final = 7
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    OK: "done",
    FAILURE: "failed at the gateway or a provider",
    USAGE: "wrong usage or invalid request",
    NOT_ALLOWED: "key missing, invalid or not allowed",
    NOT_FOUND: "not found",
    UNAVAILABLE: "gateway unavailable or too slow",
    REFUSED: "refused by a limit, a budget or a guardrail",
    CONFLICT: "exists, in use, or changed by others",
    INTERRUPTED: "interrupted",
}


def exit_code_of(error: "GatewayError") -> int:
    """The exit code for a failed call."""
    import aigateway as sdk

    match error:
        case sdk.AuthenticationError() | sdk.PermissionDeniedError():
            return NOT_ALLOWED
        case sdk.NotFoundError():
            return NOT_FOUND
        case sdk.UnavailableError() | sdk.DeadlineExceededError():
            return UNAVAILABLE
        case sdk.RateLimitError() | sdk.BudgetExceededError() | sdk.GuardrailBlockedError():
            return REFUSED
        case sdk.ConflictError():
            return CONFLICT
        case sdk.InvalidRequestError():
            return USAGE
        case _:
            return FAILURE


#: What to do about a reason. Values of the error's metadata can stand in braces.
_ADVICE: Final = {
    "API_KEY_MISSING": "set AIGW_API_KEY or give --api-key; the first start and `ai-gateway init` print the "
    "first key",
    "API_KEY_INVALID": "check AIGW_API_KEY or --api-key: the key is unknown, expired or revoked",
    "SCOPE_MISSING": "use a key that has one of the scopes {scopes}",
    "MODEL_NOT_ALLOWED": "ask an administrator to allow {model} to the tenant and the key",
    "TENANT_SUSPENDED": "ask an administrator to activate {tenant}",
    "MODEL_NOT_FOUND": "`ai-gateway models list` shows what there is; if {model} is not among it, ask an "
    "administrator to add or allow it",
    "BUDGET_EXCEEDED": "wait for the next window, or ask an administrator for a higher budget",
    "GUARDRAIL_FAILED": "rule {rule} of {guardrail_profile} could not run; "
    "with fail_open calls pass without it",
    "GUARDRAIL_BLOCKED": "change the text; rule {rule} of {guardrail_profile} stopped it",
    "UPSTREAM_CREDENTIAL_REJECTED": "`ai-gateway providers check {provider}`, then mend its credential",
    "ETAG_MISMATCH": "somebody else changed it in the meantime: run the command again",
    "RESOURCE_IN_USE": "delete or change first what depends on it: {blocker}",
    "INTERNAL": "look for the request id in the gateway's log",
    "NOT_IMPLEMENTED": "use a newer gateway",
}


def explain(error: "GatewayError") -> str:
    """The failure in lines for a person: what happened, what to do, which request. Holds no secret."""
    lines = [f"error: {error.reason or error.code.name}: {error.message}"]
    lines += [f"  {violation.field}: {violation.description}" for violation in error.violations]
    if advice := _advise(error):
        lines.append(f"  what to do: {advice}")
    if error.request_id:
        lines.append(f"  request: {error.request_id}")
    return "\n".join(lines)


def _advise(error: "GatewayError") -> str:
    advice = _ADVICE.get(error.reason, "")
    for key, value in error.metadata.items():
        advice = advice.replace(f"{{{key}}}", value)
    if not advice and error.retry_after is not None:
        return f"try again in {error.retry_after:g} s"
    if not advice and not error.reason and exit_code_of(error) == UNAVAILABLE:
        if "SSL" in error.message.upper():
            return "if the gateway there serves plain text, say --insecure; if its CA is your own, --ca-file"
        return "is it running (`ai-gateway serve`)? Another address is set by --target or AIGW_TARGET"
    return advice
