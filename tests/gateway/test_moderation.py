"""Rules that ask a provider's moderation model, as callers, operators and that provider see them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from aigateway import AsyncClient, InvalidRequestError
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailProfile,
    GuardrailRule,
    ModerationDetector,
    PatternDetector,
    PiiDetector,
)
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.routing_pb2 import GuardrailAction, GuardrailStage
from tests.gateway.callers import Caller, CallUnderWay
from tests.gateway.test_guardrails import (
    BOTH,
    LAW,
    answers_of,
    compare,
    echoing,
    key_with,
    new_id,
    text_of,
    told,
)
from tests.support.gateway import Gateway, free_port, running_gateway
from tests.support.moderation import KEY, answering, judge, verdict
from tests.support.upstream import (
    Exchange,
    Script,
    Upstream,
    chunk,
    completion,
    running_upstream,
    send_body,
    send_json,
    silent,
    text_chunk,
    usage_chunk,
)

LOG, BLOCK, ERROR = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
    GuardrailAction.GUARDRAIL_ACTION_ERROR,
)
MODEL = "omni-moderation-latest"
METRICS_PORT = free_port()


@pytest.fixture(scope="module")
async def shared_judge() -> AsyncIterator[Upstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest.fixture
async def moderation(shared_judge: Upstream) -> Upstream:
    """The provider that judges."""
    shared_judge.reset()
    shared_judge.script = judge
    return shared_judge


@pytest.fixture(scope="module")
async def guarded(
    shared_upstream: Upstream, shared_judge: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    async with running_gateway(
        tmp_path_factory.mktemp("moderation") / "state",
        vllm_base_url=shared_upstream.base_url,
        metrics_listen=f"127.0.0.1:{METRICS_PORT}",
    ) as gateway:
        await add_provider(gateway, shared_judge, "judge")
        yield gateway
    assert shared_judge.open == 0, "the gateway left connections open"


async def add_provider(
    gateway: Gateway, upstream: Upstream, provider_id: str, provider_type: str = "openai"
) -> Provider:
    provider = Provider(provider_type=provider_type, base_url=upstream.base_url, credential=KEY)
    return await gateway.client.admin.providers.create(provider, provider_id=provider_id)


def asking(
    action: GuardrailAction.ValueType = BLOCK,
    *,
    provider: str = "providers/judge",
    fail_open: bool = False,
    seconds: float = 50,  # long, since the machines of tests are shared
    **min_scores: float,
) -> GuardrailRule:
    timeout = Duration()
    timeout.FromNanoseconds(round(seconds * 1e9))
    detector = ModerationDetector(provider=provider, provider_model=MODEL, min_scores=min_scores)
    return GuardrailRule(
        rule_id="harm", action=action, fail_open=fail_open, timeout=timeout, moderation=detector
    )


def profile_with(rule: GuardrailRule, side: str) -> GuardrailProfile:
    return GuardrailProfile(input_rules=[rule]) if side == "input" else GuardrailProfile(output_rules=[rule])


def turn(role: Role.ValueType, text: str) -> Message:
    return Message(role=role, parts=[ContentPart(text=TextPart(text=text))])


@BOTH
async def test_input_that_the_provider_flags_is_stopped(
    guarded: Gateway, upstream: Upstream, moderation: Upstream, *, streams: bool
) -> None:
    async with await key_with(guarded, GuardrailProfile(input_rules=[asking()])) as client:
        stopped = await Caller(client, streams=streams).call("Tell of VIOLENCE")
        assert upstream.exchanges == []
        passed = await Caller(client, streams=streams).call("Tell of MILD things")
    assert stopped.failure is not None
    assert (stopped.failure.reason, stopped.failure.metadata["findings"]) == (
        "GUARDRAIL_BLOCKED",
        "violence=1",
    )
    assert passed.answer is not None
    [result] = passed.answer.guardrail_results
    assert (told([result]), result.score) == ([("harm", "PASS", {})], 0.3)
    asked = moderation.exchanges[0]
    assert asked.json == {"model": MODEL, "input": ["Tell of VIOLENCE"]}
    assert f"authorization: Bearer {KEY}".encode() in asked.head


@BOTH
async def test_an_answer_ends_before_the_sentence_that_the_provider_flags(
    guarded: Gateway, upstream: Upstream, moderation: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing("All is well. Here comes VIOLENCE. And more.")
    async with await key_with(guarded, GuardrailProfile(output_rules=[asking()])) as client:
        outcome = await Caller(client, streams=streams).call()
    assert outcome.answer is not None
    assert text_of(outcome.answer) == "All is well."
    assert told(outcome.answer.guardrail_results) == [("harm", "BLOCK", {"violence": 1})]
    assert "VIOLENCE" not in outcome.text


@BOTH
async def test_what_is_logged_has_a_score_by_the_rules_own_thresholds(
    guarded: Gateway, upstream: Upstream, moderation: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing("All is well. Here comes MILD. And more.")
    profile = GuardrailProfile(
        input_rules=[asking(LOG, hate=0.001)], output_rules=[asking(LOG, violence=0.25)]
    )
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=streams).call("VIOLENCE")
    assert outcome.answer is not None
    assert text_of(outcome.answer) == "All is well. Here comes MILD. And more."
    one, other = outcome.answer.guardrail_results
    # The sentence after it is judged with it before it.
    assert told([one, other]) == [("harm", "LOG", {"hate": 1}), ("harm", "LOG", {"violence": 2})]
    assert (one.score, other.score) == (0.002, 0.3)
    assert other.latency.ToNanoseconds() > 0


async def test_the_texts_of_a_look_go_in_one_request(
    guarded: Gateway, upstream: Upstream, moderation: Upstream
) -> None:
    arguments = json.dumps({"to": "Ada", "lines": ["one", "two"]})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    content = "".join(f"Sentence {number}. " for number in range(20))
    message = {"role": "assistant", "content": content, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    upstream.script = answering({**completion(), "choices": [choice]})
    async with await key_with(guarded, GuardrailProfile(output_rules=[asking()])) as client:
        outcome = await Caller(client, streams=False).call()
    assert outcome.answer is not None
    assert told(outcome.answer.guardrail_results) == [("harm", "PASS", {})]
    [asked] = moderation.exchanges
    texts = asked.json["input"]
    assert texts[:2] == ["Sentence 0.", "Sentence 0. Sentence 1."]
    assert texts[20:] == ["f", "to", "Ada", "lines", "one", "two"]


async def test_many_texts_and_long_ones_go_in_several_requests(
    guarded: Gateway, upstream: Upstream, moderation: Upstream
) -> None:
    turns = [turn(Role.ROLE_USER, f"turn {number}") for number in range(70)]
    async with await key_with(guarded, GuardrailProfile(input_rules=[asking()])) as client:
        caller = Caller(client, streams=False)
        assert (await caller.call(messages=turns)).failure is None
        assert [len(each.json["input"]) for each in moderation.exchanges] == [32, 32, 6]
        moderation.exchanges.clear()
        text = " ".join(f"ü{number}" for number in range(30_000)) + " VIOLENCE"
        long = await caller.call(text)
    assert long.failure is not None
    assert long.failure.metadata["findings"] == "violence=1"
    inputs = [each.json["input"] for each in moderation.exchanges]
    assert all(sum(len(text.encode()) for text in texts) <= 100_000 for texts in inputs)
    windows = [text for texts in inputs for text in texts]
    assert sum(map(len, windows)) - 1_000 * (len(windows) - 1) == len(text), "they overlap"


async def test_a_rule_that_masks_comes_first_and_one_that_stops_spares_the_rest(
    guarded: Gateway, upstream: Upstream, moderation: Upstream
) -> None:
    masks = GuardrailRule(rule_id="pii", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=PiiDetector())
    words = GuardrailRule(rule_id="words", action=BLOCK, pattern=PatternDetector(words=["Ares"]))
    async with await key_with(guarded, GuardrailProfile(input_rules=[masks, asking(), words])) as client:
        outcome = await Caller(client, streams=False).call("VIOLENCE of jo@acme.io at Ares")
    assert outcome.failure is not None
    assert outcome.failure.metadata["rule"] == "harm"
    [asked] = moderation.exchanges
    assert asked.json["input"] == ["VIOLENCE of [EMAIL_REDACTED] at Ares"]


@pytest.mark.parametrize(
    "role", [Role.ROLE_USER, Role.ROLE_SYSTEM, Role.ROLE_DEVELOPER], ids=["user", "system", "developer"]
)
async def test_only_the_turns_that_the_rule_reads_leave_the_house(
    guarded: Gateway, upstream: Upstream, moderation: Upstream, role: Role.ValueType
) -> None:
    messages = [turn(role, "VIOLENCE"), turn(Role.ROLE_USER, "hello \u4e16")]
    async with await key_with(guarded, GuardrailProfile(input_rules=[asking(LOG)])) as client:
        outcome = await Caller(client, streams=False).call(messages=messages)
    assert outcome.failure is None
    [asked] = moderation.exchanges
    assert ("VIOLENCE" in asked.json["input"]) == (role == Role.ROLE_USER)


async def quoting(exchange: Exchange) -> None:
    """Fails with all that it was sent in its words."""
    words = exchange.head.decode("latin-1") + exchange.body.decode()
    error = {"message": words, "type": words, "code": KEY, "param": KEY}
    await send_json(exchange, {"error": error}, status=500)


async def garbage(exchange: Exchange) -> None:
    await send_body(exchange, b"<html>all is well</html>")


async def one_too_few(exchange: Exchange) -> None:
    await send_json(exchange, {"results": [verdict(text) for text in exchange.json["input"][1:]]})


async def reset(exchange: Exchange) -> None:
    exchange.reset()


FAULTS: dict[str, Script] = {
    "quotes": quoting,
    "refused": answering({"error": {"message": KEY, "code": "invalid_api_key"}}, status=401),
    "garbage": garbage,
    "one too few": one_too_few,
    "no categories": answering({"results": [{"flagged": False, "categories": {}, "category_scores": {}}]}),
    "others' categories": answering(
        {"results": [{"categories": {"S1": True}, "category_scores": {"S1": 1}}]}
    ),
    "no scores": answering({"results": [{"categories": {"hate": False}, "category_scores": {"hate": "x"}}]}),
    "error": answering({"error": {"message": "VIOLENCE", "code": "x"}}),
    "more than verdicts": answering({"results": [{**verdict("fine"), "why": "x" * 16_384}]}),
    "reset": reset,
    "hangs": silent,
}


@pytest.mark.parametrize("fail_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("side", ["input", "output"])
@BOTH
async def test_a_provider_that_fails_is_a_failed_check_and_never_a_pass(
    guarded: Gateway,
    upstream: Upstream,
    moderation: Upstream,
    caplog: pytest.LogCaptureFixture,
    *,
    streams: bool,
    side: str,
    fault: str,
    fail_open: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.script = echoing("Here comes VIOLENCE")
    moderation.script = FAULTS[fault]
    rule = asking(fail_open=fail_open, seconds=0.3 if fault == "hangs" else 50)
    async with await key_with(guarded, profile_with(rule, side)) as client:
        outcome = await Caller(client, streams=streams).call("Tell of VIOLENCE")
    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert told(record.guardrail_results) == [("harm", "ERROR", {})]
    if fail_open:
        assert outcome.answer is not None
        assert text_of(outcome.answer) == "Here comes VIOLENCE"
    else:
        assert outcome.failure is not None
        assert outcome.failure.reason == "GUARDRAIL_FAILED"
        assert outcome.failure.metadata["cause"] == ("timeout" if fault == "hangs" else "error")
        assert outcome.text == ""
        for secret in (KEY, "VIOLENCE"):
            assert secret not in repr(outcome.failure)
    ours = "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("gateway_server"))
    if fault == "quotes":
        assert "rule harm of" in ours
        assert "failed: UPSTREAM_UNAVAILABLE 500" in ours
    assert KEY not in ours
    assert "VIOLENCE" not in ours
    await moderation.settled()


@pytest.mark.parametrize(
    ("flagged", "flags", "min_scores", "why"),
    [
        (True, {"illicit_drugs": True}, {}, "the provider flags something that is none of the categories"),
        (True, {}, {}, "the provider flags something that is none of the categories"),
        (None, {"illicit_drugs": True}, {}, "the provider flags something that is none of the categories"),
        (False, {}, {"illicit": 0.5, "hate": 0.5, "sexual": 0.5}, "no scores for illicit, sexual"),
        (True, {"hate": True}, {"illicit": 0.5, "hate": 0.001}, "no scores for illicit"),
        (False, {"illicit_drugs": True}, {}, ""),
        (False, {}, {}, ""),
        (True, {"illicit_drugs": True}, {"hate": 0.5}, ""),
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
@BOTH
async def test_what_was_not_judged_has_not_passed(
    guarded: Gateway,
    upstream: Upstream,
    moderation: Upstream,
    caplog: pytest.LogCaptureFixture,
    *,
    streams: bool,
    side: str,
    flagged: bool | None,
    flags: dict[str, bool],
    min_scores: dict[str, float],
    why: str,
) -> None:
    upstream.script = echoing("All is well")
    judged = {"categories": {"hate": False, "illicit": None, **flags}, "category_scores": {"hate": 0.002}}
    moderation.script = answering({"results": [{"flagged": flagged, **judged}]})
    rule = asking(fail_open=True)
    rule.moderation.min_scores.update(min_scores)
    async with await key_with(guarded, profile_with(rule, side)) as client:
        outcome = await Caller(client, streams=streams).call()
    assert outcome.answer is not None
    assert told(outcome.answer.guardrail_results) == [("harm", "ERROR" if why else "PASS", {})]
    ours = "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("gateway_server"))
    assert ("rule harm of" in ours) == bool(why)
    assert why in ours


async def test_what_a_stream_has_let_go_before_the_provider_fails_stays(
    guarded: Gateway, upstream: Upstream, moderation: Upstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await (answering({}, status=503) if "Two." in str(exchange.json["input"]) else judge)(exchange)

    moderation.script = script
    async with await key_with(guarded, GuardrailProfile(output_rules=[asking()])) as client:
        upstream.script = echoing_slowly(moderation, ["One. ", "Two. ", "Three"])
        outcome = await Caller(client, streams=True).call()
    assert outcome.failure is not None
    assert outcome.failure.reason == "GUARDRAIL_FAILED"
    assert outcome.text == "One."


def echoing_slowly(moderation: Upstream, texts: list[str]) -> Script:
    """A provider that says the next text once the one before has been judged, so that each is a look."""

    async def script(exchange: Exchange) -> None:
        await exchange.head_of()
        for text in texts:
            await exchange.events(text_chunk(text))
            async with asyncio.timeout(10):
                while not moderation.exchanges:
                    await asyncio.sleep(0.002)
                await moderation.settled()
        await exchange.events(chunk(finish_reason="stop"), usage_chunk())
        await exchange.gone()

    return script


@pytest.mark.parametrize("side", ["input", "output"])
@BOTH
async def test_who_leaves_ends_the_request_to_the_provider_too(
    guarded: Gateway, upstream: Upstream, moderation: Upstream, *, streams: bool, side: str
) -> None:
    moderation.script = silent
    upstream.script = echoing("All is well. And so on.")
    async with await key_with(guarded, profile_with(asking(), side)) as client:
        call = CallUnderWay(client, streams=streams)
        asked = await moderation.next()
        call.rpc.cancel()
        async with asyncio.timeout(10):
            await asked.gone()


async def test_checks_that_wait_hold_up_no_other_and_need_no_thread(
    guarded: Gateway, upstream: Upstream, moderation: Upstream
) -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go_on.wait()
        await judge(exchange)

    moderation.script = script
    async with (
        await key_with(guarded, GuardrailProfile(input_rules=[asking()])) as client,
        await key_with(guarded, GuardrailProfile()) as other,
    ):
        waiting = [asyncio.create_task(Caller(client, streams=False).call()) for _ in range(40)]
        for _ in waiting:
            await moderation.next()  # all of them at once
        assert (await Caller(other, streams=False).call()).failure is None
        go_on.set()
        outcomes = await asyncio.gather(*waiting)
    assert [outcome.failure for outcome in outcomes] == [None] * 40


@pytest.mark.parametrize("gone", ["deleted", "disabled"])
async def test_a_provider_that_has_gone_since_is_a_failed_check(
    guarded: Gateway, upstream: Upstream, moderation: Upstream, gone: str
) -> None:
    provider = await add_provider(guarded, moderation, new_id(), "openai_compatible")
    profile = GuardrailProfile(input_rules=[asking(provider=provider.name)])
    admin = guarded.client.admin.providers
    async with await key_with(guarded, profile) as client:
        assert (await Caller(client, streams=False).call()).failure is None
        assert len(moderation.exchanges) == 1
        if gone == "deleted":
            await admin.delete(provider.name)
        else:
            await admin.update(Provider(name=provider.name, disabled=True), update_mask=["disabled"])
        outcome = await Caller(client, streams=False).call()
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.metadata["cause"]) == ("GUARDRAIL_FAILED", "error")
    assert len(moderation.exchanges) == 1


@pytest.mark.parametrize(
    ("detector", "field", "why"),
    [
        ({"provider": "providers/none", "provider_model": "m"}, "provider", "does not exist"),
        ({"provider": "none", "provider_model": "m"}, "provider", "providers/{provider}"),
        ({"provider": "providers/judge"}, "provider_model", "is required"),
        ({"provider_model": "m"}, "provider_model", "without a provider"),
        ({"provider": "providers/vllm", "provider_model": "m"}, "provider", "type vllm"),
        ({"provider": "providers/azure", "provider_model": "m"}, "provider", "type azure_openai"),
        ({"provider": "providers/claude", "provider_model": "m"}, "provider", "type anthropic"),
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
async def test_a_provider_that_judges_nothing_is_refused_when_a_profile_is_written(
    guarded: Gateway, moderation: Upstream, detector: dict[str, Any], field: str, why: str, side: str
) -> None:
    types = {"providers/azure": "azure_openai", "providers/claude": "anthropic"}
    name = detector.get("provider", "")
    if name in types and name not in {each.name async for each in guarded.client.admin.providers.list()}:
        await add_provider(guarded, moderation, name.partition("/")[2], types[name])
    harm = GuardrailRule(rule_id="harm", action=BLOCK, moderation=ModerationDetector(**detector))
    with pytest.raises(InvalidRequestError) as caught:
        await guarded.client.admin.guardrail_profiles.create(profile_with(harm, side))
    [violation] = caught.value.violations
    assert violation.field == f"guardrail_profile.{side}_rules[0].moderation.{field}"
    assert why in violation.description


async def test_a_profile_that_asks_is_tried_on_a_text(guarded: Gateway, moderation: Upstream) -> None:
    admin = guarded.client.admin.guardrail_profiles
    profile = GuardrailProfile(input_rules=[asking()], output_rules=[asking(LOG)])
    made = await admin.create(profile)
    stopped = await admin.test(made.name, "VIOLENCE")
    assert stopped.blocked
    passed = await admin.test(made.name, "Well. VIOLENCE.", stage=GuardrailStage.GUARDRAIL_STAGE_OUTPUT)
    assert (passed.blocked, passed.text) == (False, "Well. VIOLENCE.")
    assert told([*stopped.results, *passed.results]) == [
        ("harm", "BLOCK", {"violence": 1}),
        ("harm", "LOG", {"violence": 1}),
    ]
    assert [each.json["input"] for each in moderation.exchanges] == [
        ["VIOLENCE"],
        ["Well.", "Well. VIOLENCE."],
    ]


async def test_requests_and_their_failures_are_counted(guarded: Gateway, moderation: Upstream) -> None:
    provider = await add_provider(guarded, moderation, new_id())
    admin = guarded.client.admin.guardrail_profiles
    made = await admin.create(GuardrailProfile(input_rules=[asking(provider=provider.name, fail_open=True)]))
    await admin.test(made.name, "one")
    moderation.script = answering({}, status=500)
    await admin.test(made.name, "two")
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{METRICS_PORT}/metrics")).text
    counter = f'aigateway_guardrail_moderation_requests_total{{outcome="%s",provider="{provider.name}"}} 1.0'
    assert counter % "ok" in text
    assert counter % "upstream_unavailable" in text


texts = st.lists(
    st.sampled_from(["VIOLENCE", "MILD", ". ", "\n", "? ", "word ", "\\n", '"', "{", "x" * 250])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    max_size=10,
).map("".join)


@pytest.fixture(scope="module")
async def blocking(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    mails = GuardrailRule(rule_id="pii", action=LOG, pii=PiiDetector())
    async with await key_with(guarded, GuardrailProfile(output_rules=[mails, asking()])) as client:
        yield client


@pytest.fixture(scope="module")
async def logging_only(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    async with await key_with(guarded, GuardrailProfile(output_rules=[asking(LOG, violence=0.2)])) as client:
        yield client


@given(case=answers_of(texts, {"MILD": [1, "word"]}), most_inline=st.sampled_from([0, 4_096]))
@LAW
async def test_a_stream_folds_into_the_unary_answer(
    blocking: AsyncClient,
    logging_only: AsyncClient,
    upstream: Upstream,
    moderation: Upstream,
    case: tuple[dict[str, Any], list[dict[str, Any]]],
    most_inline: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_server.pipeline.guarding._INLINE_CHARACTERS", most_inline)
        for client in (blocking, logging_only):
            answer = await compare(client, upstream, case)
            assert ERROR not in [result.action for result in answer.guardrail_results]
