"""Who is asked: routes, options, what tenant and key allow, capabilities, health; over real sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aigateway import AsyncClient, errors
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import ExplainRouteResponse, FunctionTool, Tool
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.model_pb2 import Model, ModelCapability, Price
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import FallbackPolicy, Route, RouteTarget
from aigateway.v1.routing_pb2 import (
    BreakerState,
    CandidateExclusion,
    GatewayOptions,
    RoutingStrategy,
    SessionAffinity,
)
from aigateway.v1.tenant_pb2 import Tenant
from aigateway.v1.usage_pb2 import Modality
from tests.gateway.test_fault_matrix import refuse
from tests.support.gateway import Gateway, client_of, free_port, new_user, running_gateway
from tests.support.upstream import (
    Exchange,
    Upstream,
    answer_well,
    completion,
    running_upstream,
    send_json,
    silent,
)

#: Price in dollars a million tokens and quality of each model.
FACTS: Final = {"mini": (0.15, 60.0), "middling": (1.0, 75.0), "large": (5.0, 92.0)}
_numbers = itertools.count()


@pytest.fixture(scope="module")
async def upstream_of_all() -> AsyncIterator[Upstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def provider_upstream(upstream_of_all: Upstream) -> Upstream:
    upstream_of_all.reset()
    return upstream_of_all


@pytest.fixture(scope="module")
async def routed(
    tmp_path_factory: pytest.TempPathFactory, upstream_of_all: Upstream
) -> AsyncIterator[Gateway]:
    """One provider for each model."""
    async with running_gateway(
        tmp_path_factory.mktemp("routing") / "state",
        retry_max_attempts=4,
        retry_initial_backoff_ms=1,
        target_breaker=True,
    ) as gateway:
        for name, (dollars, quality) in FACTS.items():
            await add_model(gateway, upstream_of_all, name, dollars=dollars, quality_score=quality)
        yield gateway


async def add_model(
    gateway: Gateway, upstream: Upstream, name: str, *, dollars: float | None = 1.0, **fields: Any
) -> str:
    """A model ``NAME`` of a provider ``p-NAME``; its resource name."""
    admin = gateway.client.admin
    await admin.providers.create(
        Provider(provider_type="vllm", base_url=upstream.base_url), provider_id=f"p-{name}"
    )
    price = None
    if dollars is not None:
        nanos = round(dollars * 1e9)
        price = Price(input_nanos_per_million=nanos, output_nanos_per_million=4 * nanos)
    model = Model(provider_model=name, price=price, **fields)
    return (await admin.models.create(f"providers/p-{name}", model, model_id=name)).name


async def add_route(gateway: Gateway, targets: list[str], **fields: Any) -> str:
    """A route to models by their ids; its id."""
    route_id = f"route-{next(_numbers)}"
    named = [RouteTarget(model=f"providers/p-{name}/models/{name}") for name in targets]
    await gateway.client.admin.routes.create(Route(targets=named, **fields), route_id=route_id)
    return route_id


async def key_for(gateway: Gateway, *, tenant: Tenant | None = None, **fields: Any) -> AsyncClient:
    """A client with a key of a tenant of its own."""
    tenant_id = f"t-{next(_numbers)}"
    admin = gateway.client.admin
    await admin.tenants.create(tenant or Tenant(), tenant_id=tenant_id)
    made = await admin.api_keys.create(
        f"tenants/{tenant_id}", ApiKey(scopes=[Scope.SCOPE_INFERENCE], **fields), api_key_id="k"
    )
    return client_of(gateway.address, made.secret)


def order_of(explained: ExplainRouteResponse) -> list[str]:
    return [each.provider_model for each in explained.candidates if each.rank]


def dropped_of(explained: ExplainRouteResponse) -> dict[str, str]:
    return {
        each.model.rpartition("/")[2]: CandidateExclusion.Name(each.exclusion).removeprefix(
            "CANDIDATE_EXCLUSION_"
        )
        for each in explained.candidates
        if not each.rank
    }


async def test_three_routes_are_there_from_the_start(routed: Gateway, provider_upstream: Upstream) -> None:
    routes = [route async for route in routed.client.admin.routes.list()]
    assert {"routes/cost-optimized", "routes/quality-first", "routes/balanced"} <= {
        each.name for each in routes
    }
    expected = {
        "cost-optimized": ["mini", "middling", "large"],
        "quality-first": ["large", "middling", "mini"],
        "balanced": ["mini", "large", "middling"],
    }
    for route, order in expected.items():
        explained = await routed.client.chat.explain_route(route, "hello")
        assert order_of(explained) == order
        assert explained.route == f"routes/{route}"
        answer = await routed.client.chat.create(route, "hello")
        assert answer.served_by.provider == f"providers/p-{order[0]}"
        assert answer.model == route
    assert len(provider_upstream.exchanges) == 3


#: The lists that an admin might pin, and in which order each strategy tries them.
PINNED: Final = {
    "cost-optimized": (
        ["gpt-4o-mini", "claude-3-haiku", "gpt-3.5-turbo"],
        ["gpt-4o-mini", "gpt-3.5-turbo", "claude-3-haiku"],
    ),
    "quality-first": (
        ["gpt-4o", "claude-3-opus", "gemini-pro"],
        ["claude-3-opus", "gpt-4o", "gemini-pro"],
    ),
    "balanced": (
        ["gpt-4o-mini", "claude-3-sonnet", "gpt-4"],
        ["gpt-4o-mini", "claude-3-sonnet", "gpt-4"],
    ),
}
#: Dollars a million tokens of input, a quarter of those of output; quality.
OF_PROVIDERS: Final = {
    "gpt-3.5-turbo": (0.5, 55.0),
    "gpt-4": (30.0, 80.0),
    "gpt-4o": (2.5, 88.0),
    "gpt-4o-mini": (0.15, 72.0),
    "claude-3-haiku": (0.8, 65.0),
    "claude-3-opus": (15.0, 90.0),
    "claude-3-sonnet": (3.0, 82.0),
    "gemini-pro": (1.25, 78.0),
}


def model_of_a_provider(name: str) -> str:
    """The resource name of one of them."""
    provider = {"gpt": "openai", "claude": "anthropic", "gemini": "google"}[name.partition("-")[0]]
    return f"providers/{provider}/models/{name}"


async def test_an_admin_pins_the_lists_of_the_routes_that_are_there_from_the_start(
    tmp_path: Path, provider_upstream: Upstream
) -> None:
    async with running_gateway(tmp_path / "state") as gateway:
        admin = gateway.client.admin
        for provider in ("openai", "anthropic", "google"):
            own = Provider(provider_type="vllm", base_url=provider_upstream.base_url)
            await admin.providers.create(own, provider_id=provider)
        for name, (dollars, quality) in OF_PROVIDERS.items():
            nanos = round(dollars * 1e9)
            price = Price(input_nanos_per_million=nanos, output_nanos_per_million=4 * nanos)
            parent = model_of_a_provider(name).rpartition("/models/")[0]
            model = Model(price=price, quality_score=quality)
            await admin.models.create(parent, model, model_id=name)
        for route, (pinned, order) in PINNED.items():
            everything = order_of(await gateway.client.chat.explain_route(route, "hello"))
            assert sorted(everything) == sorted(OF_PROVIDERS)
            targets = [RouteTarget(model=model_of_a_provider(name)) for name in pinned]
            pinning = Route(name=f"routes/{route}", targets=targets)
            await admin.routes.update(pinning, update_mask=["targets"])
            explained = await gateway.client.chat.explain_route(route, "hello")
            assert (order_of(explained), dropped_of(explained)) == (order, {})
            answer = await gateway.client.chat.create(route, "hello")
            assert model_of_a_provider(order[0]).startswith(answer.served_by.provider)


async def test_explaining_asks_nobody_and_tells_costs(routed: Gateway, provider_upstream: Upstream) -> None:
    explained = await routed.client.chat.explain_route("cost-optimized", "x" * 4000, max_output_tokens=100)
    assert explained.strategy == RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED
    assert explained.input_tokens == 1000
    cheapest = explained.candidates[0]
    # 1000 tokens at $0.15 and 100 at $0.60 a million.
    assert cheapest.estimated_cost_nanos == 150_000 + 60_000
    assert cheapest.maximum_cost_nanos > cheapest.estimated_cost_nanos
    assert cheapest.strategy_score == cheapest.estimated_cost_nanos
    assert provider_upstream.exchanges == []


async def test_explaining_tells_how_fast_and_how_well_targets_were(
    routed: Gateway, provider_upstream: Upstream
) -> None:
    for name in ("asked", "streamed", "failing"):
        await add_model(routed, provider_upstream, name, disabled=False)
    route = await add_route(routed, ["asked", "streamed", "failing", "mini"])

    async def slowly(exchange: Exchange) -> None:
        await asyncio.sleep(0.1)
        await answer_well(exchange)

    provider_upstream.script = slowly
    await routed.client.chat.create("p-asked/asked", "hello")
    async with routed.client.chat.stream("p-streamed/streamed", "hello") as stream:
        await stream.final_completion()
    provider_upstream.script = refuse(404, "model_not_found")
    with pytest.raises(errors.GatewayError):
        await routed.client.chat.create("p-failing/failing", "hello")
    provider_upstream.script = refuse(503)
    with pytest.raises(errors.GatewayError):
        await routed.client.chat.create("p-failing/failing", "hello")

    explained = await routed.client.chat.explain_route(route, "hello")
    asked, streamed, failing, _ = explained.candidates
    assert 100 <= asked.latency.ToMilliseconds() < 1000
    assert not asked.HasField("time_to_first_token")
    assert asked.error_rate == 0
    assert 100 <= streamed.time_to_first_token.ToMilliseconds() <= streamed.latency.ToMilliseconds()
    assert not failing.HasField("latency")
    assert failing.error_rate == 4 / 5
    for name in ("asked", "streamed", "failing"):
        model = Model(name=f"providers/p-{name}/models/{name}", disabled=True)
        await routed.client.admin.models.update(model, update_mask=["disabled"])


async def test_the_order_goes_by_this_request_not_by_list_prices(
    routed: Gateway, provider_upstream: Upstream
) -> None:
    """Cheap to read and dear to write, or the reverse: a long prompt and a long answer go different ways."""
    for name, read, write in (("reader", 1, 90), ("writer", 10, 10)):
        await add_model(routed, provider_upstream, name, dollars=None)
        model = await routed.client.admin.models.get(f"providers/p-{name}/models/{name}")
        model.price.input_nanos_per_million = read * 10**9
        model.price.output_nanos_per_million = write * 10**9
        model.disabled = False
        await routed.client.admin.models.update(model, update_mask=["price"])
    strategy = RoutingStrategy.ROUTING_STRATEGY_COST_OPTIMIZED
    route = await add_route(routed, ["reader", "writer"], strategy=strategy)
    chat = routed.client.chat
    assert order_of(await chat.explain_route(route, "x" * 40_000, max_output_tokens=10))[0] == "reader"
    assert order_of(await chat.explain_route(route, "hi", max_output_tokens=200))[0] == "writer"
    for name in ("reader", "writer"):  # not to be in the way of the other tests
        model = Model(name=f"providers/p-{name}/models/{name}", disabled=True)
        await routed.client.admin.models.update(model, update_mask=["disabled"])


async def test_a_request_may_choose_its_own_strategy_and_providers(routed: Gateway) -> None:
    route = await add_route(routed, ["mini", "middling", "large"])
    explain = routed.client.chat.explain_route
    assert order_of(await explain(route, "hello")) == ["mini", "middling", "large"]
    first = GatewayOptions(strategy=RoutingStrategy.ROUTING_STRATEGY_QUALITY_FIRST)
    assert order_of(await explain(route, "hello", gateway_options=first)) == ["large", "middling", "mini"]
    narrowed = GatewayOptions(
        allowed_providers=["providers/p-mini", "providers/p-large"], excluded_providers=["providers/p-mini"]
    )
    explained = await explain(route, "hello", gateway_options=narrowed)
    assert order_of(explained) == ["large"]
    assert dropped_of(explained) == {"mini": "NOT_REQUESTED", "middling": "NOT_REQUESTED"}


async def test_capabilities_that_a_request_needs(routed: Gateway, provider_upstream: Upstream) -> None:
    chat_only = [ModelCapability.MODEL_CAPABILITY_CHAT]
    tools = [*chat_only, ModelCapability.MODEL_CAPABILITY_TOOLS]
    models: dict[str, dict[str, Any]] = {
        "plain": {"capabilities": chat_only, "input_modalities": [Modality.MODALITY_TEXT]},
        "toolful": {"capabilities": tools},
        "short": {"context_window_tokens": 100},
        "terse": {"max_output_tokens": 5},
    }
    for name, fields in models.items():
        await add_model(routed, provider_upstream, name, disabled=False, **fields)
    route = await add_route(routed, ["plain", "toolful", "short", "terse"])
    tool = Tool(function=FunctionTool(function_name="look_up", parameters_json_schema="{}"))
    explained = await routed.client.chat.explain_route(route, "x" * 1000, tools=[tool], max_output_tokens=50)
    assert order_of(explained) == ["toolful"]
    assert dropped_of(explained) == {"plain": "CAPABILITY", "short": "TOKEN_LIMIT", "terse": "TOKEN_LIMIT"}
    [plain] = [each for each in explained.candidates if each.model.endswith("/plain")]
    assert plain.exclusion_detail == "tools"
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.chat.create("p-plain/plain", "hello", tools=[tool])
    assert caught.value.reason == "FEATURE_NOT_SUPPORTED"
    # What is only an estimate does not keep the last target from being asked.
    assert (await routed.client.chat.create("p-short/short", "x" * 1000)).choices
    for name in ("plain", "toolful", "short", "terse"):
        model = Model(name=f"providers/p-{name}/models/{name}", disabled=True)
        await routed.client.admin.models.update(model, update_mask=["disabled"])


async def test_tenant_and_key_narrow_a_route(routed: Gateway) -> None:
    route = await add_route(routed, ["mini", "middling", "large"])
    async with await key_for(routed, allowed_models_override=["m*"]) as client:
        explained = await client.chat.explain_route(route, "hello")
        assert order_of(explained) == ["mini", "middling"]
        assert dropped_of(explained) == {}, "a key does not hear of models that it may not use"
        with pytest.raises(errors.GatewayError) as caught:
            await client.chat.create("p-large/large", "hello")
        assert caught.value.reason == "MODEL_NOT_FOUND"
    # To allow a route is to allow what it leads to, within what the tenant allows.
    tenant = Tenant(allowed_models=["mini", "large"])
    async with await key_for(routed, tenant=tenant, allowed_models_override=[route]) as client:
        assert order_of(await client.chat.explain_route(route, "hello")) == ["mini", "large"]
        with pytest.raises(errors.GatewayError) as caught:
            await client.chat.create("mini", "hello")
        assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_a_call_without_a_model_goes_to_the_default_route(routed: Gateway) -> None:
    route = await add_route(routed, ["large"])
    tenant = Tenant(default_route=f"routes/{route}")
    async with await key_for(routed, tenant=tenant) as client:
        answer = await client.chat.create("", "hello")
        assert answer.model == route
        assert answer.served_by.provider == "providers/p-large"
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.admin.routes.delete(f"routes/{route}")
    assert caught.value.reason == "RESOURCE_IN_USE"
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.chat.create("", "hello")
    assert caught.value.reason == "INVALID_REQUEST"


async def test_a_tenant_cannot_have_a_default_route_that_is_not_there(routed: Gateway) -> None:
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.admin.tenants.create(Tenant(default_route="routes/nowhere"), tenant_id="lost")
    assert caught.value.violations[0].field == "tenant.default_route"


async def test_an_unpriced_model_is_left_out_under_a_budget(
    routed: Gateway, provider_upstream: Upstream
) -> None:
    await add_model(routed, provider_upstream, "unpriced", dollars=None)
    route = await add_route(routed, ["unpriced", "mini"])
    tenant = Tenant()
    tenant.budget.daily_nanos = 10**9
    async with await key_for(routed, tenant=tenant) as client:
        explained = await client.chat.explain_route(route, "hello")
        assert order_of(explained) == ["mini"]
        assert dropped_of(explained) == {"unpriced": "UNPRICED"}
    model = Model(name="providers/p-unpriced/models/unpriced", disabled=True)
    await routed.client.admin.models.update(model, update_mask=["disabled"])
    explained = await routed.client.chat.explain_route(route, "hello")
    assert dropped_of(explained) == {"unpriced": "DISABLED"}


async def test_a_budget_that_pays_for_a_cheaper_target_only(routed: Gateway) -> None:
    route = await add_route(routed, ["large", "mini"])
    tenant = Tenant()
    tenant.budget.daily_nanos = 10_000_000  # 66,000 tokens of input of the small one, 2,000 of the large
    async with await key_for(routed, tenant=tenant) as client:
        answer = await client.chat.create(route, "x" * 30_000, max_output_tokens=5)
        assert answer.served_by.provider == "providers/p-mini"
        assert len(answer.attempts) == 1, "nothing was sent to the other"


async def test_limits_of_a_model_pass_a_call_on_to_another(routed: Gateway) -> None:
    route = await add_route(routed, ["large", "mini"])
    tenant = Tenant()
    limits = tenant.model_rate_limits.add(model="large")
    limits.rate_limits.requests_per_minute = 1
    async with await key_for(routed, tenant=tenant) as client:
        served = [(await client.chat.create(route, "hello")).served_by.provider for _ in range(3)]
    assert served == ["providers/p-large", "providers/p-mini", "providers/p-mini"]


async def test_a_session_stays_where_its_cache_is(routed: Gateway) -> None:
    strategy = RoutingStrategy.ROUTING_STRATEGY_ROUND_ROBIN
    route = await add_route(routed, ["mini", "middling", "large"], strategy=strategy)
    options = GatewayOptions(session_affinity=SessionAffinity.SESSION_AFFINITY_END_USER)

    async def serve(user: str, gateway_options: GatewayOptions | None = None) -> str:
        answer = await routed.client.chat.create(
            route, "hello", end_user_id=user, gateway_options=gateway_options
        )
        return answer.served_by.provider

    assert len({await serve("anybody") for _ in range(3)}) == 3
    first = await serve("ann", options)
    assert {await serve("ann", options) for _ in range(4)} == {first}
    assert len({await serve("bob") for _ in range(3)}) == 3


async def test_the_warm_cache_counts_in_the_cost(routed: Gateway, provider_upstream: Upstream) -> None:
    """A dearer target that has the prompt in its cache is expected to cost less than it would without."""

    async def cached(exchange: Exchange) -> None:
        usage = {
            "prompt_tokens": 1000,
            "completion_tokens": 2,
            "total_tokens": 1002,
            "prompt_tokens_details": {"cached_tokens": 900},
        }
        await send_json(exchange, completion(usage=usage))

    provider_upstream.script = cached
    await add_model(routed, provider_upstream, "cacher")
    model = await routed.client.admin.models.get("providers/p-cacher/models/cacher")
    model.price.cache_read_nanos_per_million = 100_000_000
    await routed.client.admin.models.update(model, update_mask=["price"])
    route = await add_route(routed, ["cacher", "mini"])
    options = GatewayOptions(session_affinity=SessionAffinity.SESSION_AFFINITY_END_USER)
    asked: dict[str, Any] = {"end_user_id": "ann", "gateway_options": options, "max_output_tokens": 10}
    before = await routed.client.chat.explain_route(route, "x" * 4000, **asked)
    assert before.candidates[0].estimated_cost_nanos == 1_000_000 + 40_000
    await routed.client.chat.create(route, "x" * 4000, **asked)
    after = await routed.client.chat.explain_route(route, "x" * 4000, **asked)
    assert after.candidates[0].estimated_cost_nanos == 100_000 + 90_000 + 40_000
    disabled = Model(name=model.name, disabled=True)
    await routed.client.admin.models.update(disabled, update_mask=["disabled"])


async def test_at_most_so_many_targets(routed: Gateway, provider_upstream: Upstream) -> None:
    provider_upstream.script = refuse(404, "model_not_found")
    policy = FallbackPolicy(max_targets=2)
    route = await add_route(routed, ["mini", "middling", "large"], fallback_policy=policy)
    with pytest.raises(errors.GatewayError):
        await routed.client.chat.create(route, "hello")
    assert [each.json["model"] for each in provider_upstream.exchanges] == ["mini", "middling"]


async def test_only_the_same_model_stands_in_for_embeddings(tmp_path: Path) -> None:
    """Vectors of different models cannot be compared."""
    async with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "state", retry_max_attempts=1) as gateway,
    ):
        upstream.script = refuse(503)
        for provider in ("p-one", "p-two"):
            await gateway.client.admin.providers.create(
                Provider(provider_type="vllm", base_url=upstream.base_url), provider_id=provider
            )
            for model in ("small-vectors", "large-vectors"):
                await gateway.client.admin.models.create(
                    f"providers/{provider}", Model(provider_model=model), model_id=model
                )
        request = CreateEmbeddingsRequest(model="balanced", inputs=[EmbeddingInput(text="hello")])
        with pytest.raises(errors.GatewayError):
            await gateway.client.embeddings.create(request.model, ["hello"])
        assert [each.json["model"] for each in upstream.exchanges] == ["small-vectors"] * 2


async def test_a_route_is_checked_before_it_is_kept(routed: Gateway) -> None:
    twice = [RouteTarget(model="providers/p-mini/models/mini")] * 2
    nobody = [RouteTarget(model="providers/p-mini/models/nobody")]
    for targets, field in ((twice, "route.targets[1].model"), (nobody, "route.targets[0].model")):
        with pytest.raises(errors.GatewayError) as caught:
            await routed.client.admin.routes.create(Route(targets=targets), route_id="odd")
        assert caught.value.violations[0].field == field


async def test_a_key_sees_the_routes_that_it_may_use(routed: Gateway) -> None:
    small, large = await add_route(routed, ["mini"]), await add_route(routed, ["large"])
    async with await key_for(routed, allowed_models_override=["mini"]) as client:
        names = {route.name async for route in client.admin.routes.list()}
        assert f"routes/{small}" in names
        assert f"routes/{large}" not in names
        with pytest.raises(errors.GatewayError) as caught:
            await client.admin.routes.get(f"routes/{large}")
        assert caught.value.reason == "RESOURCE_NOT_FOUND"
        with pytest.raises(errors.GatewayError) as caught:
            await client.admin.routes.list_target_states()
        assert caught.value.reason == "SCOPE_MISSING"


class Health:
    """A gateway with one provider of its own, so that its health is nobody else's."""

    def __init__(self, gateway: Gateway, upstream: Upstream, model: str) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.model = model

    async def state(self) -> Any:
        states = await self.gateway.client.admin.routes.list_target_states()
        [state] = [each for each in states if each.model == self.model]
        return state

    async def fails(self) -> errors.GatewayError:
        with pytest.raises(errors.GatewayError) as caught:
            await self.gateway.client.chat.create(self.model.rpartition("/")[2], "hello", timeout=5)
        return caught.value


