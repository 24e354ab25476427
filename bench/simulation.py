"""The router in bad times: many targets that brown out, overflow and die, on a clock that is not real.

Runs the gateway's own router and failover, without sockets, and beside it two simple ways: round robin with
retries, and a random order. The same seed gives the same table.

uv run --frozen python -m bench.simulation [--requests 100000] [--seed 1]
"""

import argparse
import asyncio
import itertools
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, Final, cast

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.route_pb2 import Route
from aigateway.v1.routing_pb2 import RoutingStrategy
from gateway_server.call import CallContext, Principal
from gateway_server.errors import GatewayError
from gateway_server.pipeline.account import CallAccount
from gateway_server.pipeline.failover import Failover, Try, Turn
from gateway_server.providers.base import Endpoint, Target
from gateway_server.router.affinity import Affinity
from gateway_server.router.catalog import Candidate, Catalog, Choice, Destination
from gateway_server.router.facts import ChatFacts
from gateway_server.router.health import HealthBook
from gateway_server.router.retries import TryPolicy
from gateway_server.router.retry_budget import CAPACITY, PER_CALL, PER_SECOND
from gateway_server.router.router import Option, Router
from gateway_server.usage.expectation import OutputExpectation

DEADLINE_SECONDS: Final = 30.0
#: What a connection that is refused, or an answer that is an error, takes.
_ERROR_SECONDS: Final = 0.05


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which nobody waits: time jumps to when the next thing is due."""

    def __init__(self) -> None:
        self._virtual_now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        """Lets so much time have passed."""
        self._virtual_now += seconds


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self._loop.jump(timeout)
        return super().select(0)


class VirtualClock:
    """The clock of the loop that runs."""

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time()

    def now(self) -> float:
        """The same: the world begins in 1970."""
        return self.monotonic()


@dataclass(frozen=True, slots=True)
class World:
    """How much there is of everything; the same seed makes the same world."""

    targets: int = 50
    requests: int = 100_000
    requests_a_second: float = 200.0
    seed: int = 1

    @property
    def seconds(self) -> float:
        """For how long requests come."""
        return self.requests / self.requests_a_second


@dataclass(frozen=True, slots=True)
class Fault:
    """From when to when a target fails: the share of requests that it fails, and how much slower it is."""

    start: float
    end: float
    share: float
    slowness: float = 1.0


@dataclass
class SimulatedTarget:
    """A provider's model: what it costs, how fast it is, how much it takes, and when it fails."""

    name: str
    cost: int
    latency: float
    capacity: int
    faults: Sequence[Fault]
    draw: Random
    attempts_while_failing: int = 0
    attempts: int = 0
    calls: int = 0
    _second: int = -1
    _in_second: int = 0

    def fault(self, now: float) -> Fault | None:
        """What is wrong with it at a time."""
        return next((fault for fault in self.faults if fault.start <= now < fault.end), None)

    async def serve(self, now: float) -> None:
        """One attempt; raises as a provider's answer would."""
        self.attempts += 1
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += 1
        fault = self.fault(now)
        if fault is not None:
            self.attempts_while_failing += 1
        if self._in_second > self.capacity:
            await asyncio.sleep(_ERROR_SECONDS)
            raise _error(ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED, retry_after=1 - now % 1)
        if fault is not None and self.draw.random() < fault.share:
            await asyncio.sleep(_ERROR_SECONDS)
            raise _error(ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE)
        slowness = 1.0 if fault is None else fault.slowness
        await asyncio.sleep(self.latency * slowness * self.draw.lognormvariate(0, 0.3))


def _error(reason: ErrorReason.ValueType, *, retry_after: float | None = None) -> GatewayError:
    return GatewayError(reason, "simulated", retryable=True, retry_after=retry_after)


@dataclass
class Outcome:
    """What came of a run."""

    name: str
    served: int = 0
    failed: int = 0
    cost: int = 0
    optimum: int = 0
    latencies: list[float] = field(default_factory=list)
    attempts: int = 0
    attempts_while_failing: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.served + self.failed

    def row(self) -> str:
        """A row of the table."""
        ordered = sorted(self.latencies)
        p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        return (
            f"| {self.name} | {self.served / self.requests:.3%} | {self.attempts / self.requests:.2f} "
            f"| {self.attempts_while_failing / self.requests:.3f} "
            f"| {self.cost / max(self.optimum, 1):.2f} | {p50:.2f} | {p99:.2f} |"
        )


