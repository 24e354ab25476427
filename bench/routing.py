"""What choosing takes: microseconds of CPU to plan one call, by strategy and number of targets.

uv run --frozen python -m bench.routing
"""

import random
import time
from collections.abc import Sequence
from typing import Final

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route, RouteTarget
from aigateway.v1.routing_pb2 import RoutingStrategy
from gateway_server.call import CallContext, Principal
from gateway_server.clock import SystemClock
from gateway_server.providers.base import Endpoint
from gateway_server.providers.credential_files import CredentialFiles
from gateway_server.providers.credentials import CredentialRules, Credentials
from gateway_server.router.affinity import Affinity
from gateway_server.router.catalog import Catalog
from gateway_server.router.facts import ChatFacts
from gateway_server.router.health import HealthBook
from gateway_server.router.retries import TryPolicy
from gateway_server.router.router import Router
from gateway_server.storage.sealing import MasterKeys
from gateway_server.usage.expectation import OutputExpectation

_SECONDS: Final = 0.4
_ROUNDS: Final = 3


def router_of(targets: int, strategy: RoutingStrategy.ValueType) -> Router:
    """A router with one route over so many models of one provider."""
    clock = SystemClock()
    draw = random.Random(1)
    names = [f"providers/p/models/m{number}" for number in range(targets)]
    models = [
        Model(
            name=name,
            price=Price(input_nanos_per_million=draw.randrange(10**10), output_nanos_per_million=10**10),
            quality_score=draw.uniform(0, 100),
            context_window_tokens=128_000,
        )
        for name in names
    ]
    credentials = Credentials(CredentialRules((), ()), CredentialFiles((), interval=60.0), MasterKeys(""))

    def build(provider: Provider) -> Endpoint:
        return credentials.endpoint_of(provider, None)

    route = Route(name="routes/all", strategy=strategy, targets=[RouteTarget(model=name) for name in names])
    provider = Provider(name="providers/p", provider_type="vllm", base_url="http://127.0.0.1:1/v1")
    return Router(
        Catalog([provider], models, build, routes=[route]),
        HealthBook(clock),
        affinity=Affinity(clock),
        expectation=OutputExpectation(),
        policy=TryPolicy(),
        draw=draw,
    )


def call_of() -> CallContext:
    """A call of somebody who may use anything, with an hour's time."""
    clock = SystemClock()
    return CallContext(
        "id",
        "CreateChatCompletion",
        Principal("acme", "k", frozenset()),
        clock,
        clock.now(),
        clock.monotonic(),
        clock.monotonic() + 3600,
    )


def _microseconds(router: Router, request: CreateChatCompletionRequest, call: CallContext) -> float:
    """The lowest of some rounds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        count, began = 0, time.process_time()
        while (spent := time.process_time() - began) < _SECONDS:
            for _ in range(20):
                router.plan(ChatFacts(request, streams=False), call)
            count += 20
        best = min(best, spent / count * 1e6)
    return best


def main(counts: Sequence[int] = (1, 5, 50, 500)) -> None:
    """Prints a table."""
    text = TextPart(text="What happens to this question on its way? " * 5)
    request = CreateChatCompletionRequest(
        model="all", messages=[Message(role=Role.ROLE_USER, parts=[ContentPart(text=text)])]
    )
    call = call_of()
    print("| strategy | " + " | ".join(f"{count} targets, us" for count in counts) + " |")
    print("| --- |" + " ---: |" * len(counts))
    for strategy in RoutingStrategy.values()[1:]:
        figures = [_microseconds(router_of(count, strategy), request, call) for count in counts]
        name = RoutingStrategy.Name(strategy).removeprefix("ROUTING_STRATEGY_").lower()
        print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
