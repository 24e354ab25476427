"""What a route over judges does beyond retries: three formats, a patience of its own, a rival, a breaker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration

from aigateway import completion_text
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import FallbackPolicy, RetryPolicy, Route, RouteTarget
from aigateway.v1.routing_pb2 import BreakerState
from tests.gateway.callers import Caller
from tests.judges.conftest import add_provider
from tests.judges.processes import AIMOCK_KEY, Aimock, LLMock
from tests.judges.verdicts import NOTHING, PARTIAL, record_of
from tests.support.gateway import Gateway, new_user, running_gateway

TEXT: Final = "one two three"
PRICE: Final = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=3_000_000_000)
_numbers = itertools.count()


def short_waits(tries: int) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=tries,
        initial_backoff=Duration(nanos=4_000_000),
        max_backoff=Duration(nanos=100_000_000),
    )


async def add_route(gateway: Gateway, *providers: str, **fields: Any) -> str:
    """A route over a new model at each provider; its id."""
    number = next(_numbers)
    admin = gateway.client.admin
    targets = []
    for provider in providers:
        model = Model(provider_model="chat-model", price=PRICE)
        made = await admin.models.create(f"providers/{provider}", model, model_id=f"m{number}")
        targets.append(RouteTarget(model=made.name))
    await admin.routes.create(Route(targets=targets, **fields), route_id=f"over-judges-{number}")
    return f"over-judges-{number}"


async def attempts_of(gateway: Gateway, end_user_id: str) -> list[tuple[str, str]]:
    """Provider and reason of each attempt, as the ledger has them."""
    row = await record_of(gateway, end_user_id)
    return [(each.provider.removeprefix("providers/"), each.error_reason) for each in row.attempts]


@dataclass(frozen=True)
class Cast:
    """Which judge plays which provider."""

    openai: str
    anthropic: str
    google: str


#: What a judge is when it plays a provider.
PLAYED: Final = {
    "aimock": {"openai": "/v1", "anthropic": "/v1", "google": "/v1beta"},
    "llmock": {"openai": "/v1", "anthropic": "/anthropic/v1", "google": "/gemini/v1beta"},
}
CASTS: Final = [Cast("aimock", "llmock", "aimock"), Cast("llmock", "aimock", "llmock")]


@pytest.mark.parametrize("cast", CASTS, ids=["aimock-llmock-aimock", "llmock-aimock-llmock"])
async def test_openai_fails_anthropic_fails_and_google_answers(
    gateway: Gateway, aimock: Aimock, llmock: LLMock, caller: Caller, cast: Cast
) -> None:
    """Each format is the provider's own; each who fails is asked once and three times more."""
    number = next(_numbers)
    judges: dict[str, Aimock | LLMock] = {"aimock": aimock, "llmock": llmock}
    targets = []
    for provider_type in ("openai", "anthropic", "google"):
        name = getattr(cast, provider_type)
        address = str(judges[name].http.base_url).rstrip("/") + PLAYED[name][provider_type]
        provider = Provider(provider_type=provider_type, base_url=address, credential=AIMOCK_KEY)
        made = await gateway.client.admin.providers.create(provider, provider_id=f"{provider_type}-{number}")
        model = Model(provider_model=f"{provider_type}-model", price=PRICE)
        target = await gateway.client.admin.models.create(made.name, model, model_id="m")
        targets.append(RouteTarget(model=target.name))
    route = Route(targets=targets, retry_policy=short_waits(4))
    await gateway.client.admin.routes.create(route, route_id=f"picture-{number}")
    await fail(judges[cast.openai], "openai", 500)
    await fail(judges[cast.anthropic], "anthropic", 529)
    await answer(judges[cast.google], "google")

    outcome = await caller.call(model=f"picture-{number}")

    assert outcome.answer is not None, outcome.failure
    assert completion_text(outcome.answer) == TEXT
    assert outcome.answer.served_by.provider == f"providers/google-{number}"
    row = await record_of(gateway, outcome.end_user_id)
    assert [(each.provider, each.http_status, each.error_reason) for each in row.attempts] == [
        *[(f"providers/openai-{number}", 500, "UPSTREAM_UNAVAILABLE")] * 4,
        *[(f"providers/anthropic-{number}", 529, "UPSTREAM_UNAVAILABLE")] * 4,
        (f"providers/google-{number}", 200, ""),
    ]
    assert [each.cost.total_nanos > 0 for each in row.attempts] == [False] * 8 + [True]
    assert sum([len(await judge.requests()) for judge in judges.values()]) == 9


