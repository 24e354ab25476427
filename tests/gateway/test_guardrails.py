"""Guardrails as callers, operators and providers see them, over sockets."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigateway import AsyncClient
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    FinishReason,
    FunctionTool,
    GenerationConfig,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseFormat,
    Tool,
)
from aigateway.v1.content_pb2 import (
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailPart,
    GuardrailProfile,
    GuardrailRule,
    JailbreakDetector,
    ModerationDetector,
    PatternDetector,
    PiiDetector,
    PromptInjectionDetector,
)
from aigateway.v1.route_pb2 import RetryPolicy, Route, RouteTarget
from aigateway.v1.routing_pb2 import GatewayOptions, GuardrailAction, GuardrailResult
from gateway_server.guardrails.first_profiles import first_profiles
from gateway_server.guardrails.pii import PiiScanner
from gateway_server.pipeline.guarding import _Lane
from tests.gateway.callers import Caller, CallUnderWay
from tests.support.gateway import Gateway, client_of, free_port, new_user, running_gateway
from tests.support.text_models import WordModels
from tests.support.upstream import (
    MODEL,
    Exchange,
    Upstream,
    chunk,
    completion,
    send_json,
    send_stream,
    talking,
    text_chunk,
    usage_chunk,
)
from tests.support.wire import to_sse

LOG, REDACT, BLOCK, ERROR = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_REDACT,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
    GuardrailAction.GUARDRAIL_ACTION_ERROR,
)
DEFAULT = "guardrailProfiles/default"
SECRET = "219-16-9994"
METRICS_PORT = free_port()

BOTH = pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])


def rule(rule_id: str, action: GuardrailAction.ValueType, **fields: Any) -> GuardrailRule:
    return GuardrailRule(rule_id=rule_id, action=action, **fields)


def pii(action: GuardrailAction.ValueType = REDACT, **fields: Any) -> GuardrailRule:
    return rule("pii", action, pii=PiiDetector(**fields))


@pytest.fixture(scope="module")
async def guarded(
    shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """A gateway whose models judge by words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_server.app.load_models", WordModels)
        async with running_gateway(
            tmp_path_factory.mktemp("guarded") / "state",
            vllm_base_url=shared_upstream.base_url,
            metrics_listen=f"127.0.0.1:{METRICS_PORT}",
        ) as gateway:
            default = first_profiles()["default"]
            default.name = DEFAULT
            await gateway.client.admin.guardrail_profiles.update(default)
            yield gateway