HEADINGS: Final = (
    "| way | served | attempts a request | to failing targets | cost / optimum | p50, s | p99, s |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def make_targets(world: World) -> list[SimulatedTarget]:
    """Targets of many prices; the cheap ones fail more often, or nobody would notice."""
    draw = Random(world.seed)
    seconds = world.seconds
    targets: list[SimulatedTarget] = []
    for number in range(world.targets):
        faults: list[Fault] = []
        for _ in range(3 if number < world.targets // 2 else 1):
            start = draw.uniform(0, seconds * 0.8)
            end = start + draw.uniform(0.02, 0.1) * seconds
            share, slowness = draw.choice([(1.0, 1.0), (0.5, 1.0), (0.3, 5.0), (0.0, 10.0)])
            faults.append(Fault(start, end, share, slowness))
        targets.append(
            SimulatedTarget(
                name=f"p{number}/m",
                cost=1_000 + 150 * number,
                latency=draw.uniform(0.2, 1.5),
                capacity=draw.choice([10, 20, 40]),
                faults=faults,
                draw=Random(f"{world.seed} {number}"),
            )
        )
    return targets


def router_of(targets: Sequence[SimulatedTarget], strategy: RoutingStrategy.ValueType, seed: int) -> Router:
    """The gateway's router over these targets."""
    clock = VirtualClock()
    catalog = Catalog([], [], lambda _: cast(Endpoint, None))
    choices = [_choice_of(target) for target in targets]
    route = Route(name="routes/all", strategy=strategy)
    catalog._by_name = {  # noqa: SLF001 -- a catalog without providers
        "all": Destination("all", choices, route),
        **{
            target.name: Destination(target.name, [choice])
            for target, choice in zip(targets, choices, strict=True)
        },
    }
    return Router(
        catalog,
        HealthBook(clock),
        affinity=Affinity(clock),
        expectation=OutputExpectation(),
        policy=TryPolicy(),
        draw=Random(seed),
    )


def _choice_of(target: SimulatedTarget) -> Choice:
    provider_id, _, model_id = target.name.partition("/")
    model = Model(
        name=f"providers/{provider_id}/models/{model_id}",
        price=Price(input_nanos_per_million=target.cost * 1_000_000),
        quality_score=50,
    )
    endpoint = cast(Endpoint, SimpleNamespace(chat_format=object(), embeddings_format=None))
    candidate = Candidate(
        Target(provider_id, "simulated", model_id, model), endpoint, (target.name, model_id)
    )
    return Choice(model.name, candidate)


class _Account:
    """As much of a call's account as failover looks at."""

    def __init__(self) -> None:
        self.attempts: list[Any] = []
        self.served: Any = None
        self.model = ""

    def leave(self, candidate: Candidate) -> None:
        """Nothing is limited here."""


_REQUEST: Final = CreateChatCompletionRequest(
    model="all", messages=[Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text="four"))])]
)

#: Serves one call; gives the target that did.
Way = Callable[[CallContext], Awaitable[SimulatedTarget]]
MakeWay = Callable[[list[SimulatedTarget]], Way]


def by_gateway(router: Router, targets: Sequence[SimulatedTarget], *, model: str = "all") -> Way:
    """As the gateway does it."""
    by_name = {target.name: target for target in targets}
    request = CreateChatCompletionRequest(model=model, messages=_REQUEST.messages)

    async def serve(call: CallContext) -> SimulatedTarget:
        account = _Account()

        async def prepare(option: Option) -> Try[SimulatedTarget]:
            target = by_name[option.candidate.name]
            target.calls += 1

            async def serve_once(turn: Turn) -> SimulatedTarget:
                began = call.clock.monotonic()
                turn.attempt = cast(Any, SimpleNamespace(latency=0.0, first_token_latency=None, usage=None))
                account.attempts.append(turn.attempt)
                try:
                    await target.serve(began)
                finally:
                    account.attempts[-1].latency = call.clock.monotonic() - began
                return target

            return serve_once

        plan = router.plan(ChatFacts(request, streams=False), call)
        return await Failover(router, plan, call, cast(CallAccount, account), prepare).serve()

    return serve