async def fail(judge: Aimock | LLMock, provider_type: str, status: int) -> None:
    """Makes a judge fail whenever it plays this provider."""
    model = f"{provider_type}-model"
    match judge:
        case Aimock():
            error = {"error": {"message": "no", "type": "judge_error"}, "status": status}
            await judge.answer(error, match={"model": model})
        case LLMock():
            wanted = {"model": model}
            await judge.behave(type="fail", status=status, retry_after=0.01, times=None, match=wanted)


async def answer(judge: Aimock | LLMock, provider_type: str) -> None:
    """Makes a judge answer when it plays this provider."""
    model = f"{provider_type}-model"
    match judge:
        case Aimock():
            # In Gemini's words, since it plays Google where it answers.
            usage = {"promptTokenCount": 2, "candidatesTokenCount": 3, "totalTokenCount": 5}
            await judge.answer({"content": TEXT, "usage": usage}, match={"model": model})
        case LLMock():
            await judge.behave(type="reply", text=TEXT, match={"model": model})


async def test_a_slow_first_token_is_waited_for_as_long_as_the_route_says(
    gateway: Gateway, aimock: Aimock, llmock: LLMock, streaming: Caller
) -> None:
    """A first chunk without text is none."""
    timings = {"ttftMs": 0, "interChunkDelaysMs": [400, 0, 0], "totalDurationMs": 400}
    await aimock.answer({"content": TEXT}, recordedTimings=timings)
    policy = RetryPolicy(first_token_timeout=Duration(nanos=150_000_000))
    patient = await add_route(gateway, "aimock-vllm", "llmock")
    hasty = await add_route(gateway, "aimock-vllm", "llmock", retry_policy=policy)

    waited, left = await streaming.call(model=patient), await streaming.call(model=hasty)

    assert waited.answer is not None
    assert await attempts_of(gateway, waited.end_user_id) == [("aimock-vllm", "")]
    assert left.answer is not None
    assert await attempts_of(gateway, left.end_user_id) == [
        ("aimock-vllm", "UPSTREAM_TIMEOUT"),
        ("llmock", ""),
    ]
    lost, _ = (await record_of(gateway, left.end_user_id)).attempts
    assert lost.usage.state == PARTIAL
    assert 0.15 <= lost.latency.ToNanoseconds() / 1e9 < 0.4


async def test_a_slow_answer_is_waited_for_as_long_as_the_route_says(
    gateway: Gateway, aimock: Aimock, llmock: LLMock, caller: Caller
) -> None:
    await aimock.answer({"content": TEXT}, chaos={"latencyMs": 400})
    policy = RetryPolicy(attempt_timeout=Duration(nanos=150_000_000))
    patient = await add_route(gateway, "aimock-vllm", "llmock")
    hasty = await add_route(gateway, "aimock-vllm", "llmock", retry_policy=policy)

    waited, left = await caller.call(model=patient), await caller.call(model=hasty)

    assert waited.answer is not None
    assert await attempts_of(gateway, waited.end_user_id) == [("aimock-vllm", "")]
    assert left.answer is not None
    assert await attempts_of(gateway, left.end_user_id) == [
        ("aimock-vllm", "UPSTREAM_TIMEOUT"),
        ("llmock", ""),
    ]


async def test_a_judge_that_is_slower_than_usual_gets_a_rival(
    gateway: Gateway, aimock: Aimock, llmock: LLMock, caller: Caller
) -> None:
    policy = FallbackPolicy(hedging_enabled=True)
    route = await add_route(gateway, "aimock-vllm", "llmock", fallback_policy=policy)
    await aimock.answer({"content": TEXT})
    for _ in range(20):
        assert (await caller.call(model=route)).answer is not None
    await aimock.reset()
    await llmock.reset()
    await aimock.answer({"content": TEXT}, chaos={"latencyMs": 500})

    outcome = await caller.call(model=route)

    assert outcome.answer is not None, outcome.failure
    assert outcome.answer.served_by.provider == "providers/llmock"
    assert await attempts_of(gateway, outcome.end_user_id) == [("aimock-vllm", "CANCELLED"), ("llmock", "")]
    assert len(await llmock.requests()) == 1