@pytest.fixture
async def client(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    """A client of a key of its own under the default profile."""
    made = await guarded.client.admin.api_keys.create("tenants/default", ApiKey(), api_key_id=new_id())
    async with client_of(guarded.address, made.secret) as client:
        yield client


def new_id() -> str:
    return f"k{new_user()[:20]}"


async def key_with(guarded: Gateway, profile: GuardrailProfile) -> AsyncClient:
    """A client of a key with a profile of its own."""
    made = await guarded.client.admin.guardrail_profiles.create(profile, guardrail_profile_id=new_id())
    key = ApiKey(guardrail_profile_override=made.name)
    api_key = await guarded.client.admin.api_keys.create("tenants/default", key, api_key_id=new_id())
    return client_of(guarded.address, api_key.secret)


def told(results: Any) -> list[tuple[str, str, dict[str, int]]]:
    return [
        (each.rule, GuardrailAction.Name(each.action).rpartition("_")[2], dict(each.findings))
        for each in results
    ]


def text_of(answer: ChatCompletion) -> str:
    return "".join(part.text.text for part in answer.choices[0].message.parts)


def echoing(answer: str = "") -> Any:
    """A provider that answers with a text, or with what it was sent last."""

    async def script(exchange: Exchange) -> None:
        content = answer or exchange.json["messages"][-1]["content"]
        if exchange.streams:
            pieces = [text_chunk(character) for character in content]
            await send_stream(exchange, [*pieces, chunk(finish_reason="stop"), usage_chunk()])
        else:
            await send_json(exchange, completion(content))

    return script


@BOTH
async def test_personal_data_is_masked_both_ways_by_default(
    guarded: Gateway, client: AsyncClient, upstream: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing("Ask jo@acme.io or call +1 415 555 2671.")
    outcome = await Caller(client, streams=streams).call(f"My SSN is {SECRET}")

    assert outcome.failure is None
    assert outcome.answer is not None
    sent = (await upstream.next()).json["messages"][-1]["content"]
    assert sent == "My SSN is [SSN_REDACTED]"
    assert text_of(outcome.answer) == "Ask [EMAIL_REDACTED] or call [PHONE_REDACTED]."
    results = told(outcome.answer.guardrail_results)
    assert ("pii", "REDACT", {"US_SSN": 1}) in results
    assert ("pii", "REDACT", {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1}) in results
    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert told(record.guardrail_results) == [each for each in results if each[1] != "PASS"]
    assert all(each.guardrail_profile == DEFAULT for each in outcome.answer.guardrail_results)
    async with httpx.AsyncClient(trust_env=False) as browser:
        metrics = (await browser.get(f"http://127.0.0.1:{METRICS_PORT}/metrics")).text
    labels = f'guardrail_profile="{DEFAULT}",kind="US_SSN",rule="pii"'
    assert f"aigateway_guardrail_findings_total{{{labels}}}" in metrics
    assert SECRET not in metrics


async def test_every_text_of_a_request_is_masked_and_json_stays_json(
    client: AsyncClient, upstream: Upstream
) -> None:
    said = TextPart(text=f"SSN {SECRET}")
    tool = Tool(
        function=FunctionTool(
            function_name="f",
            description=f"for SSN {SECRET}",
            parameters_json_schema=json.dumps({"type": "object", "description": f"SSN {SECRET}"}),
        )
    )
    arguments = json.dumps({"ssn": SECRET, "n": 1})
    call = ToolCallPart(tool_call_id="c", tool_name="f", arguments=arguments)
    result = ToolResultPart(tool_call_id="c", parts=[ContentPart(text=said)])
    messages = [
        Message(role=Role.ROLE_SYSTEM, parts=[ContentPart(text=said)]),
        Message(role=Role.ROLE_USER, parts=[ContentPart(text=said)]),
        Message(role=Role.ROLE_ASSISTANT, parts=[ContentPart(text=said), ContentPart(tool_call=call)]),
        Message(role=Role.ROLE_TOOL, parts=[ContentPart(tool_result=result)]),
    ]
    outcome = await Caller(client, streams=False).call(messages=messages, tools=[tool])

    assert outcome.failure is None
    exchange = await upstream.next()
    assert SECRET not in exchange.body.decode()
    assert exchange.body.decode().count("[SSN_REDACTED]") == 7
    sent = exchange.json["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"ssn": "[SSN_REDACTED]", "n": 1}


@BOTH
@pytest.mark.parametrize("length", [1, 1_000], ids=["short", "long"])
async def test_what_a_provider_reports_is_read_too_and_off_the_event_loop_where_it_is_long(
    client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, length: int, *, streams: bool
) -> None:
    in_threads: list[object] = []
    run = _Lane.run

    async def noted(lane: _Lane, check: Any, limit: float) -> Any:
        in_threads.append(lane)
        return await run(lane, check, limit)

    async def script(exchange: Exchange) -> None:
        whole, last = completion("Yes."), chunk(finish_reason="stop")
        for answer in (whole, last):
            answer["choices"][0]["grounding"] = {"segments": [f"SSN {SECRET}"] * length}
        if exchange.streams:
            await send_stream(exchange, [text_chunk("Yes."), last, usage_chunk()])
        else:
            await send_json(exchange, whole)

    monkeypatch.setattr("gateway_server.pipeline.guarding._Lane.run", noted)
    upstream.script = script
    outcome = await Caller(client, streams=streams).call()

    assert outcome.answer is not None
    assert text_of(outcome.answer) == "Yes."
    assert SECRET not in str(outcome.answer)
    assert bool(in_threads) is (length > 1)


@BOTH
@pytest.mark.parametrize(
    "response_format",
    [
        ResponseFormat(json_object=JsonObjectFormat()),
        ResponseFormat(json_schema=JsonSchemaFormat(json_schema="{}")),
    ],
    ids=["object", "schema"],
)
async def test_a_structured_output_stays_json(
    client: AsyncClient, upstream: Upstream, response_format: ResponseFormat, *, streams: bool
) -> None:
    upstream.script = echoing('{"ssn": 219169994, "n": 1}')
    outcome = await Caller(client, streams=streams).call(response_format=response_format)

    assert outcome.answer is not None
    assert json.loads(text_of(outcome.answer)) == {"ssn": "[SSN_REDACTED]", "n": 1}


@BOTH
async def test_blocked_input_reaches_nobody_and_costs_nothing(
    guarded: Gateway, upstream: Upstream, *, streams: bool
) -> None:
    profile = GuardrailProfile(
        input_rules=[
            pii(LOG),
            rule("injection", BLOCK, prompt_injection=PromptInjectionDetector()),
        ]
    )
    client = await key_with(guarded, profile)
    async with client:
        outcome = await Caller(client, streams=streams).call(f"INJECTION {SECRET}")

    assert outcome.failure is not None
    assert (outcome.failure.code.name, outcome.failure.reason) == ("INVALID_ARGUMENT", "GUARDRAIL_BLOCKED")
    assert outcome.failure.metadata["rule"] == "injection"
    assert outcome.failure.metadata["findings"] == "prompt_injection=1"
    assert SECRET not in str(outcome.failure)
    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert (len(record.attempts), record.cost.total_nanos, record.usage.total_tokens) == (0, 0, 0)
    assert told(record.guardrail_results) == [
        ("pii", "LOG", {"US_SSN": 1}),
        ("injection", "BLOCK", {"prompt_injection": 1}),
    ]
    assert not upstream.exchanges


@BOTH
@pytest.mark.parametrize("blocks", [False, True], ids=["told", "blocked"])
async def test_a_part_that_no_rule_can_read_is_never_a_pass(
    guarded: Gateway, upstream: Upstream, *, streams: bool, blocks: bool
) -> None:
    upstream.script = echoing("fine")
    rules = [rule("jailbreak", BLOCK, jailbreak=JailbreakDetector()), pii(LOG)]
    for each in rules:
        each.parts.extend([GuardrailPart.GUARDRAIL_PART_TEXT, GuardrailPart.GUARDRAIL_PART_IMAGE])
    rules[1].block_unread_parts = blocks
    picture = ImagePart(source=MediaSource(inline_data=b"\x89PNG", mime_type="image/png"))
    parts = [ContentPart(text=TextPart(text=f"SSN {SECRET}")), ContentPart(image=picture)]
    async with await key_with(guarded, GuardrailProfile(input_rules=rules)) as client:
        outcome = await Caller(client, streams=streams).call(
            messages=[Message(role=Role.ROLE_USER, parts=parts)]
        )

    record = await guarded.ledger.wait_one(outcome.end_user_id)
    did = [("jailbreak", "SKIPPED", {}), ("pii", "BLOCK", {}) if blocks else ("pii", "LOG", {"US_SSN": 1})]
    assert told(record.guardrail_results) == did
    assert [dict(each.unread_parts) for each in record.guardrail_results] == [{"image": 1}] * 2
    profile = record.guardrail_results[0].guardrail_profile
    labels = f'guardrail_profile="{profile}",part="image",rule="pii"'
    async with httpx.AsyncClient() as browser:
        metrics = (await browser.get(f"http://127.0.0.1:{METRICS_PORT}/metrics")).text
    assert f"aigateway_guardrail_unread_parts_total{{{labels}}} 1.0" in metrics
    if blocks:
        assert outcome.failure is not None
        assert outcome.failure.code.name == "INVALID_ARGUMENT"
        assert outcome.failure.reason == "GUARDRAIL_BLOCKED"
        assert outcome.failure.metadata["unread_parts"] == "image=1"
        assert not upstream.exchanges
    else:
        assert outcome.answer is not None
        assert told(outcome.answer.guardrail_results) == did


async def test_the_rules_of_system_messages_and_of_retrieved_texts(
    guarded: Gateway, upstream: Upstream
) -> None:
    """An author's own orders are no injection; what a tool brought is read more strictly where asked."""

    def asked(role: Role.ValueType, part: ContentPart) -> list[Message]:
        user = Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text="hello"))])
        return [user, Message(role=role, parts=[part])]

    injection = ContentPart(text=TextPart(text="INJECTION"))
    strict = PromptInjectionDetector(min_score=1.0, strict_for_retrieved_content=True)
    result = ContentPart(tool_result=ToolResultPart(tool_call_id="c", parts=[injection]))
    document = DocumentPart(source=MediaSource(inline_text="INJECTION", mime_type="text/plain"))
    call = ContentPart(tool_call=ToolCallPart(tool_call_id="c", tool_name="f", arguments="{}"))

    async with await key_with(
        guarded, GuardrailProfile(input_rules=[rule("injection", BLOCK, prompt_injection=strict)])
    ) as client:
        caller = Caller(client, streams=False)
        passes = [asked(Role.ROLE_SYSTEM, injection), asked(Role.ROLE_USER, injection)]
        for messages in passes:
            assert (await caller.call(messages=messages)).failure is None
        stopped = [
            [*asked(Role.ROLE_ASSISTANT, call), Message(role=Role.ROLE_TOOL, parts=[result])],
            asked(Role.ROLE_USER, ContentPart(document=document)),
        ]
        for messages in stopped:
            failure = (await caller.call(messages=messages)).failure
            assert failure is not None
            assert failure.reason == "GUARDRAIL_BLOCKED"


