"""Persons and places in guardrails, as callers and operators see them, with a real spaCy pipeline."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from aigateway import AsyncClient, InvalidRequestError
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GatewayOptions, GuardrailAction, GuardrailStage
from gateway_server.guardrails.ner.pool import EntityPool
from tests.gateway.callers import Caller, CallUnderWay
from tests.gateway.test_guardrails import (
    BOTH,
    LAW,
    answers_of,
    compare,
    echoing,
    key_with,
    text_of,
    told,
    watched_lags,
)
from tests.support.gateway import Gateway, running_gateway
from tests.support.text_models import WordModels
from tests.support.upstream import Exchange, Upstream, chunk, talking, text_chunk, usage_chunk
from tests.support.wire import to_sse

LOG, REDACT, BLOCK = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_REDACT,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
)
KINDS = ["PERSON", "LOCATION", "EMAIL_ADDRESS"]


def names(
    action: GuardrailAction.ValueType = REDACT, *, fail_open: bool = False, seconds: int = 50, **fields: Any
) -> GuardrailRule:
    detector = PiiDetector(entity_types=KINDS, **fields)
    timeout = Duration(seconds=seconds)  # long, since the machines of tests are shared
    return GuardrailRule(rule_id="names", action=action, fail_open=fail_open, timeout=timeout, pii=detector)


@pytest.fixture(scope="module")
async def pools() -> list[EntityPool]:
    """The pools of the gateways that have started."""
    return []


@pytest.fixture(scope="module")
async def guarded(
    shared_upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
    rule_model: str,
    pools: list[EntityPool],
) -> AsyncIterator[Gateway]:
    def new_pool(name: str, *, processes: int) -> EntityPool:
        pools.append(EntityPool(name, processes=processes))
        return pools[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_server.app.load_models", WordModels)
        patch.setattr("gateway_server.app.EntityPool", new_pool)
        async with running_gateway(
            tmp_path_factory.mktemp("names") / "state",
            vllm_base_url=shared_upstream.base_url,
            ner_model=rule_model,
        ) as gateway:
            yield gateway
    assert not any(pool._workers for pool in pools)


@BOTH
async def test_persons_and_places_are_masked_both_ways(
    guarded: Gateway, upstream: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing("Ask Alan Turing (al@acme.io) in Paris. Or Dr. Grace Hopper")
    profile = GuardrailProfile(input_rules=[names()], output_rules=[names(allowed_values=["Grace Hopper"])])
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=streams).call("I am Ada Lovelace of Berlin, at Acme")
    assert outcome.answer is not None
    sent = (await upstream.next()).json["messages"][-1]["content"]
    assert sent == "I am [PERSON_REDACTED] of [LOCATION_REDACTED], at Acme"
    answered = "Ask [PERSON_REDACTED] ([EMAIL_REDACTED]) in [LOCATION_REDACTED]. Or Dr. Grace Hopper"
    assert text_of(outcome.answer) == answered
    assert told(outcome.answer.guardrail_results) == [
        ("names", "REDACT", {"PERSON": 1, "LOCATION": 1}),
        ("names", "REDACT", {"PERSON": 1, "LOCATION": 1, "EMAIL_ADDRESS": 1}),
    ]


@BOTH
async def test_masked_names_come_back_in_the_answer(
    guarded: Gateway, upstream: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing()
    profile = GuardrailProfile(input_rules=[names()], output_rules=[names()], reversible_redaction=True)
    asked = "Ada Lovelace met Alan Turing, al@acme.io. Ada Lovelace left Berlin."
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=streams).call(asked)
    assert outcome.answer is not None
    sent = (await upstream.next()).json["messages"][-1]["content"]
    assert sent == "[PERSON_1] met [PERSON_2], [EMAIL_1]. [PERSON_1] left [LOCATION_1]."
    assert text_of(outcome.answer) == asked


@BOTH
async def test_a_name_can_stop_a_request_and_an_answer(
    guarded: Gateway, upstream: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing("All is well. Ask Alan Turing. More")
    profile = GuardrailProfile(input_rules=[names(BLOCK)], output_rules=[names(BLOCK)])
    async with await key_with(guarded, profile) as client:
        caller = Caller(client, streams=streams)
        stopped = await caller.call("I am Ada Lovelace")
        outcome = await caller.call("who?")
    assert stopped.failure is not None
    assert stopped.failure.metadata["findings"] == "PERSON=1"
    assert outcome.answer is not None
    assert text_of(outcome.answer) == "All is well. Ask "


async def test_a_rule_that_logs_names_holds_nothing_of_a_stream(guarded: Gateway, upstream: Upstream) -> None:
    said, go_on = "Alan Turing and Ada", asyncio.Event()

    async def then(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(to_sse([text_chunk(" Lovelace"), chunk(finish_reason="stop"), usage_chunk()]))
        await exchange.finish()

    upstream.script = talking(said, then=then)
    async with await key_with(guarded, GuardrailProfile(output_rules=[names(LOG)])) as client:
        call = CallUnderWay(client, streams=True)
        await call.read_until(said)
        go_on.set()
        answer = await call.read_to_end()
    assert text_of(answer) == "Alan Turing and Ada Lovelace"
    assert told(answer.guardrail_results) == [("names", "LOG", {"PERSON": 2})]


async def test_a_profile_is_tried_out_with_names(guarded: Gateway) -> None:
    profiles = guarded.client.admin.guardrail_profiles
    made = await profiles.create(GuardrailProfile(input_rules=[names()], output_rules=[names()]))
    for stage in (GuardrailStage.GUARDRAIL_STAGE_INPUT, GuardrailStage.GUARDRAIL_STAGE_OUTPUT):
        tried = await profiles.test(made.name, "by Ada Lovelace", stage=stage)
        assert tried.text == "by [PERSON_REDACTED]"
        assert told(tried.results) == [("names", "REDACT", {"PERSON": 1})]


@BOTH
async def test_a_killed_process_breaks_no_call(
    guarded: Gateway, upstream: Upstream, pools: list[EntityPool], *, streams: bool
) -> None:
    upstream.script = echoing("Ask Alan Turing")
    async with await key_with(guarded, GuardrailProfile(output_rules=[names()])) as client:
        for index in range(2):
            for worker in list(pools[-1]._workers):
                os.kill(worker._process.pid or 0, signal.SIGKILL)
            upstream.script = echoing(f"Ask Alan Turing {streams} {index}")
            outcome = await Caller(client, streams=streams).call(timeout=50)
            assert outcome.answer is not None
            assert text_of(outcome.answer) == f"Ask [PERSON_REDACTED] {streams} {index}"


@BOTH
@pytest.mark.parametrize("fail_open", [True, False])
async def test_a_process_that_hangs_follows_the_policy_and_the_next_call_has_another(
    guarded: Gateway,
    upstream: Upstream,
    pools: list[EntityPool],
    monkeypatch: pytest.MonkeyPatch,
    *,
    fail_open: bool,
    streams: bool,
) -> None:
    monkeypatch.setattr("gateway_server.guardrails.ner.pool._HANG_SECONDS", 0.5)
    said = f"Ask Alan Turing of {fail_open} {streams}"
    upstream.script = echoing(said)
    hasty = GuardrailProfile(output_rules=[names(fail_open=fail_open, seconds=1)])
    patient = GuardrailProfile(output_rules=[names()])
    async with await key_with(guarded, hasty) as client, await key_with(guarded, patient) as other:
        for worker in list(pools[-1]._workers):
            os.kill(worker._process.pid or 0, signal.SIGSTOP)
        async with watched_lags() as lags:
            outcome = await Caller(client, streams=streams).call()
        assert len(lags) > 50  # of some hundred in the second that the call waited
        record = await guarded.ledger.wait_one(outcome.end_user_id)
        assert told(record.guardrail_results) == [("names", "ERROR", {})]
        if fail_open:
            assert outcome.answer is not None
            assert text_of(outcome.answer) == said
        else:
            assert outcome.failure is not None
            assert outcome.failure.reason == "GUARDRAIL_FAILED"
            assert outcome.failure.metadata["cause"] == "timeout"
            assert "Turing" not in "".join(event.part_delta.text for event in outcome.events)
        later = await Caller(other, streams=streams).call(timeout=50)
    assert later.answer is not None
    assert text_of(later.answer) == said.replace("Alan Turing", "[PERSON_REDACTED]")


texts = st.lists(
    st.sampled_from(
        [
            "Ada Lovelace",
            "Alan Turing. ",
            "John F. Kennedy ",
            "Berlin",
            "\n",
            ". ",
            "word ",
            "jo@acme.io",
            "[PERSON_1] ",
            "x" * 200,
        ]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
async def masking(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    profile = GuardrailProfile(input_rules=[names()], output_rules=[names()], reversible_redaction=True)
    async with await key_with(guarded, profile) as client:
        yield client


@pytest.fixture(scope="module")
async def blocking(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    mails = GuardrailRule(rule_id="mails", action=REDACT, pii=PiiDetector(entity_types=["EMAIL_ADDRESS"]))
    async with await key_with(guarded, GuardrailProfile(output_rules=[mails, names(BLOCK)])) as client:
        yield client


@given(case=answers_of(texts, {"Ada Lovelace": [1, "Berlin"]}))
@LAW
async def test_a_stream_with_names_folds_into_the_unary_answer(
    masking: AsyncClient,
    blocking: AsyncClient,
    upstream: Upstream,
    case: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    answer = await compare(masking, upstream, case)
    json.loads(answer.choices[0].message.parts[-1].tool_call.arguments)
    await compare(blocking, upstream, case)


async def test_a_gateway_without_the_model_refuses_profiles_and_follows_the_policy_of_those_there_are(
    shared_upstream: Upstream, upstream: Upstream, tmp_path: Path, rule_model: str
) -> None:
    """As when another gateway on the same store has it."""
    profiles: list[GuardrailProfile] = []
    async with running_gateway(
        tmp_path / "state", vllm_base_url=shared_upstream.base_url, ner_model=rule_model
    ) as gateway:
        for fail_open in (False, True):
            profile = GuardrailProfile(input_rules=[names(fail_open=fail_open)])
            profiles.append(await gateway.client.admin.guardrail_profiles.create(profile))
    async with running_gateway(
        tmp_path / "state", vllm_base_url=shared_upstream.base_url, ner_model="en_x"
    ) as gateway:
        upstream.script = echoing("fine")
        for fail_open, profile in zip((False, True), profiles, strict=True):
            outcome = await Caller(gateway.client, streams=False).call(
                "Ada Lovelace", gateway_options=GatewayOptions(guardrail_profiles=[profile.name])
            )
            record = await gateway.ledger.wait_one(outcome.end_user_id)
            assert told(record.guardrail_results) == [("names", "ERROR", {})]
            assert (outcome.failure is None) is fail_open
        with pytest.raises(InvalidRequestError) as caught:
            await gateway.client.admin.guardrail_profiles.create(GuardrailProfile(output_rules=[names()]))
    assert "guardrail_profile.output_rules[0].pii.entity_types" in str(caught.value.violations)
    assert "python -m spacy download en_x" in str(caught.value.violations)