async def test_embeddings_of_the_same_model_come_from_the_other_judge(
    gateway: Gateway, aimock: Aimock, llmock: LLMock
) -> None:
    await aimock.answer({"error": {"message": "no"}, "status": 500})
    models = [f"providers/{provider}/models/embeddings" for provider in ("aimock-vllm", "llmock")]
    targets = [RouteTarget(model=model) for model in models]
    route = Route(targets=targets, retry_policy=short_waits(3))
    await gateway.client.admin.routes.create(route, route_id="judged-embeddings")
    plain = await llmock.ask("embeddings", {"model": "embeddings-model", "input": ["a cat"]})
    end_user = new_user()

    answer = await gateway.client.embeddings.create("judged-embeddings", "a cat", end_user_id=end_user)

    assert list(answer.embeddings[0].float_vector.values) == pytest.approx(plain["data"][0]["embedding"])
    assert await attempts_of(gateway, end_user) == [
        *[("aimock-vllm", "UPSTREAM_UNAVAILABLE")] * 3,
        ("llmock", ""),
    ]
    assert [each.usage.state for each in (await record_of(gateway, end_user)).attempts[:3]] == [NOTHING] * 3


async def test_the_judge_finds_no_fault_in_how_a_route_retries(
    gateway: Gateway, llmock: LLMock, streaming: Caller
) -> None:
    """It looks for waits that are too short, storms, retries in vain, and half answers taken for whole."""
    route = await add_route(gateway, "llmock", retry_policy=RetryPolicy(max_attempts=4))
    faults: list[dict[str, Any]] = [
        {"type": "fail", "status": 429, "retry_after": 0.3, "times": 2},
        {"type": "fail", "status": 503, "retry_after": 0.2},
        {"type": "fail", "status": 500},
        *[
            {"type": "stream_fault", "kind": kind, "after_chunks": 1}
            for kind in ("disconnect", "truncate", "malformed")
        ],
    ]
    for number, fault in enumerate(faults):
        await llmock.behave(**fault)
        outcome = await streaming.call(f"question {number}", model=route)
        assert outcome.answer is not None, outcome.failure
    for status in (400, 401, 403, 404, 422):
        await llmock.behave(type="fail", status=status)
        assert (await streaming.call(f"question of {status}", model=route)).failure is not None

    assert len(await llmock.requests()) == 2 * len(faults) + 1 + 5
    # It notes an attempt when that has ended there. A retry that comes at once may be noted before the stream
    # that was left at its malformed chunk, which then seems to be the last; the number of requests tells.
    assert await llmock.findings() <= {"malformed_chunk_ignored"}


@pytest.fixture
async def guarded(tmp_path: Path, aimock: Aimock, llmock: LLMock) -> AsyncIterator[Gateway]:
    """A gateway with breakers, as they are by default."""
    async with running_gateway(tmp_path / "state", target_breaker=True) as gateway:
        credential = {"aimock": AIMOCK_KEY, "llmock": ""}
        for name, judge in (("aimock", aimock), ("llmock", llmock)):
            provider = Provider(provider_type="vllm", base_url=judge.base_url, credential=credential[name])
            await add_provider(gateway, name, provider)
        await aimock.reset()
        await llmock.reset()
        yield gateway


async def test_a_judge_that_keeps_failing_is_left_alone_until_it_serves(
    guarded: Gateway, aimock: Aimock, llmock: LLMock
) -> None:
    route = await add_route(guarded, "aimock", "llmock", retry_policy=short_waits(4))
    await aimock.misbehave(dropRate=1)
    caller = Caller(guarded.client, streams=True)

    outcomes = [await caller.call(model=route) for _ in range(20)]

    assert all(each.answer is not None for each in outcomes)
    assert len(await aimock.requests()) == 5
    assert len(await llmock.requests()) == 20
    assert await attempts_of(guarded, outcomes[-1].end_user_id) == [("llmock", "")]
    assert await state_of(guarded, route) == BreakerState.BREAKER_STATE_OPEN

    await aimock.reset()
    await aimock.answer({"content": TEXT})
    async with asyncio.timeout(5):
        while (await served_by(caller, route)) != "providers/aimock":
            await asyncio.sleep(0.1)
    assert await state_of(guarded, route) == BreakerState.BREAKER_STATE_CLOSED


async def served_by(caller: Caller, route: str) -> str:
    """Who answers a call; every call is answered."""
    outcome = await caller.call(model=route)
    assert outcome.answer is not None, outcome.failure
    return outcome.answer.served_by.provider


async def state_of(gateway: Gateway, route: str) -> BreakerState.ValueType:
    """What the gateway tells of the first target of a route."""
    model = (await gateway.client.admin.routes.get(f"routes/{route}")).targets[0].model
    states = await gateway.client.admin.routes.list_target_states()
    [state] = [each.breaker_state for each in states if each.model == model]
    return state