async def test_a_request_adds_profiles_and_takes_none_away(
    guarded: Gateway, client: AsyncClient, upstream: Upstream
) -> None:
    made = await guarded.client.admin.guardrail_profiles.create(
        GuardrailProfile(
            input_rules=[rule("names", REDACT, pattern=PatternDetector(words=["Project Ares"]))]
        ),
        guardrail_profile_id=new_id(),
    )
    added = GatewayOptions(guardrail_profiles=[made.name])
    outcome = await Caller(client, streams=False).call(f"project ares, SSN {SECRET}", gateway_options=added)
    assert outcome.failure is None
    sent = (await upstream.next()).json["messages"][-1]["content"]
    assert sent == "[WORD_REDACTED], SSN [SSN_REDACTED]"

    unknown = GatewayOptions(guardrail_profiles=["guardrailProfiles/nobodys"])
    failure = (await Caller(client, streams=False).call(gateway_options=unknown)).failure
    assert failure is not None
    assert set(failure.violations) == {"gateway_options.guardrail_profiles[0]"}


async def test_an_edited_profile_holds_from_the_next_call(guarded: Gateway, upstream: Upstream) -> None:
    profiles = guarded.client.admin.guardrail_profiles
    profile_id = new_id()
    made = await profiles.create(GuardrailProfile(), guardrail_profile_id=profile_id)
    key = ApiKey(guardrail_profile_override=made.name)
    api_key = await guarded.client.admin.api_keys.create("tenants/default", key, api_key_id=new_id())
    async with client_of(guarded.address, api_key.secret) as client:
        caller = Caller(client, streams=False)
        assert (await caller.call(f"SSN {SECRET}")).failure is None
        assert SECRET in (await upstream.next()).body.decode()
        edited = GuardrailProfile(name=made.name, input_rules=[pii()])
        await profiles.update(edited, update_mask=["input_rules"])
        assert (await caller.call(f"SSN {SECRET}")).failure is None
        assert SECRET not in (await upstream.next()).body.decode()


