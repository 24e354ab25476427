"""Calls at random, and the plain sums that rollups must agree with."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from sqlalchemy import select

from aigateway.v1.usage_pb2 import Cost, TokenUsage, UsageState
from gateway_server.storage.engine import Store
from gateway_server.storage.tables import usage_groups, usage_rollups
from gateway_server.storage.usage_records import CallRecord

#: Midnight, UTC.
DAY_START = 1_760_054_400_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

TOKENS = st.integers(0, 2000)
MICROS = st.integers(0, 5_000_000)


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    states = [
        UsageState.USAGE_STATE_PROVIDER_REPORTED,
        UsageState.USAGE_STATE_ESTIMATED,
        UsageState.USAGE_STATE_PARTIAL,
    ]
    fresh, read, write, long, output, reasoning = (draw(TOKENS) for _ in range(6))
    return TokenUsage(
        state=draw(st.sampled_from(states)),
        input_tokens=fresh + read + write,
        cache_read_input_tokens=read,
        cache_write_input_tokens=write,
        cache_write_long_input_tokens=min(long, write),
        output_tokens=output + reasoning,
        reasoning_output_tokens=reasoning,
        total_tokens=fresh + read + write + output + reasoning,
    )


@st.composite
def costs(draw: st.DrawFn) -> Cost:
    parts = [draw(st.integers(0, 10**9)) for _ in range(5)]
    return Cost(
        currency_code="USD",
        total_nanos=sum(parts),
        input_nanos=parts[0],
        cache_read_nanos=parts[1],
        cache_write_nanos=parts[2],
        output_nanos=parts[3],
        extras_nanos=parts[4],
        estimated=draw(st.booleans()),
    )


@st.composite
def call_records(draw: st.DrawFn, *, days: int = 3) -> CallRecord:
    """A call of few tenants, keys, models and labels, so that many fall together. Its id is to be set."""
    failed = draw(st.booleans())
    provider = draw(st.sampled_from(["", "openai", "azure"]))
    return CallRecord(
        request_id="",
        tenant_id=draw(st.sampled_from(["acme", "other"])),
        api_key_id=draw(st.sampled_from(["ci", "web"])),
        method=draw(st.sampled_from(["CreateChatCompletion", "CreateEmbeddings"])),
        model=draw(st.sampled_from(["gpt-4o", "balanced"])),
        start_time=DAY_START
        + draw(st.integers(0, 24 * days - 1)) * HOUR
        + draw(st.sampled_from([0, 1, 30 * MINUTE, HOUR - 1])),
        latency=draw(MICROS),
        status_code=14 if failed else 0,
        error_reason=draw(st.sampled_from(["UPSTREAM_UNAVAILABLE", "UPSTREAM_TIMEOUT"])) if failed else "",
        time_to_first_token=draw(st.none() | MICROS),
        provider_id=provider,
        provider_model=draw(st.sampled_from(["gpt-4o", "gpt-4o-eu"])) if provider else "",
        usage=draw(st.none() | usages()),
        cost=draw(st.none() | costs()),
        labels=draw(
            st.sampled_from(
                [{}, {"team": "search"}, {"team": "ads", "app": "x"}, {"app": "x", "team": "ads"}]
            )
        ),
        end_user_id=draw(st.sampled_from(["", "u-1", "u-2"])),
        environment=draw(st.sampled_from(["", "production"])),
    )


async def read_rollups(store: Store) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """All rollups with what their groups say, by what they are about."""
    statement = select(usage_rollups, *(c for c in usage_groups.c if c.name != "group_id")).join(
        usage_groups, usage_groups.c.group_id == usage_rollups.c.group_id
    )
    async with store.read() as connection:
        rows = (await connection.execute(statement)).mappings().all()
    keys = [c.name for c in usage_rollups.primary_key] + [
        c.name for c in usage_groups.c if c.name != "group_id"
    ]
    return {
        tuple(str(row[name]) for name in keys): tuple(row[name] for name in row if name not in keys)
        for row in rows
    }
