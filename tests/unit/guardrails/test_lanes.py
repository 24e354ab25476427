"""Threads that check long texts: turns, limits of time, and threads that are lost."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Mapping

import pytest
from google.protobuf.duration_pb2 import Duration

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    Choice,
    CreateChatCompletionRequest,
    PartDelta,
    PartEnd,
    PartStart,
)
from aigateway.v1.content_pb2 import (
    Citation,
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailProfile,
    GuardrailRule,
    ModerationDetector,
    PiiDetector,
)
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails import documents
from gateway_server.guardrails.json_guard import JsonGuard
from gateway_server.guardrails.rules import compile_profile
from gateway_server.pipeline.guarding import AnswerChecks, CallGuard, _Lane, _Lanes
from gateway_server.usage.estimate import event_characters
from tests.support.text_models import WordModels


async def test_waiting_for_a_turn_is_not_the_checks_own_time() -> None:
    lane = _Lane("test", most_waiting=10)
    done = await asyncio.gather(*(lane.run(lambda: time.sleep(0.06), limit=0.15) for _ in range(4)))
    assert done == [None] * 4
    lane.close()


async def test_a_thread_that_hangs_is_left_and_the_next_check_has_another() -> None:
    lane, released = _Lane("test", most_waiting=10), threading.Event()
    with pytest.raises(TimeoutError):
        await lane.run(lambda: released.wait(10), limit=0.02)
    assert await lane.run(lambda: "done", limit=5) == "done"
    released.set()
    lane.close()


async def test_when_too_many_wait_the_next_is_told_to_come_again() -> None:
    lane, released = _Lane("test", most_waiting=2), threading.Event()
    waiting = [asyncio.create_task(lane.run(lambda: released.wait(10), limit=5)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(GatewayError) as caught:
        await lane.run(lambda: None, limit=5)
    assert (caught.value.reason_name, caught.value.retry_after) == ("OVERLOADED", 1.0)
    released.set()
    await asyncio.gather(*waiting)
    assert await lane.run(lambda: "done", limit=5) == "done"
    lane.close()


async def test_who_leaves_frees_the_turn() -> None:
    lane, released = _Lane("test", most_waiting=2), threading.Event()
    leaving = asyncio.create_task(lane.run(lambda: released.wait(10), limit=5))
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert await lane.run(lambda: "done", limit=5) == "done"
    released.set()
    lane.close()


def test_many_rules_leave_the_event_loop_with_shorter_texts() -> None:
    rules = compile_profile(
        GuardrailProfile(
            input_rules=[
                GuardrailRule(
                    rule_id=f"r{index}", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=PiiDetector()
                )
                for index in range(1000)
            ]
        ),
        WordModels,
    ).input_rules
    short, long, waiting = (_Lane("test") for _ in range(3))
    lanes = _Lanes(short, long, waiting)
    assert lanes.of(rules[:1], 4_000) is lanes.of(rules[:4], 4_000) is lanes.of(rules, 10) is None
    assert lanes.of(rules[:4], 5_000) is lanes.of(rules[:5], 4_000) is lanes.of(rules, 100) is short
    assert lanes.of(rules[:4], 300_000) is lanes.of(rules, 4_000) is long
    lanes.close()


async def test_what_a_provider_reports_leaves_the_event_loop_too() -> None:
    models = WatchedModels()
    checks, lanes = judging(models)
    answer = ChatCompletion()
    answer.provider_metadata.update({f"k{index}": "v" for index in range(100)})
    await checks.apply(answer)
    assert models.threads
    assert threading.current_thread() not in models.threads
    lanes.close()


def judging(models: WordModels, *, is_json: bool = False) -> tuple[AnswerChecks, _Lanes]:
    """Checks of an answer that is stopped for harm, and their threads."""
    rule = GuardrailRule(
        rule_id="r", action=GuardrailAction.GUARDRAIL_ACTION_BLOCK, moderation=ModerationDetector()
    )
    profile = compile_profile(GuardrailProfile(name="p", output_rules=[rule]), lambda: models)
    lanes = _Lanes(*(_Lane("test") for _ in range(3)))
    checks = CallGuard([profile], request_lanes=lanes, answer_lanes=lanes).answer(choices=1, is_json=is_json)
    assert checks is not None
    return checks, lanes


class WatchedModels(WordModels):
    """Remembers in which threads it judged."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()

    def moderation(self, text: str) -> Mapping[str, float]:
        self.threads.add(threading.current_thread())
        return super().moderation(text)


FEW, MANY, PROSE = json.dumps(["word " * 600]), json.dumps(["w"] * 300), "One, two. " * 300