@BOTH
async def test_a_blocked_answer_ends_before_the_sentence_and_is_billed(
    guarded: Gateway, upstream: Upstream, *, streams: bool
) -> None:
    profile = GuardrailProfile(output_rules=[rule("harm", BLOCK, moderation=ModerationDetector())])
    upstream.script = (
        talking("All is well. ", "Here is some VIOLENCE. ", "More")
        if streams
        else echoing("All is well. Here is some VIOLENCE. More")
    )
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=streams).call()

    assert outcome.failure is None
    assert outcome.answer is not None
    [choice] = outcome.answer.choices
    assert choice.finish.reason == FinishReason.FINISH_REASON_GUARDRAIL
    assert text_of(outcome.answer) == "All is well."
    assert told(outcome.answer.guardrail_results) == [("harm", "BLOCK", {"violence": 1})]
    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert record.usage.output_tokens > 0
    assert told(record.guardrail_results) == [("harm", "BLOCK", {"violence": 1})]
    if streams:
        # The provider had not ended: the gateway left it.
        await asyncio.wait_for((await upstream.next()).gone(), 5)


@BOTH
async def test_masked_values_come_back_in_the_answer(
    guarded: Gateway, upstream: Upstream, *, streams: bool
) -> None:
    upstream.script = echoing()
    profile = GuardrailProfile(input_rules=[pii()], output_rules=[pii()], reversible_redaction=True)
    asked = f"Mail jo@acme.io and al@acme.io, SSN {SECRET}, jo@acme.io again"
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=streams).call(asked)
    assert outcome.answer is not None
    sent = (await upstream.next()).json["messages"][-1]["content"]
    assert sent == "Mail [EMAIL_1] and [EMAIL_2], SSN [SSN_1], [EMAIL_1] again"
    assert text_of(outcome.answer) == asked


