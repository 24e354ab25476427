"""Callers who plan what happens to each of their calls, and remember what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aigateway import AsyncClient
from aigateway.errors import GatewayError
from tests.chaos.provider import Plan
from tests.support.upstream import MODEL

_MAX_OUTPUT_TOKENS = 60
_CALL_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Told:
    """What one caller was told: the end of an answer, or why there is none."""

    call_id: str
    tenant_id: str
    outcome: str
    from_gateway: bool
    output_tokens: int | None = None


@dataclass(slots=True)
class Answers:
    """All that the callers were told."""

    told: list[Told] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How often each outcome was told."""
        return Counter(each.outcome for each in self.told)


async def call_until(
    stop: asyncio.Event,
    *,
    client_of_somebody: Callable[[], Awaitable[AsyncClient | None]],
    tenant_id: str,
    draw: random.Random,
    answers: Answers,
    numbers: count[int],
) -> None:
    """One caller: one call after another, at whichever gateway lives."""
    while not stop.is_set():
        client = await client_of_somebody()
        if client is None:
            await asyncio.sleep(0.05)
            continue
        plan = _plan(draw, f"{tenant_id}-{next(numbers)}")
        leave_after = draw.uniform(0.01, 0.5) if draw.random() < 0.15 else None
        call = asyncio.create_task(_call(client, plan, streams=draw.random() < 0.6))
        try:
            async with asyncio.timeout(leave_after):
                outcome, from_gateway, output_tokens = await call
        except TimeoutError:
            outcome, from_gateway, output_tokens = "LEFT", False, None
        answers.told.append(Told(plan.call_id, tenant_id, outcome, from_gateway, output_tokens))
        await asyncio.sleep(draw.uniform(0, 0.05))


def _plan(draw: random.Random, call_id: str) -> Plan:
    kind = draw.random()
    return Plan(
        call_id,
        input_tokens=draw.randint(5, 60),
        output_tokens=draw.randint(1, 80),
        status=draw.choice([429, 500, 503]) if kind < 0.08 else 200,
        pause=draw.uniform(0.005, 0.05) if kind > 0.8 else 0.0,
        cut_after=draw.randint(1, 5) if 0.08 <= kind < 0.12 else None,
    )


async def _call(client: AsyncClient, plan: Plan, *, streams: bool) -> tuple[str, bool, int | None]:
    options: dict[str, Any] = {"max_output_tokens": _MAX_OUTPUT_TOKENS, "end_user_id": plan.call_id}
    try:
        if streams:
            async with client.chat.stream(
                f"local/{MODEL}", plan.prompt, timeout=_CALL_SECONDS, **options
            ) as stream:
                async for _ in stream:
                    pass
            answer = stream.completion
        else:
            answer = await client.chat.create(f"local/{MODEL}", plan.prompt, timeout=_CALL_SECONDS, **options)
    except GatewayError as error:
        return error.reason or "CONNECTION_LOST", bool(error.reason), None
    return "OK", True, answer.usage.output_tokens