@pytest.mark.parametrize(
    ("field", "text", "is_json", "leaves"),
    [
        ("arguments", FEW, False, False),
        ("arguments", MANY, False, True),
        ("text", MANY, True, True),
        ("text", PROSE, False, False),
    ],
    ids=["few values", "many values", "structured output", "prose"],
)
@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_json_of_many_values_leaves_the_event_loop_where_each_is_judged(
    field: str, text: str, *, is_json: bool, leaves: bool, streams: bool
) -> None:
    models = WatchedModels()
    checks, lanes = judging(models, is_json=is_json)
    part = ContentPart(text=TextPart(text=text))
    if field == "arguments":
        part = ContentPart(tool_call=ToolCallPart(tool_call_id="c", tool_name="f", arguments=text))
    if streams:
        events = [ChatEvent(part_start=PartStart(part=part)), ChatEvent(part_end=PartEnd())]
        passed = await checks.feed(events, len(text))
        assert passed[-1].HasField("part_end")
    else:
        await checks.apply(ChatCompletion(choices=[Choice(message=Message(parts=[part]))]))
    assert models.threads
    assert (threading.current_thread() not in models.threads) == leaves
    lanes.close()


@pytest.mark.parametrize("leaves", [False, True], ids=["late", "left"])
async def test_an_answer_that_nobody_waits_for_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, *, leaves: bool
) -> None:
    begun, released, feeds = threading.Event(), threading.Event(), []

    def feed(self: JsonGuard, text: str) -> str:
        feeds.append(text)
        begun.set()
        released.wait(10)
        return text

    monkeypatch.setattr(JsonGuard, "feed", feed)
    rule = GuardrailRule(
        rule_id="r",
        action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
        pii=PiiDetector(),
        timeout=Duration(nanos=1),
    )
    profile = compile_profile(GuardrailProfile(name="p", output_rules=[rule]), WordModels)
    lane = _Lane("unread answer")
    lanes = _Lanes(lane, lane, lane)
    checks = CallGuard([profile], request_lanes=lanes, answer_lanes=lanes).answer(choices=1)
    assert checks is not None
    part = ContentPart(tool_call=ToolCallPart(tool_call_id="c", arguments="[" * 200_000))
    answer = ChatCompletion(choices=[Choice(message=Message(parts=[part]))])
    checking = asyncio.create_task(checks.apply(answer))
    if leaves:
        await asyncio.to_thread(begun.wait, 10)
        checking.cancel()
    with pytest.raises(asyncio.CancelledError if leaves else GatewayError):
        await checking
    [thread] = [each for each in threading.enumerate() if each.name.startswith("unread answer")]
    released.set()
    await asyncio.to_thread(thread.join, 10)
    assert len(feeds) == 1
    lanes.close()


def short_messages(count: int) -> CreateChatCompletionRequest:
    return CreateChatCompletionRequest(messages=[user_says(chr(0x4E00 + index)) for index in range(count)])


def user_says(text: str) -> Message:
    return Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text=text))])


def embeds(count: int) -> CreateEmbeddingsRequest:
    return CreateEmbeddingsRequest(inputs=[EmbeddingInput(text=f"q{index}") for index in range(count)])


def calls_with(arguments: str) -> CreateChatCompletionRequest:
    call = ToolCallPart(tool_call_id="c", arguments=arguments)
    return CreateChatCompletionRequest(
        messages=[user_says("a"), Message(role=Role.ROLE_ASSISTANT, parts=[ContentPart(tool_call=call)])]
    )


@pytest.mark.parametrize(
    ("request_", "leaves"),
    [
        (short_messages(1), False),
        (short_messages(10), False),
        (short_messages(100), True),
        (short_messages(1_000), True),
        (embeds(3), False),
        (embeds(100), True),
        (calls_with(json.dumps(["a@b"] * 3)), False),
        (calls_with(json.dumps(["a@b"] * 300)), True),
        (CreateChatCompletionRequest(messages=[user_says("a"), *[user_says("")] * 20]), False),
        (CreateChatCompletionRequest(messages=[user_says("a"), *[user_says("")] * 450]), True),
    ],
    ids=[
        "one message",
        "few messages",
        "many messages",
        "very many messages",
        "few inputs",
        "many inputs",
        "few values",
        "many values",
        "few empty messages",
        "many empty messages",
    ],
)
async def test_many_short_texts_of_a_request_leave_the_event_loop(
    request_: CreateChatCompletionRequest | CreateEmbeddingsRequest, *, leaves: bool
) -> None:
    models = WatchedModels()
    rule = GuardrailRule(
        rule_id="r", action=GuardrailAction.GUARDRAIL_ACTION_BLOCK, moderation=ModerationDetector()
    )
    profile = compile_profile(GuardrailProfile(name="p", input_rules=[rule]), lambda: models)
    lanes = _Lanes(*(_Lane("test") for _ in range(3)))
    guard = CallGuard([profile], request_lanes=lanes, answer_lanes=lanes)
    checked: object
    if isinstance(request_, CreateEmbeddingsRequest):
        checked = await guard.check(request_)
    else:
        checked = await guard.check(request_)
    assert checked == request_
    assert models.threads
    assert (threading.current_thread() not in models.threads) == leaves
    lanes.close()


