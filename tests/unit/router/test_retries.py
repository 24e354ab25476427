"""What follows on each failure, and how long is waited."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.route_pb2 import RetryPolicy
from gateway_server.errors import GatewayError, feature_not_supported
from gateway_server.router.retries import Step, TryPolicy, is_sooner, step_after, wait_before_retry


def error(
    reason: str, *, retryable: bool = False, retry_after: float | None = None, **metadata: str
) -> GatewayError:
    return GatewayError(
        ErrorReason.Value(f"ERROR_REASON_{reason}"),
        "",
        metadata=metadata,
        retryable=retryable,
        retry_after=retry_after,
    )


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (error("UPSTREAM_UNAVAILABLE", retryable=True), Step.RETRY),
        (error("UPSTREAM_UNAVAILABLE"), Step.NEXT),
        (error("UPSTREAM_RATE_LIMITED", retryable=True), Step.RETRY),
        (error("UPSTREAM_RATE_LIMITED"), Step.NEXT),
        (error("UPSTREAM_PROTOCOL_ERROR", retryable=True), Step.RETRY),
        (error("UPSTREAM_PROTOCOL_ERROR"), Step.NEXT),
        (error("UPSTREAM_TIMEOUT", retryable=True, phase="connect"), Step.RETRY),
        (error("UPSTREAM_TIMEOUT", retryable=True, phase="connection_pool"), Step.RETRY),
        (error("UPSTREAM_TIMEOUT", retryable=True, phase="first_byte"), Step.NEXT),
        (error("UPSTREAM_TIMEOUT", retryable=True, phase="first_token"), Step.NEXT),
        (error("UPSTREAM_TIMEOUT", retryable=True, phase="idle"), Step.NEXT),
        (error("UPSTREAM_TIMEOUT", retryable=True, phase="total"), Step.NEXT),
        (error("UPSTREAM_CREDENTIAL_REJECTED"), Step.NEXT),
        (error("UPSTREAM_REJECTED"), Step.STOP),
        (error("UPSTREAM_REJECTED", provider_code="content_filter"), Step.STOP),
        (error("UPSTREAM_REJECTED", provider_code="context_length_exceeded"), Step.NEXT),
        (error("UPSTREAM_REJECTED", http_status="404"), Step.NEXT),
        (error("UPSTREAM_REJECTED", http_status="413"), Step.NEXT),
        (error("UPSTREAM_REJECTED", http_status="422"), Step.STOP),
        (feature_not_supported("audio", model="m"), Step.NEXT),
        (error("BUDGET_EXCEEDED"), Step.NEXT),
        (error("MODEL_UNPRICED"), Step.NEXT),
        (error("RATE_LIMIT_EXCEEDED", model="gpt-4o"), Step.NEXT),
        (error("RATE_LIMIT_EXCEEDED", owner="providers/openai"), Step.NEXT),
        (error("RATE_LIMIT_EXCEEDED", owner="providers/openai/models/gpt-4o"), Step.NEXT),
        (error("RATE_LIMIT_EXCEEDED", owner="tenants/acme"), Step.STOP),
        (error("RATE_LIMIT_EXCEEDED"), Step.STOP),
        (error("INVALID_REQUEST"), Step.STOP),
        (error("INVALID_REQUEST", retryable=True), Step.NEXT),
        (error("DEADLINE_EXCEEDED"), Step.STOP),
        (error("SLOW_READER"), Step.STOP),
        (error("STORE_UNAVAILABLE", retryable=True), Step.STOP),
        (error("OVERLOADED"), Step.STOP),
        (error("INTERNAL"), Step.STOP),
    ],
)
def test_what_follows(failure: GatewayError, expected: Step) -> None:
    assert step_after(failure) is expected


def test_of_two_limits_the_one_that_is_out_of_the_way_first() -> None:
    soon, late, never = (error("RATE_LIMIT_EXCEEDED", retry_after=wait) for wait in (1.0, 2.0, None))
    assert is_sooner(soon, late)
    assert is_sooner(late, never)
    for other in (soon, late, never):
        assert not is_sooner(never, other)
    assert not is_sooner(late, soon)
    assert not is_sooner(soon, error("UPSTREAM_UNAVAILABLE", retry_after=9.0))
    assert not is_sooner(error("UPSTREAM_UNAVAILABLE", retry_after=0.1), soon)


def test_the_bound_of_a_wait_doubles_up_to_the_longest() -> None:
    policy = TryPolicy(initial_backoff=0.5, max_backoff=3.0)
    failure = error("UPSTREAM_UNAVAILABLE", retryable=True)
    assert [wait_before_retry(failure, tries, policy, 1.0) for tries in range(1, 6)] == [0.5, 1, 2, 3, 3]
    assert wait_before_retry(failure, 3, policy, 0.0) == 0


@given(st.floats(0, 1000), st.integers(1, 10), st.floats(0, 1))
def test_a_provider_is_never_asked_again_earlier_than_it_said(wait: float, tries: int, draw: float) -> None:
    failure = error("UPSTREAM_RATE_LIMITED", retryable=True, retry_after=wait)
    assert wait <= wait_before_retry(failure, tries, TryPolicy(), draw) <= wait * 1.1 + 1e-9


def test_a_route_overrides_what_it_sets() -> None:
    route = RetryPolicy(
        max_attempts=2, max_backoff=Duration(seconds=1), first_token_timeout=Duration(seconds=3)
    )
    assert TryPolicy(initial_backoff=0.1).overridden_by(route) == TryPolicy(
        max_attempts=2, initial_backoff=0.1, max_backoff=1.0, attempt_timeout=None, first_token_timeout=3.0
    )
