"""The account of one call, where what it takes of limits could be taken twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from aigateway.v1.model_pb2 import Model
from gateway_server.call import CallContext, Principal, RateLimit
from gateway_server.clock import SystemClock
from gateway_server.limits.limiter import Claim, Grant
from gateway_server.pipeline.account import Accounts
from gateway_server.providers.base import Endpoint, Target
from gateway_server.router.catalog import Candidate

OF_ALL_CALLS = RateLimit("tenants/t", requests_per_minute=10)
OF_ONE_MODEL = RateLimit("tenants/t", "p/second", requests_per_minute=10)


class SlowLimiter:
    """Lets everybody in when it is told to, and keeps what was claimed for the caller."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.claimed: list[tuple[RateLimit, ...]] = []

    async def admit(self, call: CallContext, claims: Sequence[Claim], **_: Any) -> list[Any]:
        self.claimed.append(claims[0].limits)
        await self.opened.wait()
        return [cast("Grant", None)] * len(claims)


async def test_two_targets_that_are_asked_at_once_take_a_limit_of_the_caller_once() -> None:
    clock = SystemClock()
    caller = Principal("t", "k", frozenset(), rate_limits=(OF_ALL_CALLS, OF_ONE_MODEL))
    call = CallContext(
        "1", "CreateChatCompletion", caller, clock, 0.0, clock.monotonic(), clock.monotonic() + 60
    )
    limiter = SlowLimiter()
    accounts = Accounts(cast("Any", None), cast("Any", None), cast("Any", limiter), cast("Any", None))
    account = accounts.open(call, model="route")
    first, second = (
        Candidate(Target("p", "vllm", name, Model()), cast("Endpoint", None), (f"p/{name}", name))
        for name in ("first", "second")
    )
    lanes = [asyncio.create_task(account.admit(each, tokens=1)) for each in (first, second)]
    await asyncio.sleep(0)
    limiter.opened.set()
    await asyncio.gather(*lanes)
    assert limiter.claimed == [(OF_ALL_CALLS, OF_ONE_MODEL), (OF_ONE_MODEL,)]