async def test_embeddings_are_guarded(client: AsyncClient, upstream: Upstream) -> None:
    async def script(exchange: Exchange) -> None:
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        await send_json(exchange, {"object": "list", "data": vectors, "model": MODEL, "usage": usage})

    upstream.script = script
    answer = await client.embeddings.create(MODEL, [f"SSN {SECRET}"])
    assert "[SSN_REDACTED]" in (await upstream.next()).body.decode()
    assert ("pii", "REDACT", {"US_SSN": 1}) in told(answer.guardrail_results)


async def test_log_probabilities_do_not_tell_what_was_masked(client: AsyncClient, upstream: Upstream) -> None:
    config = GenerationConfig(logprobs=True)
    failure = (await Caller(client, streams=False).call(generation_config=config)).failure
    assert failure is not None
    assert failure.reason == "FEATURE_NOT_SUPPORTED"
    assert not upstream.exchanges


@pytest.mark.parametrize("fail_open", [True, False])
@pytest.mark.parametrize("cause", ["error", "timeout", "hangs"])
async def test_a_check_that_cannot_run_follows_its_policy_and_is_never_a_pass(
    guarded: Gateway,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    cause: str,
    fail_open: bool,
) -> None:
    released = threading.Event()
    feed = PiiScanner.feed

    def broken(scanner: PiiScanner, text: str) -> Any:
        if cause == "error":
            raise ValueError(f"cannot read {text}")
        released.wait(30 if cause == "hangs" else 0.02)
        return feed(scanner, text)

    failing = pii()
    failing.fail_open = fail_open
    failing.timeout.CopyFrom(Duration(nanos=10_000_000))
    profile = GuardrailProfile(input_rules=[failing])
    # What hangs is only waited for where it does not hold up everybody: off the event loop.
    text = f"SSN {SECRET} " + "word " * (2_000 if cause == "hangs" else 1)
    async with await key_with(guarded, profile) as client:
        monkeypatch.setattr(PiiScanner, "feed", broken)
        outcome = await Caller(client, streams=False).call(text)
    released.set()

    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert told(record.guardrail_results) == [("pii", "ERROR", {})]
    assert "SSN" not in caplog.text
    if fail_open:
        assert outcome.failure is None
        assert SECRET in (await upstream.next()).body.decode()
    else:
        assert outcome.failure is not None
        assert (outcome.failure.code.name, outcome.failure.reason) == ("UNAVAILABLE", "GUARDRAIL_FAILED")
        assert outcome.failure.metadata["cause"] == ("error" if cause == "error" else "timeout")
        assert not upstream.exchanges


@pytest.mark.parametrize(
    "texts",
    [("All well. ", "SSN 219-16", "-9994 more ", "and more "), ("SSN 219-16-9994 more ",)],
    ids=["midway", "at once"],
)
async def test_a_stream_whose_check_fails_shows_nothing_of_what_waited(
    guarded: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...]
) -> None:
    feed = PiiScanner.feed

    def broken(scanner: PiiScanner, text: str) -> Any:
        if "more" in text:
            raise ValueError(text)
        return feed(scanner, text)

    upstream.script = talking(*texts)
    profile = GuardrailProfile(output_rules=[pii()])
    async with await key_with(guarded, profile) as client:
        monkeypatch.setattr(PiiScanner, "feed", broken)
        outcome = await Caller(client, streams=True).call()
    assert outcome.failure is not None
    assert outcome.failure.reason == "GUARDRAIL_FAILED"
    assert "219" not in "".join(event.part_delta.text for event in outcome.events)
    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert told(record.guardrail_results) == [("pii", "ERROR", {})]


@BOTH
@pytest.mark.parametrize("fail_open", [True, False])
@pytest.mark.parametrize("cause", ["timeout", "hangs"])
async def test_a_check_of_a_long_answer_that_takes_too_long_follows_its_policy(
    guarded: Gateway,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cause: str,
    fail_open: bool,
    streams: bool,
) -> None:
    released, feed = threading.Event(), PiiScanner.feed

    def slow(scanner: PiiScanner, text: str) -> Any:
        if len(text) > 1_000:
            released.wait(30 if cause == "hangs" else 0.15)
        return feed(scanner, text)

    masks = pii()
    masks.fail_open = fail_open
    masks.timeout.CopyFrom(Duration(nanos=100_000_000))
    words = rule("words", REDACT, pattern=PatternDetector(words=["forbidden"]))
    words.timeout.CopyFrom(Duration(seconds=1))
    said = ["All is well. ", f"SSN {SECRET} {'word ' * 1_500}forbidden. ", "And forbidden. "]
    upstream.script = talking(*said, then=end) if streams else echoing("".join(said))
    async with await key_with(guarded, GuardrailProfile(output_rules=[masks, words])) as client:
        monkeypatch.setattr(PiiScanner, "feed", slow)
        outcome = await Caller(client, streams=streams).call()
    released.set()

    record = await guarded.ledger.wait_one(outcome.end_user_id)
    if fail_open:
        assert outcome.answer is not None
        assert text_of(outcome.answer) == "".join(said).replace("forbidden", "[WORD_REDACTED]")
        assert told(record.guardrail_results) == [("pii", "ERROR", {}), ("words", "REDACT", {"word": 2})]
    else:
        assert outcome.failure is not None
        assert outcome.failure.reason == "GUARDRAIL_FAILED"
        assert outcome.failure.metadata["cause"] == "timeout"
        assert "219" not in "".join(event.part_delta.text for event in outcome.events)
        assert told(record.guardrail_results) == [("pii", "ERROR", {})]