def by_order(next_order: Callable[[], Sequence[SimulatedTarget]]) -> Way:
    """As a simple balancer does it: four tries at one target, then the next, three targets at the most."""

    async def serve(call: CallContext) -> SimulatedTarget:
        failure: GatewayError | None = None
        for target in next_order()[:3]:
            for tries in range(4):
                try:
                    await target.serve(call.clock.monotonic())
                except GatewayError as error:
                    failure = error
                    await asyncio.sleep(0.25 * 2**tries)
                else:
                    return target
        if failure is None:
            raise AssertionError("there are targets")
        raise failure

    return serve


async def run(name: str, way: Way, targets: Sequence[SimulatedTarget], world: World) -> Outcome:
    """Sends requests at random times, and waits for all of them."""
    outcome = Outcome(name)
    clock = VirtualClock()
    draw = Random(world.seed)

    async def call_once(number: int) -> None:
        began = clock.monotonic()
        call = CallContext(
            str(number),
            "CreateChatCompletion",
            Principal("t", "k", frozenset()),
            clock,
            began,
            began,
            began + DEADLINE_SECONDS,
        )
        healthy = [target.cost for target in targets if target.fault(began) is None]
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                target = await way(call)
        except (GatewayError, TimeoutError) as error:
            outcome.failed += 1
            outcome.reasons[error.reason_name if isinstance(error, GatewayError) else "TIMEOUT"] += 1
            return
        outcome.served += 1
        outcome.cost += target.cost
        outcome.optimum += min(healthy, default=target.cost)
        outcome.latencies.append(clock.monotonic() - began)

    calls: set[asyncio.Task[None]] = set()
    for number in range(world.requests):
        task = asyncio.create_task(call_once(number))
        calls.add(task)
        task.add_done_callback(calls.discard)
        await asyncio.sleep(draw.expovariate(world.requests_a_second))
    await asyncio.gather(*calls)
    outcome.attempts = sum(target.attempts for target in targets)
    outcome.attempts_while_failing = sum(target.attempts_while_failing for target in targets)
    return outcome


def simulate(name: str, make_way: MakeWay, world: World) -> Outcome:
    """One run on a loop and targets of its own."""
    targets = make_targets(world)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run(name, make_way(targets), targets, world))


def most_retries(target: SimulatedTarget, seconds: float) -> float:
    """What the retry budget of a target allows at the most."""
    return CAPACITY + target.calls * PER_CALL + seconds * PER_SECOND


def ways(seed: int) -> list[tuple[str, MakeWay]]:
    """What is compared."""

    def gateway(strategy: RoutingStrategy.ValueType) -> MakeWay:
        return lambda targets: by_gateway(router_of(targets, strategy, seed), targets)

    def round_robin(targets: list[SimulatedTarget]) -> Way:
        turns = itertools.count()

        def next_order() -> Sequence[SimulatedTarget]:
            first = next(turns) % len(targets)
            return targets[first:] + targets[:first]

        return by_order(next_order)

    def at_random(targets: list[SimulatedTarget]) -> Way:
        draw = Random(seed)
        return by_order(lambda: draw.sample(targets, len(targets)))

    return [
        ("cost optimized", gateway(RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED)),
        ("least latency", gateway(RoutingStrategy.ROUTING_STRATEGY_LEAST_LATENCY)),
        ("least busy", gateway(RoutingStrategy.ROUTING_STRATEGY_LEAST_BUSY)),
        ("round robin", gateway(RoutingStrategy.ROUTING_STRATEGY_ROUND_ROBIN)),
        ("plain round robin with retries", round_robin),
        ("random order with retries", at_random),
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(HEADINGS)
    for name, make_way in ways(arguments.seed):
        outcome = simulate(name, make_way, World(requests=arguments.requests, seed=arguments.seed))
        print(outcome.row(), dict(outcome.reasons.most_common(3)) or "", flush=True)


if __name__ == "__main__":
    main()