@pytest.fixture
async def health(routed: Gateway, provider_upstream: Upstream) -> Health:
    name = f"ill-{next(_numbers)}"
    model = await add_model(routed, provider_upstream, name, disabled=False)
    return Health(routed, provider_upstream, model)


async def test_a_target_that_fails_is_left_alone_then_probed_and_comes_back(health: Health) -> None:
    health.upstream.script = refuse(503)
    assert (await health.fails()).reason == "UPSTREAM_UNAVAILABLE"
    assert (await health.fails()).reason == "UPSTREAM_UNAVAILABLE"
    sent = len(health.upstream.exchanges)
    assert sent == 5, "four tries, and the first of the next call opens the breaker"
    failure = await health.fails()
    assert failure.metadata["cause"] == "cooling_down"
    assert failure.retry_after == pytest.approx(2, abs=0.5)
    assert len(health.upstream.exchanges) == sent, "nothing was sent"
    state = await health.state()
    assert state.breaker_state == BreakerState.BREAKER_STATE_OPEN
    assert state.cooldown_reason == "BREAKER_OPEN"
    health.upstream.script = answer_well
    await asyncio.sleep(failure.retry_after or 0)
    assert (await health.gateway.client.chat.create(health.model.rpartition("/")[2], "hello")).choices
    assert (await health.state()).breaker_state == BreakerState.BREAKER_STATE_CLOSED
    assert (await health.state()).traffic_share < 1