async def test_the_time_that_a_check_takes_is_not_the_providers(
    guarded: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = PiiScanner.feed

    def slow(scanner: PiiScanner, text: str) -> Any:
        time.sleep(0.8)
        return feed(scanner, text)

    policy = RetryPolicy(first_token_timeout=Duration(nanos=500_000_000))
    target = RouteTarget(model=f"providers/vllm/models/{MODEL}")
    route = await guarded.client.admin.routes.create(Route(targets=[target], retry_policy=policy))
    upstream.script = talking("word " * 1_500, then=end)
    async with await key_with(guarded, GuardrailProfile(output_rules=[pii()])) as client:
        monkeypatch.setattr(PiiScanner, "feed", slow)
        outcome = await Caller(client, streams=True).call(model=route.name.rpartition("/")[2])
    assert outcome.failure is None


async def test_who_leaves_while_a_long_delta_is_checked_leaves_the_provider_too(
    guarded: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, is_checking, feed = threading.Event(), threading.Event(), PiiScanner.feed

    def hanging(scanner: PiiScanner, text: str) -> Any:
        is_checking.set()
        released.wait(30)
        return feed(scanner, text)

    upstream.script = talking("word " * 2_000)
    async with await key_with(guarded, GuardrailProfile(output_rules=[pii()])) as client:
        monkeypatch.setattr(PiiScanner, "feed", hanging)
        call = CallUnderWay(client, streams=True)
        await asyncio.to_thread(is_checking.wait, 10)
        call.rpc.cancel()
        await asyncio.wait_for((await upstream.next()).gone(), 5)
        monkeypatch.undo()
        # The thread that hangs is nobody's burden.
        upstream.script = talking("word " * 2_000, then=end)
        assert (await Caller(client, streams=True).call()).failure is None
    released.set()


async def test_a_rule_that_must_run_runs_though_another_hangs(
    guarded: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that was given up must not speak for the rules of the next."""
    feed, released = PiiScanner.feed, threading.Event()

    def hanging(scanner: PiiScanner, text: str) -> Any:
        released.wait(1)
        return feed(scanner, text)

    hangs = pii(LOG)
    hangs.fail_open = True
    hangs.timeout.CopyFrom(Duration(nanos=10_000_000))
    blocks = rule("words", BLOCK, pattern=PatternDetector(words=["forbidden"]))
    blocks.timeout.CopyFrom(Duration(nanos=200_000_000))
    async with await key_with(guarded, GuardrailProfile(input_rules=[hangs, blocks])) as client:
        monkeypatch.setattr(PiiScanner, "feed", hanging)
        outcome = await Caller(client, streams=False).call("dial 415-555-2671 " * 500 + "forbidden")
    released.set()
    assert outcome.failure is not None
    assert outcome.failure.reason == "GUARDRAIL_BLOCKED"
    record = await guarded.ledger.wait_one(outcome.end_user_id)
    assert told(record.guardrail_results) == [("pii", "ERROR", {}), ("words", "BLOCK", {"word": 1})]
    assert not upstream.exchanges


@pytest.mark.parametrize(
    ("mime_type", "data"),
    [
        ("TEXT/PLAIN", f"SSN {SECRET}".encode()),
        ("application/javascript", f"// SSN {SECRET}".encode()),
        ("application/ld+json", f"SSN {SECRET}".encode()),
        ("text/plain", f"SSN {SECRET}".encode("utf-16")),
        ("text/plain", f"SSN {SECRET}\0".encode()),
    ],
)
async def test_documents_of_every_kind_of_text_are_read(
    guarded: Gateway, upstream: Upstream, mime_type: str, data: bytes
) -> None:
    profile = GuardrailProfile(input_rules=[pii(BLOCK)])
    source = MediaSource(inline_data=data, mime_type=mime_type)
    parts = [
        ContentPart(text=TextPart(text="what is this?")),
        ContentPart(document=DocumentPart(source=source)),
    ]
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=False).call(
            messages=[Message(role=Role.ROLE_USER, parts=parts)]
        )
    assert outcome.failure is not None
    assert outcome.failure.reason == "GUARDRAIL_BLOCKED"
    assert not upstream.exchanges


async def test_a_made_up_signature_hides_nothing(guarded: Gateway, upstream: Upstream) -> None:
    profile = GuardrailProfile(input_rules=[pii(BLOCK)])
    part = ContentPart(reasoning=ReasoningPart(text=f"SSN {SECRET}"), provider_signature=b"made up")
    async with await key_with(guarded, profile) as client:
        outcome = await Caller(client, streams=False).call(
            messages=[Message(role=Role.ROLE_USER, parts=[part])]
        )
    assert outcome.failure is not None
    assert outcome.failure.reason == "GUARDRAIL_BLOCKED"
    assert not upstream.exchanges


@asynccontextmanager
async def watched_lags() -> AsyncIterator[list[float]]:
    """How many seconds late the event loop came to what was due, again and again."""
    lags: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            lags.append(loop.time() - before - 0.001)

    watching = asyncio.create_task(watch())
    yield lags
    watching.cancel()
    lags.sort()


async def end(exchange: Exchange) -> None:
    """Ends an answer that has talked."""
    await exchange.send(to_sse([chunk(finish_reason="stop"), usage_chunk()]))
    await exchange.finish()


DENSE = "Call +1 415 555 2671 about order 4111 1111 1111 1111, a@b.io. "


async def test_a_long_text_leaves_the_event_loop(
    guarded: Gateway, client: AsyncClient, upstream: Upstream
) -> None:
    async with watched_lags() as lags:
        for _ in range(10):
            outcome = await Caller(client, streams=False).call((DENSE * 330)[:20_000])
            assert outcome.failure is None
            assert "4111 1111" not in (await upstream.next()).body.decode()
    # Generous, since the machines of tests are shared; bench measures it.
    assert lags[len(lags) * 99 // 100] < 0.1


async def test_long_deltas_of_a_stream_leave_the_event_loop(
    client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (20_000, 200_000, 5_000, 100_000, 50_000)
    upstream.script = talking(*(DENSE * (size // len(DENSE)) for size in sizes), then=end)

    async def worst_lag() -> float:
        async with watched_lags() as lags:
            outcome = await Caller(client, streams=True).call()
        assert outcome.failure is None
        assert outcome.answer is not None
        text = text_of(outcome.answer)
        assert text.startswith("Call [PHONE_REDACTED] about order [CREDIT_CARD_REDACTED], [EMAIL_REDACTED]. ")
        assert "4111 1111" not in text
        return lags[-1]

    off_loop = min([await worst_lag() for _ in range(3)])
    monkeypatch.setattr("gateway_server.pipeline.guarding._INLINE_CHARACTERS", 1_000_000)
    on_loop = await worst_lag()
    # By comparison, since the machines of tests are shared: what is not guarded takes its time too.
    assert off_loop < on_loop / 2


async def test_short_deltas_stay_on_the_event_loop(
    client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError("left the event loop")

    monkeypatch.setattr("gateway_server.pipeline.guarding._Lane.run", refuse)
    upstream.script = talking(*["Call +1 415 555 2671. "] * 100, then=end)
    outcome = await Caller(client, streams=True).call()
    assert outcome.failure is None
    assert outcome.answer is not None
    assert text_of(outcome.answer) == "Call [PHONE_REDACTED]. " * 100


texts = st.lists(
    st.sampled_from(
        [
            "My SSN is 219-16-9994. ",
            "jo@acme.io",
            "4111 1111 1111 1111",
            " HATE. ",
            "All well. ",
            "+1 415 555 2671",
            "1",
            "@",
        ]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    max_size=12,
).map("".join)


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An answer with reasoning, text and a tool call, and the same as a stream of small pieces."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    chunks: list[dict[str, Any]] = []
    for key in ("reasoning_content", "content"):
        text = draw(texts)
        if text:
            message[key] = text
            chunks += [chunk({key: piece}) for piece in cut(draw, text)]
    if draw(st.booleans()):
        arguments = json.dumps({"note": draw(texts), "ssn": 219169994}, ensure_ascii=draw(st.booleans()))
        function = {"name": "f", "arguments": arguments}
        message["tool_calls"] = [{"id": "c", "type": "function", "function": function}]
        chunks += call_chunks(cut(draw, arguments))
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**completion(), "choices": [choice]}, [*chunks, chunk(finish_reason="stop"), usage_chunk()]


def call_chunks(pieces: list[str]) -> list[dict[str, Any]]:
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}
    grown = ({"index": 0, "function": {"arguments": piece}} for piece in pieces)
    return [chunk({"tool_calls": [call]}) for call in (first, *grown)]


def cut(draw: st.DrawFn, text: str) -> list[str]:
    size = draw(st.integers(1, 12))
    return [text[start : start + size] for start in range(0, len(text), size)]


@st.composite
def answers_of(
    draw: st.DrawFn, texts: st.SearchStrategy[str], values: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An answer with a text and a tool call that has ``values``, and the same as a stream of small pieces."""
    text, note = draw(texts), draw(texts)
    arguments = json.dumps({"note": note, **values}, ensure_ascii=draw(st.booleans()))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": text or None, "tool_calls": [call]}
    chunks = [chunk({"content": piece}) for piece in cut(draw, text)]
    chunks += call_chunks(cut(draw, arguments))
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**completion(), "choices": [choice]}, [*chunks, chunk(finish_reason="stop"), usage_chunk()]


async def compare(
    client: AsyncClient, upstream: Upstream, case: tuple[dict[str, Any], list[dict[str, Any]]]
) -> ChatCompletion:
    """The answer, once it is shown to be the same whole and streamed."""
    whole, chunks = case

    async def script(exchange: Exchange) -> None:
        if exchange.streams:
            await send_stream(exchange, chunks)
        else:
            await send_json(exchange, whole)

    upstream.script = script
    unary = (await Caller(client, streams=False).call(f"mail jo@acme.io, SSN {SECRET}")).answer
    stream = (await Caller(client, streams=True).call(f"mail jo@acme.io, SSN {SECRET}")).answer
    assert unary is not None
    assert stream is not None
    assert list(stream.choices) == list(unary.choices)
    assert findings(stream) == findings(unary)
    return unary


@pytest.fixture(scope="module")
async def masking(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    profile = GuardrailProfile(
        input_rules=[pii()],
        output_rules=[rule("harm", LOG, moderation=ModerationDetector()), pii()],
        reversible_redaction=True,
    )
    async with await key_with(guarded, profile) as client:
        yield client


@pytest.fixture(scope="module")
async def blocking(guarded: Gateway) -> AsyncIterator[AsyncClient]:
    profile = GuardrailProfile(output_rules=[pii(LOG), rule("harm", BLOCK, moderation=ModerationDetector())])
    async with await key_with(guarded, profile) as client:
        yield client


LAW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


@given(case=answers())
@LAW
async def test_a_masked_stream_folds_into_the_masked_answer(
    masking: AsyncClient, upstream: Upstream, case: tuple[dict[str, Any], list[dict[str, Any]]]
) -> None:
    answer = await compare(masking, upstream, case)
    for part in answer.choices[0].message.parts:
        if part.HasField("tool_call"):
            json.loads(part.tool_call.arguments)


@given(case=answers(), most_inline=st.integers(0, 8))
@LAW
async def test_it_does_not_matter_what_of_a_stream_leaves_the_event_loop(
    masking: AsyncClient,
    blocking: AsyncClient,
    upstream: Upstream,
    case: tuple[dict[str, Any], list[dict[str, Any]]],
    most_inline: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_server.pipeline.guarding._INLINE_CHARACTERS", most_inline)
        await compare(masking, upstream, case)
        await compare(blocking, upstream, case)


@given(case=answers())
@LAW
async def test_a_stopped_stream_folds_into_the_stopped_answer(
    blocking: AsyncClient, upstream: Upstream, case: tuple[dict[str, Any], list[dict[str, Any]]]
) -> None:
    await compare(blocking, upstream, case)


def findings(answer: ChatCompletion) -> list[tuple[str, int, dict[str, int], float]]:
    def told_exactly(result: GuardrailResult) -> tuple[str, int, dict[str, int], float]:
        return result.rule, result.action, dict(result.findings), result.score

    return [told_exactly(each) for each in answer.guardrail_results]
