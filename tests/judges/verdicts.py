"""What a caller and the ledger must have of a call, whoever the provider is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from aigateway import completion_text, types
from aigateway.v1.usage_pb2 import UsageState
from aigateway.v1.usage_service_pb2 import UsageRecord
from tests.gateway.callers import Caller, Outcome
from tests.support.gateway import Gateway

NOTHING: Final = UsageState.USAGE_STATE_UNSPECIFIED
PARTIAL: Final = UsageState.USAGE_STATE_PARTIAL
REPORTED: Final = UsageState.USAGE_STATE_PROVIDER_REPORTED

LIMITED: Final = ("RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED")
UNAVAILABLE: Final = ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
TIMEOUT: Final = ("DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT")
PROTOCOL: Final = ("INTERNAL", "UPSTREAM_PROTOCOL_ERROR")
REJECTED: Final = ("INVALID_ARGUMENT", "UPSTREAM_REJECTED")
CREDENTIAL: Final = ("FAILED_PRECONDITION", "UPSTREAM_CREDENTIAL_REJECTED")


@dataclass(frozen=True)
class Failing:
    """How a call fails: code and reason, some of its metadata, when to try again, and what the row says."""

    status: tuple[str, str]
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    usage: int = NOTHING
    http_status: int = 0


async def check_failure(gateway: Gateway, outcome: Outcome, expected: Failing) -> UsageRecord:
    """The call failed as it should, and the ledger says the same; gives the row."""
    failure = outcome.failure
    assert failure is not None, f"served {outcome.answer}"
    assert (failure.code.name, failure.reason) == expected.status, failure
    assert failure.metadata.items() >= expected.metadata.items(), failure.metadata
    assert failure.retry_after == expected.retry_after
    assert not outcome.has_end

    row = await record_of(gateway, outcome.end_user_id)
    assert row.name.endswith(failure.request_id)
    assert (row.status_code, row.error_reason) == (failure.code.value[0], failure.reason)
    [attempt] = row.attempts
    assert (attempt.status_code, attempt.error_reason) == (row.status_code, row.error_reason)
    assert attempt.http_status == expected.http_status
    assert row.usage.state == attempt.usage.state == expected.usage
    assert (row.cost.total_nanos > 0) is (expected.usage != NOTHING)
    return row


async def check_served(gateway: Gateway, outcome: Outcome) -> types.ChatCompletion:
    """The call was answered, with the same usage and cost in answer and ledger; gives the answer."""
    answer = outcome.answer
    assert answer is not None, outcome.failure
    row = await record_of(gateway, outcome.end_user_id)
    assert (row.status_code, row.error_reason) == (0, "")
    assert row.usage == answer.usage
    assert row.cost == answer.cost
    assert row.usage.state == REPORTED
    # A thousand and three thousand billionths a token.
    assert row.cost.total_nanos == 1000 * row.usage.input_tokens + 3000 * row.usage.output_tokens
    assert row.served_by == answer.served_by
    return answer


async def check_next_call(gateway: Gateway, caller: Caller, model: str, text: str = "") -> None:
    """The next call is answered as if nothing had been."""
    answer = await check_served(gateway, await caller.call("hello", model=model))
    assert completion_text(answer) == text or not text


async def record_of(gateway: Gateway, end_user_id: str) -> UsageRecord:
    """The one record of an end user, read as anybody reads records, as soon as it is there."""
    async with asyncio.timeout(10):
        while True:
            listed = gateway.client.usage.list_records(
                "tenants/default", filter=f'end_user_id = "{end_user_id}"'
            )
            records = [record async for record in listed]
            if records:
                [record] = records
                return record
            await asyncio.sleep(0.01)