@pytest.mark.parametrize("windows", [(0, 48), (48, 0), (64, 48), (48, 64)])
async def test_a_profile_that_is_added_lets_no_less_be_held_back(windows: tuple[int, ...]) -> None:
    rule = GuardrailRule(
        rule_id="r",
        action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
        pii=PiiDetector(entity_types=["EMAIL_ADDRESS"]),
    )
    profiles = [
        compile_profile(
            GuardrailProfile(
                name=f"p{index}", stream_holdback_characters=window, output_rules=[] if index else [rule]
            ),
            WordModels,
        )
        for index, window in enumerate(windows)
    ]
    lanes = _Lanes(*(_Lane("test") for _ in range(3)))
    checks = CallGuard(profiles, request_lanes=lanes, answer_lanes=lanes).answer(choices=1)
    assert checks is not None
    text = "write to firstname.middlename.lastname.department.unit.site1@example.com"
    answer = ChatCompletion(choices=[Choice(message=Message(parts=[ContentPart(text=TextPart(text=text))]))])
    await checks.apply(answer)
    assert answer.choices[0].message.parts[0].text.text == "write to [EMAIL_REDACTED]"
    lanes.close()


def cited(count: int) -> list[ContentPart]:
    citation = Citation(cited_text="w", title="t", uri="https://a.test")
    return [ContentPart(text=TextPart(text="a", citations=[citation] * count))]


def named_files(count: int) -> list[ContentPart]:
    source = MediaSource(filename="holiday.png", inline_data=b"x")
    parts = [ContentPart(text=TextPart(text="a")), *[ContentPart(image=ImagePart(source=source))] * count]
    return [ContentPart(tool_result=ToolResultPart(tool_call_id="c", parts=parts))]


def short_parts(count: int) -> list[ContentPart]:
    return [ContentPart(text=TextPart(text=f"w{index}")) for index in range(count)]


def events_of(parts: list[ContentPart]) -> list[ChatEvent]:
    """A stream of parts, with their citations in deltas."""
    events: list[ChatEvent] = []
    for index, part in enumerate(parts):
        start = ContentPart()
        start.CopyFrom(part)
        if part.HasField("text"):
            start.text.ClearField("citations")
        events.append(ChatEvent(part_start=PartStart(part_index=index, part=start)))
        events += [
            ChatEvent(part_delta=PartDelta(part_index=index, citation=each)) for each in part.text.citations
        ]
        events.append(ChatEvent(part_end=PartEnd(part_index=index)))
    return events


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize(
    ("parts", "leaves"),
    [
        (cited(2), False),
        (cited(50), True),
        (named_files(2), False),
        (named_files(50), True),
        (short_parts(3), False),
        (short_parts(50), True),
    ],
    ids=["cited", "much cited", "files", "many files", "parts", "many parts"],
)
async def test_short_texts_of_an_answer_leave_the_event_loop_where_they_are_many(
    parts: list[ContentPart], *, streams: bool, leaves: bool
) -> None:
    models = WatchedModels()
    checks, lanes = judging(models)
    if streams:
        events = events_of(parts)
        await checks.feed(events, event_characters(events))
    else:
        await checks.apply(ChatCompletion(choices=[Choice(message=Message(parts=parts))]))
    assert models.threads
    assert (threading.current_thread() not in models.threads) == leaves
    lanes.close()


@pytest.mark.parametrize(("count", "leaves"), [(2, False), (20, True)])
async def test_citations_that_wait_for_the_end_of_their_part_are_counted_there(
    count: int, *, leaves: bool
) -> None:
    models = WatchedModels()
    checks, lanes = judging(models)
    *events, end = events_of(cited(count))
    for event in events:
        await checks.feed([event], event_characters([event]))
    assert not models.threads
    await checks.feed([end], 0)
    assert models.threads
    assert (threading.current_thread() not in models.threads) == leaves
    lanes.close()


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("field", ["inline_data", "uri"])
async def test_a_document_in_an_answer_is_not_decoded_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, field: str, *, streams: bool
) -> None:
    threads: set[threading.Thread] = set()

    def is_json_text(text: str) -> bool:
        threads.add(threading.current_thread())
        return bool(json.loads(text))

    monkeypatch.setattr(documents, "is_json_text", is_json_text)
    written = json.dumps(["w"] * 300).encode()
    source = MediaSource(mime_type="application/json", inline_data=written)
    if field == "uri":
        source = MediaSource(uri=f"data:application/json;base64,{base64.b64encode(written).decode()}")
    part = ContentPart(document=DocumentPart(source=source))
    checks, lanes = judging(WatchedModels())
    if streams:
        await checks.feed(events_of([part]), 0)
    else:
        await checks.apply(ChatCompletion(choices=[Choice(message=Message(parts=[part]))]))
    assert threads
    assert threading.current_thread() not in threads
    lanes.close()