async def test_metrics_tell_the_state_of_each_breaker(tmp_path: Path, provider_upstream: Upstream) -> None:
    port = free_port()
    async with running_gateway(
        tmp_path / "state", target_breaker=True, metrics_listen=f"127.0.0.1:{port}"
    ) as gateway:
        for name in ("well", "ill"):
            await add_model(gateway, provider_upstream, name)
        assert await breaker_states(port) == {}
        await gateway.client.chat.create("well", "hello")
        provider_upstream.script = refuse(503)
        for _ in range(5):
            with pytest.raises(errors.GatewayError):
                await gateway.client.chat.create("ill", "hello")
        assert await breaker_states(port) == {"p-well/well": "closed", "p-ill/ill": "open"}
        await asyncio.sleep(2)
        assert await breaker_states(port) == {"p-well/well": "closed", "p-ill/ill": "half_open"}
        provider_upstream.script = answer_well
        await gateway.client.chat.create("ill", "hello")
        assert await breaker_states(port) == {"p-well/well": "closed", "p-ill/ill": "closed"}
        await gateway.client.admin.models.delete("providers/p-ill/models/ill")
        assert await breaker_states(port) == {"p-well/well": "closed"}


async def breaker_states(port: int) -> dict[str, str]:
    """The state of each target that the metrics show, which is one."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    states: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name == "aigateway_target_breaker_state" else ():
            if sample.value:
                assert sample.labels["target"] not in states
                states[sample.labels["target"]] = sample.labels["state"]
    return states


async def test_a_credential_that_was_refused_is_not_tried_again_until_it_changes(health: Health) -> None:
    health.upstream.script = refuse(401)
    assert (await health.fails()).reason == "UPSTREAM_CREDENTIAL_REJECTED"
    assert (await health.fails()).reason == "UPSTREAM_CREDENTIAL_REJECTED"
    assert len(health.upstream.exchanges) == 1
    assert (await health.state()).cooldown_reason == "UPSTREAM_CREDENTIAL_REJECTED"
    health.upstream.script = answer_well
    provider = Provider(name=health.model.partition("/models/")[0], display_name="With another key")
    await health.gateway.client.admin.providers.update(provider, update_mask=["display_name"])
    assert (await health.gateway.client.chat.create(health.model.rpartition("/")[2], "hello")).choices


async def test_a_target_that_told_how_long_is_waited_for_when_there_is_no_other(health: Health) -> None:
    health.upstream.script = refuse(429, headers={"retry-after-ms": "400"})
    options = GatewayOptions()
    options.timeout.FromMilliseconds(200)  # too short to wait
    with pytest.raises(errors.GatewayError) as caught:
        await health.gateway.client.chat.create(
            health.model.rpartition("/")[2], "hello", gateway_options=options
        )
    assert caught.value.reason == "UPSTREAM_RATE_LIMITED"
    health.upstream.script = answer_well
    started = asyncio.get_running_loop().time()
    answer = await health.gateway.client.chat.create(health.model.rpartition("/")[2], "hello")
    assert answer.choices
    assert asyncio.get_running_loop().time() - started > 0.2
    assert len(health.upstream.exchanges) == 2


async def test_the_gateway_forgets_nothing_when_a_route_is_removed_in_mid_call(
    routed: Gateway, provider_upstream: Upstream
) -> None:
    release = asyncio.Event()

    async def wait_then_answer(exchange: Exchange) -> None:
        await release.wait()
        await answer_well(exchange)

    provider_upstream.script = wait_then_answer
    route = await add_route(routed, ["mini"])
    call = asyncio.create_task(routed.client.chat.create(route, "hello"))
    await provider_upstream.next()
    await routed.client.admin.routes.delete(f"routes/{route}")
    release.set()
    assert (await call).model == route
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.chat.create(route, "hello")
    assert caught.value.reason == "MODEL_NOT_FOUND"


class Race:
    """A route of two targets with hedging on, whose first target is known to be quick."""

    def __init__(self, gateway: Gateway, route: str, quick: Upstream, other: Upstream) -> None:
        self.gateway = gateway
        self.route = route
        self.quick = quick
        self.other = other

    async def ask(self, *, streams: bool) -> tuple[str, str]:
        """Who answered, and what."""
        user = new_user()
        chat = self.gateway.client.chat
        if streams:
            async with chat.stream(self.route, "hello", end_user_id=user) as stream:
                answer = await stream.final_completion()
        else:
            answer = await chat.create(self.route, "hello", end_user_id=user)
        self.user = user
        return answer.served_by.provider, answer.choices[0].message.parts[0].text.text


@pytest.fixture
async def race(tmp_path: Path) -> AsyncIterator[Race]:
    async with (
        running_upstream() as quick,
        running_upstream() as other,
        running_gateway(tmp_path / "state", retry_max_attempts=4) as gateway,
    ):
        await add_model(gateway, quick, "quick")
        await add_model(gateway, other, "other")
        policy = FallbackPolicy(hedging_enabled=True)
        racing = Race(
            gateway, await add_route(gateway, ["quick", "other"], fallback_policy=policy), quick, other
        )
        for streams in (False, True):
            for _ in range(20):
                assert await racing.ask(streams=streams) == ("providers/p-quick", "Hello there")
        other.reset()
        yield racing
        assert quick.busy == 0
        assert other.busy == 0


@pytest.mark.parametrize("streams", [False, True])
async def test_a_target_that_is_slower_than_usual_gets_a_rival(race: Race, streams: bool) -> None:
    race.quick.script = silent
    assert (await race.ask(streams=streams))[0] == "providers/p-other"
    record = await race.gateway.ledger.wait_one(race.user)
    assert record.served_by.provider == "providers/p-other"
    lost, served = record.attempts
    assert (lost.provider, lost.error_reason) == ("providers/p-quick", "CANCELLED")
    assert lost.cost.estimated
    assert served.error_reason == ""
    assert record.cost.total_nanos == lost.cost.total_nanos + served.cost.total_nanos
    await race.quick.settled()


@pytest.mark.parametrize("streams", [False, True])
async def test_the_first_may_still_win_and_nothing_of_the_other_is_heard(race: Race, streams: bool) -> None:
    other_asked = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await other_asked.wait()
        await answer_well(exchange)

    async def never(exchange: Exchange) -> None:
        other_asked.set()
        await silent(exchange)

    race.quick.script, race.other.script = late, never
    assert await race.ask(streams=streams) == ("providers/p-quick", "Hello there")
    record = await race.gateway.ledger.wait_one(race.user)
    assert record.served_by.provider == "providers/p-quick"
    assert [(each.provider, each.error_reason) for each in record.attempts] == [
        ("providers/p-quick", ""),
        ("providers/p-other", "CANCELLED"),
    ]
    await race.other.settled()


async def test_both_may_fail_and_the_last_failure_is_told(race: Race) -> None:
    async def late_failure(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await refuse(401)(exchange)

    race.quick.script, race.other.script = late_failure, refuse(404, "model_not_found")
    with pytest.raises(errors.GatewayError) as caught:
        await race.ask(streams=False)
    assert caught.value.reason == "UPSTREAM_CREDENTIAL_REJECTED"


async def test_a_caller_that_leaves_ends_both(race: Race) -> None:
    race.quick.script = race.other.script = silent
    call = asyncio.create_task(race.ask(streams=True))
    await race.other.next()
    call.cancel()
    await asyncio.wait([call])
    await race.quick.settled()
    await race.other.settled()


async def test_what_is_refused_for_good_has_no_rival(race: Race) -> None:
    race.quick.script = refuse(400, "invalid_request_error")
    with pytest.raises(errors.GatewayError) as caught:
        await race.ask(streams=False)
    assert caught.value.reason == "UPSTREAM_REJECTED"
    assert race.other.exchanges == []
