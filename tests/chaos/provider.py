"""A provider that keeps its own books: what it served of each call, whoever heard of it.

A call's prompt says what is to happen to it, so that caller, provider and ledger can be compared by its id.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from tests.support.upstream import FIRST, STOP, Exchange, completion, send_json, text_chunk, usage_chunk

#: Nanos for one token.
INPUT_NANOS = 1_000
OUTPUT_NANOS = 4_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What the provider does with a call; a ``status`` not 200 fails it, ``pause`` is between tokens."""

    call_id: str
    input_tokens: int
    output_tokens: int
    status: int = 200
    pause: float = 0.0
    cut_after: int | None = None

    @property
    def prompt(self) -> str:
        """The plan as the only message of a conversation."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Served:
    """What the provider did for a call: ``output_tokens`` that it wrote, and whether it came to the end."""

    input_tokens: int
    output_tokens: int = 0
    times: int = 0
    complete: bool = False

    @property
    def nanos(self) -> int:
        """What it bills."""
        return self.input_tokens * INPUT_NANOS + self.output_tokens * OUTPUT_NANOS


class Books:
    """The script of an upstream, and what it has served by the id of the call."""

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}
        self.refused = 0

    async def serve(self, exchange: Exchange) -> None:
        """Does what the prompt says, within the output limit of the request."""
        plan = Plan(**json.loads(exchange.json["messages"][-1]["content"]))
        if plan.status != 200:
            self.refused += 1
            await send_json(exchange, {"error": {"message": "as planned"}}, status=plan.status)
            return
        limit = exchange.json.get("max_completion_tokens") or exchange.json.get("max_tokens")
        served = self.served.setdefault(plan.call_id, Served(plan.input_tokens))
        served.times += 1
        tokens = min(plan.output_tokens, limit or plan.output_tokens)
        answer_id = f"chatcmpl-{plan.call_id}"
        if exchange.streams:
            await self._stream(exchange, plan, served, tokens=tokens)
            return
        await asyncio.sleep(plan.pause * tokens)
        served.output_tokens = tokens
        usage = {
            "prompt_tokens": plan.input_tokens,
            "completion_tokens": tokens,
            "total_tokens": plan.input_tokens + tokens,
        }
        await send_json(exchange, completion("x" * tokens, id=answer_id, usage=usage))
        served.complete = True

    async def _stream(self, exchange: Exchange, plan: Plan, served: Served, *, tokens: int) -> None:
        await exchange.head_of()
        await exchange.events(FIRST)
        for number in range(tokens):
            if number == plan.cut_after:
                return
            served.output_tokens += 1
            await exchange.events(text_chunk("x"))
            await asyncio.sleep(plan.pause)
        await exchange.events(STOP, usage_chunk(plan.input_tokens, tokens))
        await exchange.send(b"data: [DONE]\n\n")
        await exchange.finish()
        served.complete = True
