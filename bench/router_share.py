"""What the router adds to a call with one target: its CPU time as a share of the gateway's for the same call.

    uv run --frozen python -m bench.router_share
    uv run --frozen python -m bench.router_share --rounds 3

In each round two things are measured, within seconds: the steps of the router by themselves, in this process
(facts of the request, the plan, going through its one target, health before and after), less the same try
without them; and the gateway as it runs, with unary calls. The share is made within the round: of what the
call takes without the router.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from types import SimpleNamespace
from typing import Any, Final

from aigateway.v1.routing_pb2 import RoutingStrategy
from bench.cases import UNARY
from bench.load import measure
from bench.routing import call_of, router_of
from bench.subjects import GATEWAY, running
from gateway_server.pipeline.failover import Failover, Try, Turn
from gateway_server.router.facts import ChatFacts
from gateway_server.router.router import Option

LIMIT: Final = 0.03
_CALLS: Final = 2_000
_BATCHES: Final = 5
_MAX_CALLS: Final = 200_000


async def _serve_once(turn: Turn) -> None:
    """A try that costs nothing."""


async def _prepare(_option: Option) -> Try[None]:
    return _serve_once


def _steps(model: str) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """A call with the router, and one that goes straight to its target."""
    router = router_of(1, RoutingStrategy.ROUTING_STRATEGY_PRIORITY)
    request, call = UNARY.request(), call_of()
    request.model = model
    account: Any = SimpleNamespace(model="", attempts=[], served=None, leave=lambda _: None)
    turn: Any = None
    option = router.plan(ChatFacts(request, streams=False), call).options[0]

    async def routed() -> None:
        plan = router.plan(ChatFacts(request, streams=False), call)
        await Failover(router, plan, call, account, _prepare).serve()

    async def bare() -> None:
        await (await _prepare(option))(turn)

    return routed, bare


async def _microseconds(step: Callable[[], Awaitable[None]]) -> float:
    """The median of some batches."""
    found = []
    for _ in range(_BATCHES):
        began = time.process_time()
        for _ in range(_CALLS):
            await step()
        found.append((time.process_time() - began) / _CALLS * 1e6)
    return median(found)


async def _router_microseconds(model: str) -> float:
    routed, bare = _steps(model)
    await routed()
    return await _microseconds(routed) - await _microseconds(bare)


def main() -> None:
    """Measures and prints a table. Exits with 1 when the share is too large and --strict is given."""
    parser = argparse.ArgumentParser(prog="bench.router_share", description="What the router adds to a call.")
    parser.add_argument("--rounds", type=int, default=8, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each interval")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when the target is missed")
    arguments = parser.parse_args()
    cells: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with running((GATEWAY,)) as bench:
        [subject] = bench.subjects
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
            for callers in (1, 16):
                sample = measure(
                    subject,
                    UNARY,
                    bench.upstream_pid,
                    callers=callers,
                    seconds=arguments.seconds,
                    max_calls=_MAX_CALLS,
                )
                for what, model in (("provider/model", "p/m0"), ("a route of one target", "all")):
                    router = asyncio.run(_router_microseconds(model))
                    cells.setdefault((what, callers), []).append((router, sample.cpu_us))
    print("| Call by | Callers | router, us of CPU | gateway, us of CPU | router adds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    missed = False
    for (what, callers), found in cells.items():
        shares = [router / (gateway - router) for router, gateway in found]
        missed |= median(shares) > LIMIT
        spread = f"{median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
        router_us, gateway_us = (median(column) for column in zip(*found, strict=True))
        print(f"| {what} | {callers} | {router_us:.1f} | {gateway_us:.0f} | {spread} |")
    if missed and arguments.strict:
        sys.exit(1)


if __name__ == "__main__":
    main()
