"""How long a gateway's event loop is held up while prompts of 20,000 characters come in, all of them new.

    uv run --frozen python -m bench.loop_lag

Beside the prompts, a health check is asked every few milliseconds: what it takes longer than without any is
how long it waited for the loop, or for the interpreter's lock. The gateway with the default guardrails takes
turns with the same that checks nothing; its clients and the upstream are on the same CPUs.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from itertools import count
from statistics import median
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
from bench.cases import UNARY, Case
from bench.subjects import GATEWAY, UNGUARDED, Subject, running

_PROMPT: Final = Case("unary, 20,000 characters", UNARY.model, characters=20_000)
_PAUSE_SECONDS: Final = 0.003
_prompts = count()


async def _ask(stub: ChatServiceStub, metadata: Sequence[tuple[str, str]], until: float) -> None:
    """One caller after another prompt, each with other words, so that no score is remembered."""
    request = _PROMPT.request()
    text = request.messages[-1].parts[0].text
    prose = text.text
    while time.monotonic() < until:
        number = next(_prompts)
        text.text = prose.replace("keeper", f"keeper {number} of the lamp")[:20_000]
        await stub.CreateChatCompletion(request, metadata=metadata, timeout=60)  # type: ignore[misc]


async def _probe(stub: health_pb2_grpc.HealthStub, until: float) -> list[float]:
    """Milliseconds of health checks."""
    taken: list[float] = []
    while time.monotonic() < until:
        started_at = time.perf_counter()
        await stub.Check(health_pb2.HealthCheckRequest())
        taken.append((time.perf_counter() - started_at) * 1000)
        await asyncio.sleep(_PAUSE_SECONDS)
    return sorted(taken)


async def _measure(subject: Subject, callers: int, seconds: float) -> list[float]:
    """Milliseconds of health checks beside so many callers, in order."""
    metadata = [("authorization", line) for line in subject.authorization.splitlines()[:1]]
    address = f"127.0.0.1:{subject.port}"
    async with grpc.aio.insecure_channel(address) as channel, grpc.aio.insecure_channel(address) as other:
        until = time.monotonic() + seconds
        asking = [_ask(ChatServiceStub(channel), metadata, until) for _ in range(callers)]
        taken, *_ = await asyncio.gather(_probe(health_pb2_grpc.HealthStub(other), until), *asking)
    return taken


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="bench.loop_lag", description="How long the event loop is held up.")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each interval")
    arguments = parser.parse_args()
    print("| Callers | Guardrails | p50, ms | p99, ms | highest, ms |")
    print("| --- | --- | --- | --- | --- |")
    with running((UNGUARDED, GATEWAY)) as bench:
        for callers in (0, 1, 4, 16):
            rounds: dict[str, list[list[float]]] = {subject.name: [] for subject in bench.subjects}
            for _ in range(arguments.rounds):
                for subject in bench.subjects:
                    taken = asyncio.run(_measure(subject, callers, arguments.seconds))
                    rounds[subject.name].append(taken)
            for name, all_taken in rounds.items():
                figures = (
                    median(taken[min(round(len(taken) * share), len(taken) - 1)] for taken in all_taken)
                    for share in (0.5, 0.99, 1.0)
                )
                told = " | ".join(f"{figure:.1f}" for figure in figures)
                print(f"| {callers} | {'default' if name == GATEWAY else 'off'} | {told} |")


if __name__ == "__main__":
    main()
