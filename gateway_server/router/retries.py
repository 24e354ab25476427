"""What follows on a failed attempt: the same target again and after which wait, the next target, or the end.

Pure functions of an error, a policy and a random draw.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.route_pb2 import RetryPolicy
from gateway_server.errors import GatewayError

#: How much longer than a provider asked for a wait may be, so that not all come back at once.
_JITTER: Final = 0.1

#: What providers say of a request that another model may well be able to serve.
_OF_THE_MODEL: Final = frozenset(
    {
        "context_length_exceeded",
        "model_not_found",
        "not_found_error",
        "NOT_FOUND",
        "ResourceNotFoundException",
        "DeploymentNotFound",
        "unsupported_parameter",
        "unsupported_value",
        "unsupported_model",
        "request_too_large",
    }
)
_STATUS_OF_THE_MODEL: Final = frozenset({"404", "413"})
#: Time-outs after which the provider has done nothing yet.
_EARLY_PHASES: Final = frozenset({"connect", "connection_pool"})


class Step(Enum):
    """What to do after a failure."""

    RETRY = auto()
    """The same target may serve in a moment."""
    NEXT = auto()
    """Another target may serve."""
    STOP = auto()
    """Nobody would."""


@dataclass(frozen=True, slots=True)
class TryPolicy:
    """How often and how long to try one target; times in seconds, None does not limit."""

    max_attempts: int = 4
    initial_backoff: float = 0.25
    max_backoff: float = 8.0
    attempt_timeout: float | None = None
    first_token_timeout: float | None = None

    def overridden_by(self, policy: RetryPolicy) -> "TryPolicy":
        """This policy with what a route sets."""
        return TryPolicy(
            max_attempts=policy.max_attempts or self.max_attempts,
            initial_backoff=_seconds(policy, "initial_backoff") or self.initial_backoff,
            max_backoff=_seconds(policy, "max_backoff") or self.max_backoff,
            attempt_timeout=_seconds(policy, "attempt_timeout") or self.attempt_timeout,
            first_token_timeout=_seconds(policy, "first_token_timeout") or self.first_token_timeout,
        )


def step_after(error: GatewayError) -> Step:
    """Whether the same target, another one or nobody may serve after this."""
    reason = error.reason
    if reason == ErrorReason.ERROR_REASON_UPSTREAM_TIMEOUT:
        return Step.RETRY if error.metadata.get("phase") in _EARLY_PHASES else Step.NEXT
    if reason in _TRANSIENT:
        return Step.RETRY if error.retryable else Step.NEXT
    if reason in _OF_THE_TARGET or _is_of_the_model(error):
        return Step.NEXT
    return Step.STOP


def is_sooner(error: GatewayError, other: GatewayError) -> bool:
    """Whether of two limits in the way, ``error`` tells the one that is out of it first."""
    limit = ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED
    if error.reason != limit or other.reason != limit or error.retry_after is None:
        return False
    return other.retry_after is None or error.retry_after < other.retry_after


def wait_before_retry(error: GatewayError, tries: int, policy: TryPolicy, draw: float) -> float:
    """Seconds until the next try after ``tries`` of them: what the provider asks for, else a random part of
    a bound that doubles each time. ``draw`` is from 0 to 1.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    if error.retry_after is not None:
        return error.retry_after * (1 + _JITTER * draw)
    return min(policy.max_backoff, policy.initial_backoff * 2.0 ** (tries - 1)) * draw


_TRANSIENT: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE,
        ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED,
        ErrorReason.ERROR_REASON_UPSTREAM_PROTOCOL_ERROR,
    }
)
_OF_THE_TARGET: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_UPSTREAM_CREDENTIAL_REJECTED,
        ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED,
        ErrorReason.ERROR_REASON_BUDGET_EXCEEDED,
        ErrorReason.ERROR_REASON_MODEL_UNPRICED,
    }
)


def _is_of_the_model(error: GatewayError) -> bool:
    """Whether another model may be served by what was refused to this one."""
    if error.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST:
        # Such as media that could not be fetched for a target that does not fetch them itself.
        return error.retryable
    if error.reason == ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED:
        # A tenant's limit for some models, or a limit that is the target's own.
        return bool(error.metadata.get("model")) or error.metadata.get("owner", "").startswith("providers/")
    if error.reason != ErrorReason.ERROR_REASON_UPSTREAM_REJECTED:
        return False
    return (
        error.metadata.get("provider_code") in _OF_THE_MODEL
        or error.metadata.get("http_status") in _STATUS_OF_THE_MODEL
    )


def _seconds(policy: RetryPolicy, field: str) -> float | None:
    if not policy.HasField(field):  # type: ignore[arg-type]
        return None
    return float(getattr(policy, field).ToNanoseconds() / 1e9)
