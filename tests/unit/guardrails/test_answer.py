"""A guarded stream folds into the guarded answer, whatever kinds of parts it has and however it is cut."""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigateway.fold import ChatAccumulator
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatEvent,
    Choice,
    ChoiceEnd,
    Finish,
    FinishReason,
    PartDelta,
    PartEnd,
    PartStart,
    StreamEnd,
    StreamStart,
)
from aigateway.v1.content_pb2 import (
    AudioPart,
    Citation,
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    ProviderPart,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailPart,
    GuardrailRule,
    ModerationDetector,
    PatternDetector,
    PiiDetector,
)
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.guardrails.answer import AnswerGuard
from gateway_server.guardrails.rules import Tally
from gateway_server.guardrails.vault import Vault
from tests.unit.guardrails.test_text_guard import tallies_of

LOG, REDACT, BLOCK = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_REDACT,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
)
MASK = GuardrailRule(action=REDACT, pii=PiiDetector())
HARM = GuardrailRule(action=BLOCK, moderation=ModerationDetector())
STOP = GuardrailRule(action=BLOCK, pii=PiiDetector())
WORD = GuardrailRule(action=LOG, pattern=PatternDetector(words=["word"]))
MAIL = "jo@acme.io"

#: Each kind of part that grows: its field, the part with a text, the delta with a text.
GROWING: dict[str, Callable[[str], ContentPart]] = {
    "text": lambda text: ContentPart(text=TextPart(text=text)),
    "reasoning": lambda text: ContentPart(reasoning=ReasoningPart(text=text)),
    "refusal": lambda text: ContentPart(refusal=RefusalPart(text=text)),
    "tool_call": lambda text: ContentPart(
        tool_call=ToolCallPart(tool_call_id="c", tool_name="f", arguments=text)
    ),
    "audio": lambda text: ContentPart(audio=AudioPart(transcript=text)),
}
DELTAS = {
    "text": "text",
    "reasoning": "reasoning_text",
    "refusal": "text",
    "tool_call": "arguments",
    "audio": "transcript",
}

words = st.sampled_from(
    [
        MAIL,
        " ",
        "My SSN is 219-16-9994",
        "SSN: ",
        "219169994",
        ". ",
        "HATE",
        "4111 1111 1111 1111",
        "word ",
        '"',
        "{",
        "1",
    ]
)
said = st.lists(words | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=10).map(
    "".join
)


def with_extras(part: ContentPart, signature: bytes, places: list[tuple[int, int]]) -> ContentPart:
    part.provider_signature = signature
    if part.HasField("text"):
        length = len(part.text.text)
        for place in places:
            start, end = sorted(each % (length + 1) for each in place)
            signature = f'{{"said": "by {MAIL}"}}'.encode() if start % 2 else b'{"place": 1}'
            part.text.citations.add(
                start_index=start,
                end_index=end,
                cited_text=f"by {MAIL}" if end % 2 else "by nobody",
                title="t",
                uri="https://acme.io/",
                provider_signature=signature,
            )
    return part


grown = st.builds(
    lambda kind, text, signature, places: with_extras(GROWING[kind](text), signature, places),
    st.sampled_from(list(GROWING)),
    said,
    st.sampled_from([b"", b"signed", b'{"place": 1}', f'{{"cited": "by {MAIL}"}}'.encode()]),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=2),
)
metadata = st.none() | st.builds(
    lambda text, number: {"grounding": {"segments": [{"text": text}], "n": number}},
    words,
    st.sampled_from([0.5, 219169994]),
)
whole = st.builds(
    lambda text: ContentPart(provider=ProviderPart(provider_type="p", block_json=f'{{"a": "{text}"}}')),
    st.sampled_from([MAIL, "fine", "HATE"]),
) | st.builds(
    lambda texts: ContentPart(
        tool_result=ToolResultPart(
            tool_call_id="c", parts=[ContentPart(text=TextPart(text=each)) for each in texts]
        )
    ),
    st.lists(said, max_size=3),
)
documents = st.builds(
    lambda text, encoding, mime_type, name, signature: ContentPart(
        document=DocumentPart(
            source=MediaSource(
                inline_data=text.encode(encoding, "replace"), mime_type=mime_type, filename=name
            ),
            title=name,
        ),
        provider_signature=signature,
    ),
    said | said.map(lambda text: json.dumps({"ssn": text, MAIL: 219169994})),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    st.sampled_from(["text/csv", "application/json", "text/plain; charset=cp037", "application/pdf", ""]),
    words,
    st.sampled_from([b"", b"sealed", f'{{"by": "{MAIL}"}}'.encode()]),
)
whole |= documents | documents.map(
    lambda part: ContentPart(tool_result=ToolResultPart(tool_call_id="c", parts=[part]))
)
arguments = said.map(lambda text: json.dumps({"note": text, "n": 219169994})) | said
answers = st.lists(st.lists(grown | whole, max_size=4), min_size=1, max_size=3)


def answer_of(choices: list[list[ContentPart]], metadata: Sequence[Any] = ()) -> ChatCompletion:
    """An answer; ``metadata`` is what its provider reports beside the choices, and beside the answer."""
    answer = ChatCompletion()
    for index, parts in enumerate(choices):
        message = Message(role=Role.ROLE_ASSISTANT, parts=parts)
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP)
        answer.choices.append(Choice(index=index, message=message, finish=finish))
    metadata_of = [answer.provider_metadata, *(choice.provider_metadata for choice in answer.choices)]
    for struct, reported in zip(metadata_of, metadata, strict=False):
        if reported is not None:
            struct.update(reported)
    return answer


def events_of(answer: ChatCompletion, size: int) -> Iterator[ChatEvent]:
    """The answer as a stream in pieces of so many characters, choices in turn."""
    yield ChatEvent(start=StreamStart())
    queues = [list(events_of_choice(choice, size)) for choice in answer.choices]
    for turn in range(max(map(len, queues))):
        for queue in queues:
            yield from queue[turn : turn + 1]
    end = ChatEvent(end=StreamEnd())
    if answer.HasField("provider_metadata"):
        end.end.provider_metadata.CopyFrom(answer.provider_metadata)
    yield end


def events_of_choice(choice: Choice, size: int) -> Iterator[ChatEvent]:
    for index, part in enumerate(choice.message.parts):
        place = (choice.index, index)
        start = ContentPart()
        start.CopyFrom(part)
        kind = part.WhichOneof("kind") or ""
        if kind not in GROWING:
            yield ChatEvent(part_start=PartStart(choice_index=choice.index, part_index=index, part=start))
            yield ChatEvent(part_end=PartEnd(choice_index=choice.index, part_index=index))
            continue
        field = {"tool_call": "arguments", "audio": "transcript"}.get(kind, "text")
        text = getattr(getattr(part, kind), field)
        getattr(start, kind).ClearField(field)
        start.ClearField("provider_signature")
        if kind == "text":
            start.text.ClearField("citations")
        yield ChatEvent(part_start=PartStart(choice_index=choice.index, part_index=index, part=start))
        for at in range(0, len(text), size):
            event = delta_of(*place)
            setattr(event.part_delta, DELTAS[kind], text[at : at + size])
            yield event
        for citation in part.text.citations if kind == "text" else ():
            event = delta_of(*place)
            event.part_delta.citation.CopyFrom(citation)
            yield event
        if part.provider_signature:
            event = delta_of(*place)
            event.part_delta.provider_signature = part.provider_signature
            yield event
        yield ChatEvent(part_end=PartEnd(choice_index=choice.index, part_index=index))
    end = ChatEvent(choice_end=ChoiceEnd(choice_index=choice.index, finish=choice.finish))
    if choice.HasField("provider_metadata"):
        end.choice_end.provider_metadata.CopyFrom(choice.provider_metadata)
    yield end


def delta_of(choice_index: int, part_index: int) -> ChatEvent:
    return ChatEvent(part_delta=PartDelta(choice_index=choice_index, part_index=part_index))


def fold(events: list[ChatEvent]) -> ChatCompletion:
    accumulator = ChatAccumulator()
    accumulator.add_chunk(ChatCompletionChunk(events=events))
    return accumulator.completion


def findings(tallies: list[Tally]) -> list[dict[str, int]]:
    return [dict(tally.findings) for tally in tallies]


@settings(deadline=None)
@given(
    choices=answers,
    rules=st.lists(st.sampled_from([MASK, HARM]), min_size=1, max_size=2, unique_by=lambda rule: rule.action),
    size=st.integers(1, 9),
    reported=st.lists(metadata, max_size=4),
)
def test_a_guarded_stream_folds_into_the_guarded_answer(
    choices: list[list[ContentPart]], rules: list[GuardrailRule], size: int, reported: list[Any]
) -> None:
    vault = Vault()
    vault.put("EMAIL", "al@acme.io")
    events = list(events_of(answer_of(choices, reported), size))
    answer = answer_of(choices, reported)
    whole_tallies, stream_tallies = tallies_of(*rules), tallies_of(*rules)
    AnswerGuard(whole_tallies, vault=vault, choices=len(choices)).apply(answer)
    guard = AnswerGuard(stream_tallies, vault=vault, choices=len(choices))
    folded = fold([passed for event in events for passed in guard.feed([event])])
    assert list(folded.choices) == list(answer.choices)
    assert folded.provider_metadata == answer.provider_metadata
    assert findings(stream_tallies) == findings(whole_tallies)


#: One of each kind of part that answers have and rules read.
EACH_PART = {
    GuardrailPart.GUARDRAIL_PART_TEXT: with_extras(GROWING["text"](f"to {MAIL}"), b"", [(0, 2)]),
    GuardrailPart.GUARDRAIL_PART_REASONING: GROWING["reasoning"](f"to {MAIL}"),
    GuardrailPart.GUARDRAIL_PART_TOOL_CALL: GROWING["tool_call"](f'{{"to": "{MAIL}"}}'),
    GuardrailPart.GUARDRAIL_PART_AUDIO: GROWING["audio"](f"to {MAIL}"),
    GuardrailPart.GUARDRAIL_PART_PROVIDER: ContentPart(
        provider=ProviderPart(provider_type="p", block_json=f'["{MAIL}"]')
    ),
    GuardrailPart.GUARDRAIL_PART_DOCUMENT: ContentPart(
        document=DocumentPart(
            source=MediaSource(inline_data=f"to,{MAIL}".encode(), mime_type="text/csv", filename=MAIL),
            title=MAIL,
            context=MAIL,
        )
    ),
    GuardrailPart.GUARDRAIL_PART_IMAGE: ContentPart(image=ImagePart(source=MediaSource(filename=MAIL))),
    GuardrailPart.GUARDRAIL_PART_TOOL_RESULT: ContentPart(
        tool_result=ToolResultPart(tool_call_id="c", parts=[GROWING["text"](f"to {MAIL}")])
    ),
}


@pytest.mark.parametrize("part", list(EACH_PART), ids=GuardrailPart.Name)
def test_a_rule_reads_of_an_answer_the_parts_that_it_chooses_and_nothing_else(
    part: GuardrailPart.ValueType,
) -> None:
    rule = GuardrailRule(action=REDACT, pii=PiiDetector(), parts=[part])
    reported = {"grounding": MAIL}
    answer = answer_of([list(EACH_PART.values())], [reported])
    events = list(events_of(answer, 3))
    AnswerGuard(tallies_of(rule)).apply(answer)
    for kind, left in zip(EACH_PART, answer.choices[0].message.parts, strict=True):
        assert (MAIL.encode() in left.SerializeToString()) == (kind != part)
    assert not answer.HasField("provider_metadata"), "it may say what was taken out"
    guard = AnswerGuard(tallies_of(rule))
    assert fold([passed for event in events for passed in guard.feed([event])]).choices == answer.choices


def document_of(data: bytes, mime_type: str) -> ContentPart:
    return ContentPart(document=DocumentPart(source=MediaSource(inline_data=data, mime_type=mime_type)))


@pytest.mark.parametrize(
    ("data", "mime_type", "left"),
    [
        (f"name,to\nJo,{MAIL}\n".encode(), "text/csv", b"name,to\nJo,[EMAIL_REDACTED]\n"),
        (b'{"ssn": 219169994, "n": 1.50}', "application/json", b'{"ssn": "[SSN_REDACTED]", "n": 1.50}'),
        (f"Caf\u00e9, {MAIL}".encode("utf-16"), "text/plain", "Caf\u00e9, [EMAIL_REDACTED]".encode("utf-16")),
        (b"caf\xe9", "text/plain", b"caf\xe9"),
    ],
    ids=["csv", "json", "utf-16", "untouched"],
)
@pytest.mark.parametrize("in_result", [False, True])
def test_documents_of_answers_are_masked_as_those_of_requests_are(
    data: bytes, mime_type: str, left: bytes, *, in_result: bool
) -> None:
    part = document_of(data, mime_type)
    if in_result:
        part = ContentPart(tool_result=ToolResultPart(tool_call_id="c", parts=[part]))
    part.provider_signature = b"signed"
    answer, tallies = answer_of([[part]]), tallies_of(MASK)
    AnswerGuard(tallies).apply(answer)
    [guarded] = answer.choices[0].message.parts
    document = guarded.tool_result.parts[0].document if in_result else guarded.document
    assert document.source.inline_data == left
    assert guarded.provider_signature == (b"signed" if left == data else b"")
    assert not tallies[0].unread_parts


def test_a_document_that_a_rule_stops_is_not_in_the_answer() -> None:
    parts = [GROWING["text"]("Here."), document_of(f"to {MAIL}".encode(), "text/plain")]
    answer, events = answer_of([parts]), list(events_of(answer_of([parts]), 3))
    AnswerGuard(tallies_of(STOP)).apply(answer)
    folded = fold(AnswerGuard(tallies_of(STOP)).feed(events))
    assert folded.choices == answer.choices
    assert list(answer.choices[0].message.parts) == parts[:1]
    assert answer.choices[0].finish.reason == FinishReason.FINISH_REASON_GUARDRAIL


def test_what_is_put_back_into_a_document_may_be_in_no_charset() -> None:
    vault = Vault()
    vault.put("EMAIL", "\u7528@acme.io")
    answer = answer_of([[document_of(b"caf\xe9 [EMAIL_1]", "text/plain")]])
    AnswerGuard(tallies_of(), vault=vault).apply(answer)
    assert answer.choices[0].message.parts[0].document.source.inline_data == b"caf\xe9 ?@acme.io"


@pytest.mark.parametrize("rule", [MASK, STOP], ids=["redact", "block"])
@pytest.mark.parametrize(
    ("signature", "is_kept"),
    [
        (b'{"cited": "by jo@acme.io 219-16-9994"}', False),
        (b'{"place": 1}', True),
        (b"sealed", True),
        (b"", True),
    ],
)
def test_a_signature_of_a_clean_text_says_nothing_that_is_masked(
    rule: GuardrailRule, signature: bytes, *, is_kept: bool
) -> None:
    part = with_extras(GROWING["text"]("All clear."), signature, [])
    answer = answer_of([[part]])
    events = list(events_of(answer, 3))
    whole, streamed = tallies_of(rule), tallies_of(rule)
    AnswerGuard(whole).apply(answer)
    assert fold(AnswerGuard(streamed).feed(events)).choices == answer.choices
    assert answer.choices[0].message.parts[0].provider_signature == (signature if is_kept else b"")
    assert findings(whole) == findings(streamed)


@pytest.mark.parametrize("kind", ["document", "provider", "tool_call"])
def test_a_signature_that_comes_later_says_nothing_that_is_masked(kind: str) -> None:
    """Some formats tell it only after the part, and some make it of their own fields as JSON."""
    for text, signature, is_kept in (
        ("fine", b"sealed", True),
        (MAIL, b"sealed", False),
        ("fine", f'{{"by": "{MAIL}"}}'.encode(), False),
        ("fine", b'{"by": "nobody"}', True),
    ):
        part = {
            "document": document_of(text.encode(), "text/plain"),
            "provider": ContentPart(provider=ProviderPart(block_json=json.dumps([text]))),
            "tool_call": GROWING["tool_call"](json.dumps([text])),
        }[kind]
        answer = answer_of([[part]])
        answer.choices[0].message.parts[0].provider_signature = signature
        AnswerGuard(tallies_of(MASK)).apply(answer)
        signed = delta_of(0, 0)
        signed.part_delta.provider_signature = signature
        end = ChatEvent(choice_end=ChoiceEnd(finish=answer.choices[0].finish))
        events = [ChatEvent(start=StreamStart()), ChatEvent(part_start=PartStart(part=part)), signed, end]
        [choice] = fold(AnswerGuard(tallies_of(MASK)).feed(events)).choices
        assert choice == answer.choices[0]
        assert choice.message.parts[0].provider_signature == (signature if is_kept else b"")


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (ToolCallPart(tool_name="call-415-555-2671"), "call-415-555-2671"),
        (ToolCallPart(tool_name=f"mail {MAIL}"), "mail [EMAIL_REDACTED]"),
        (ToolCallPart(tool_name="219-16-9994"), "[SSN_REDACTED]"),
        (ToolCallPart(tool_name="123-45-6789"), "123-45-6789"),
        (ToolCallPart(tool_name="219-16-9994", provider_executed=True), "219-16-9994"),
        (ToolCallPart(tool_name=MAIL, provider_executed=True), "[EMAIL_REDACTED]"),
    ],
)
def test_a_name_that_is_no_tools_is_read(call: ToolCallPart, left: str) -> None:
    answer = answer_of([[ContentPart(tool_call=call)]])
    AnswerGuard(tallies_of(MASK), tool_names=frozenset({"123-45-6789"})).apply(answer)
    assert answer.choices[0].message.parts[0].tool_call.tool_name == left


PICTURE = ContentPart(image=ImagePart(source=MediaSource(inline_data=b"png", mime_type="image/png")))
SOUND = ContentPart(audio=AudioPart(source=MediaSource(inline_data=b"mp3", mime_type="audio/mpeg")))


FILE = document_of(b"%PDF", "application/pdf")


@pytest.mark.parametrize("unread", [PICTURE, SOUND, FILE], ids=["image", "audio", "document"])
@pytest.mark.parametrize("blocks", [False, True], ids=["told", "blocked"])
def test_what_a_rule_misses_in_an_answer_is_told_or_ends_it(unread: ContentPart, *, blocks: bool) -> None:
    name = unread.WhichOneof("kind") or ""
    rule = GuardrailRule(
        action=LOG,
        pii=PiiDetector(),
        parts=[GuardrailPart.Value(f"GUARDRAIL_PART_{name.upper()}")],
        block_unread_parts=blocks,
    )
    parts = [GROWING["text"]("before"), unread, GROWING["text"]("after")]
    answer, whole, streamed = answer_of([parts]), tallies_of(rule), tallies_of(rule)
    events = list(events_of(answer, 3))
    AnswerGuard(whole).apply(answer)
    guard = AnswerGuard(streamed)
    folded = fold([passed for event in events for passed in guard.feed([event])])
    assert folded.choices == answer.choices
    assert list(answer.choices[0].message.parts) == (parts[:1] if blocks else parts)
    for [tally] in (whole, streamed):
        assert tally.result().action == (BLOCK if blocks else GuardrailAction.GUARDRAIL_ACTION_SKIPPED)
        assert dict(tally.result().unread_parts) == {name: 1}


def test_pictures_in_answers_are_no_matter_of_rules_that_do_not_choose_them() -> None:
    answer, tallies = answer_of([[PICTURE]]), tallies_of(GuardrailRule(action=LOG, pii=PiiDetector()))
    AnswerGuard(tallies).apply(answer)
    assert not tallies[0].unread_parts


@st.composite
def parallel_answers(draw: st.DrawFn) -> tuple[list[ContentPart], list[ChatEvent]]:
    """Parts that grow side by side, most of them until their choice ends, and the stream that brings them."""
    kinds = draw(st.lists(st.sampled_from(["tool_call", "text", "text", "refusal"]), min_size=2, max_size=4))
    parts = [GROWING[kind](draw(arguments if kind == "tool_call" else said)) for kind in kinds]
    size = draw(st.integers(1, 12))
    queues: list[list[ChatEvent]] = []
    for index, part in enumerate(parts):
        [*alone] = events_of_choice(Choice(message=Message(parts=[part])), size)
        for event in alone[:-1]:
            getattr(event, str(event.WhichOneof("event"))).part_index = index
        queues.append(alone[: -1 if draw(st.booleans()) else -2])
    events = [ChatEvent(start=StreamStart())]
    begun = 0
    while any(queues):
        # Parts begin in their order, and from there on come in any.
        live = [index for index in range(begun + 1) if index < len(queues) and queues[index]]
        index = draw(st.sampled_from(live)) if live else begun
        events.append(queues[index].pop(0))
        begun = max(begun, index + 1)
    finish = Finish(reason=FinishReason.FINISH_REASON_TOOL_CALLS)
    return parts, [*events, ChatEvent(choice_end=ChoiceEnd(finish=finish)), ChatEvent(end=StreamEnd())]


@settings(deadline=None, max_examples=300)
@given(
    case=parallel_answers(),
    rules=st.lists(st.sampled_from([MASK, STOP, HARM, WORD]), min_size=1, max_size=3, unique_by=id),
    restores=st.booleans(),
)
def test_parts_that_grow_side_by_side_fold_into_the_guarded_answer(
    case: tuple[list[ContentPart], list[ChatEvent]], rules: list[GuardrailRule], *, restores: bool
) -> None:
    parts, events = case
    vault = Vault()
    if restores:
        vault.put("EMAIL", "al@acme.io")
    answer = answer_of([parts])
    answer.choices[0].finish.reason = FinishReason.FINISH_REASON_TOOL_CALLS
    whole_tallies, stream_tallies = tallies_of(*rules), tallies_of(*rules)
    AnswerGuard(whole_tallies, vault=vault).apply(answer)
    guard = AnswerGuard(stream_tallies, vault=vault)
    folded = fold([passed for event in events for passed in guard.feed([event])])
    assert list(folded.choices) == list(answer.choices)
    assert findings(stream_tallies) == findings(whole_tallies)


@settings(deadline=None, max_examples=50)
@given(
    case=parallel_answers(),
    rules=st.lists(st.sampled_from([MASK, STOP, HARM]), min_size=1, max_size=2, unique_by=id),
)
def test_what_is_done_again_on_copies_gives_the_same(
    case: tuple[list[ContentPart], list[ChatEvent]], rules: list[GuardrailRule]
) -> None:
    _, events = case
    alone, guard = AnswerGuard(tallies_of(*rules)), AnswerGuard(tallies_of(*rules))
    for event in events:
        guard.copy().feed([deepcopy(event)])
        guard = guard.copy()
        assert guard.feed([deepcopy(event)]) == alone.feed([event])
    assert findings(guard.tallies) == findings(alone.tallies)


def test_a_copy_shares_what_waits_and_changes_none_of_it() -> None:
    def start(index: int, text: str) -> ChatEvent:
        return ChatEvent(part_start=PartStart(part_index=index, part=GROWING["text"](text)))

    guard = AnswerGuard(tallies_of(MASK, STOP), tool_names=frozenset({"f"}))
    cited = PartDelta(citation=Citation(cited_text=f"by {MAIL}", start_index=1))
    waits = PartDelta(part_index=1, text=f"Ask {MAIL}, or {MAIL}.")
    guard.feed([start(0, "One"), ChatEvent(part_delta=cited), start(1, ""), ChatEvent(part_delta=waits)])
    kept, size = list(guard.waiting_events), guard.waiting_characters
    saved = deepcopy(kept)
    copied, other = guard.copy(), guard.copy()
    assert [*map(id, copied.waiting_events)] == [*map(id, kept)]
    copied.feed([ChatEvent(part_delta=PartDelta(part_index=1, text="More"))])
    assert [len(list(each.waiting_events)) for each in (guard, copied, other)] == [2, 3, 2]
    ends = [ChatEvent(part_end=PartEnd(part_index=0)), ChatEvent(part_end=PartEnd(part_index=1))]
    assert MAIL not in str(copied.feed(ends))
    assert not list(copied.waiting_events)
    assert list(guard.waiting_events) == saved
    assert guard.waiting_characters == size
    assert str(guard.feed(ends)) == str(other.feed(ends))


@pytest.mark.parametrize("rule", [MASK, STOP], ids=["redact", "block"])
@pytest.mark.parametrize("offender", [0, 1, 2])
def test_every_order_of_the_pieces_of_parallel_tool_calls_gives_the_same(
    rule: GuardrailRule, offender: int
) -> None:
    pieces = [
        ['{"to": "', f"{name}@", 'acme.io"}'] if index == offender else ['{"to', '": "', 'me"}']
        for index, name in enumerate(("al", "jo", "mo"))
    ]
    parts = [GROWING["tool_call"]("".join(each)) for each in pieces]
    answer = answer_of([parts])
    AnswerGuard(tallies_of(rule)).apply(answer)
    starts = [
        ChatEvent(part_start=PartStart(part_index=index, part=GROWING["tool_call"]("")))
        for index in range(len(parts))
    ]
    finish = Finish(reason=FinishReason.FINISH_REASON_STOP)
    ends = [ChatEvent(choice_end=ChoiceEnd(finish=finish)), ChatEvent(end=StreamEnd())]
    for order in sorted(set(permutations([0, 0, 0, 1, 1, 1, 2, 2, 2]))):
        left = [iter(each) for each in pieces]
        deltas = [
            ChatEvent(part_delta=PartDelta(part_index=index, arguments=next(left[index]))) for index in order
        ]
        guard = AnswerGuard(tallies_of(rule))
        folded = fold(guard.feed([ChatEvent(start=StreamStart()), *starts, *deltas, *ends]))
        assert list(folded.choices) == list(answer.choices), order


def test_a_part_waits_only_where_one_before_it_may_be_stopped() -> None:
    def passed(*rules: GuardrailRule) -> list[str | None]:
        guard = AnswerGuard(tallies_of(*rules))
        events = [
            ChatEvent(part_start=PartStart(part_index=0, part=GROWING["tool_call"](""))),
            ChatEvent(part_start=PartStart(part_index=1, part=GROWING["tool_call"](""))),
        ]
        return [event.WhichOneof("event") for event in guard.feed(events)]

    assert passed(MASK) == ["part_start", "part_start"]
    assert passed(MASK, STOP) == ["part_start"]


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["My SSN is ", "219169994", "."], ["My SSN is ", "[SSN_REDACTED]", "."]),
        (["My SSN is", " ", "219169994"], ["My SSN is", " ", "[SSN_REDACTED]"]),
        ([f"{MAIL} has the SSN ", "219169994"], ["[EMAIL_REDACTED] has the SSN ", "[SSN_REDACTED]"]),
        (["Order ", "219169994"], ["Order ", "219169994"]),
    ],
)
def test_a_text_is_read_after_the_text_before_it(texts: list[str], left: list[str]) -> None:
    """Providers that cite cut one sentence into several parts."""
    answer = answer_of([[GROWING["text"](text) for text in texts]])
    events = list(events_of(answer, 3))
    AnswerGuard(tallies_of(MASK)).apply(answer)
    guard = AnswerGuard(tallies_of(MASK))
    folded = fold([passed for event in events for passed in guard.feed([event])])
    for choice in (*answer.choices, *folded.choices):
        assert [part.text.text for part in choice.message.parts] == left


def test_json_begins_no_words_of_the_part_behind_it() -> None:
    parts = [GROWING["text"]('["My SSN is "]'), GROWING["refusal"]("219169994")]
    answer = answer_of([parts])
    guard = AnswerGuard(tallies_of(MASK), is_json=True)
    folded = fold([passed for event in events_of(answer, 3) for passed in guard.feed([event])])
    AnswerGuard(tallies_of(MASK), is_json=True).apply(answer)
    for choice in (*answer.choices, *folded.choices):
        assert list(choice.message.parts) == parts


def test_what_stands_between_two_texts_parts_their_words() -> None:
    parts = [GROWING["text"]("My SSN is "), GROWING["reasoning"]("Well."), GROWING["text"]("219169994")]
    answer = answer_of([parts])
    AnswerGuard(tallies_of(MASK)).apply(answer)
    assert list(answer.choices[0].message.parts) == parts


def test_a_text_waits_for_the_text_before_it_and_a_tool_call_does_not() -> None:
    def start(index: int, kind: str) -> ChatEvent:
        return ChatEvent(part_start=PartStart(part_index=index, part=GROWING[kind]("")))

    guard = AnswerGuard(tallies_of(MASK))
    assert len(guard.feed([start(0, "text"), start(1, "tool_call"), start(2, "text")])) == 3
    guard = AnswerGuard(tallies_of(MASK))
    growing = ChatEvent(part_delta=PartDelta(part_index=1, text="219169994"))
    assert len(guard.feed([start(0, "text"), start(1, "text"), growing, start(2, "tool_call")])) == 1
    said_first = ChatEvent(part_delta=PartDelta(part_index=0, text="My SSN is "))
    ends = [ChatEvent(part_end=PartEnd(part_index=index)) for index in range(3)]
    passed = guard.feed([said_first, *ends])
    assert "".join(each.part_delta.text for each in passed) == "My SSN is [SSN_REDACTED]"
    assert [each.part_end.part_index for each in passed if each.HasField("part_end")] == [0, 1, 2]


def test_a_stream_that_breaks_off_shows_of_parallel_parts_what_the_rules_let_pass() -> None:
    def begun(index: int, text: str) -> list[ChatEvent]:
        return [
            ChatEvent(part_start=PartStart(part_index=index, part=GROWING["tool_call"](""))),
            ChatEvent(part_delta=PartDelta(part_index=index, arguments=text)),
        ]

    def shown(first: str, second: str) -> list[str]:
        guard = AnswerGuard(tallies_of(STOP))
        events = guard.feed([ChatEvent(start=StreamStart()), *begun(0, first), *begun(1, second)])
        [choice] = fold([*events, *guard.cut()]).choices
        return [part.tool_call.arguments for part in choice.message.parts]

    assert shown('["fine', '["fine too') == ['["fine', '["fine too']
    assert shown(f'["{MAIL}', '["fine too') == ['["']


def test_places_of_citations_move_with_what_is_masked() -> None:
    text = f"Ask {MAIL} about it."
    part = ContentPart(text=TextPart(text=text))
    for start, end in ((0, 3), (4, 14), (6, 10), (15, 20)):
        part.text.citations.add(start_index=start, end_index=end)
    answer = answer_of([[part]])
    AnswerGuard(tallies_of(MASK)).apply(answer)
    masked = answer.choices[0].message.parts[0].text
    assert masked.text == "Ask [EMAIL_REDACTED] about it."

    def cited(citation: Citation) -> str:
        return masked.text[citation.start_index : citation.end_index]

    assert [cited(each) for each in masked.citations] == [
        "Ask",
        "[EMAIL_REDACTED]",
        "[EMAIL_REDACTED]",
        "about",
    ]


WORDY = b'{"kind": "new", "said": "by %s"}' % MAIL.encode()


@pytest.mark.parametrize("rule", [MASK, STOP], ids=["redact", "block"])
@pytest.mark.parametrize(
    "citation",
    [
        Citation(cited_text=f"by {MAIL}", provider_signature=WORDY),
        Citation(title=MAIL, provider_signature=b"opaque"),
        Citation(uri=f"https://acme.io/?to={MAIL}", provider_signature=b"opaque"),
        Citation(title="what only the signature says", provider_signature=WORDY),
    ],
    ids=["words", "title", "address", "signature"],
)
def test_nothing_of_a_citation_says_what_is_masked(rule: GuardrailRule, citation: Citation) -> None:
    part = ContentPart(text=TextPart(text="Ask.", citations=[citation]))
    answer = answer_of([[part]])
    AnswerGuard(tallies_of(rule)).apply(answer)
    assert MAIL.encode() not in answer.SerializeToString()
    [cited] = answer.choices[0].message.parts[0].text.citations
    assert not cited.provider_signature


def test_a_citation_in_which_nothing_is_found_stays_as_it_is() -> None:
    citation = Citation(
        cited_text="by nobody", uri="https://acme.io/", provider_signature=b'{"index": "Eo8B"}'
    )
    answer = answer_of([[ContentPart(text=TextPart(text=f"Ask {MAIL}", citations=[citation]))]])
    AnswerGuard(tallies_of(MASK, WORD)).apply(answer)
    assert list(answer.choices[0].message.parts[0].text.citations) == [citation]


SSN = {"ssn": 219169994}


def kept(rule: GuardrailRule, choices: list[list[ContentPart]], metadata: Sequence[Any]) -> list[bool]:
    """Whether what the provider reported is kept, of the answer and of each choice; streamed and whole."""
    answer = answer_of(choices, metadata)
    guard = AnswerGuard(tallies_of(rule), choices=len(choices))
    folded = fold([passed for event in events_of(answer, 3) for passed in guard.feed([event])])
    AnswerGuard(tallies_of(rule), choices=len(choices)).apply(answer)
    assert folded == answer
    return [each.HasField("provider_metadata") for each in (answer, *answer.choices)]


@pytest.mark.parametrize("rule", [MASK, STOP], ids=["redact", "block"])
def test_what_a_provider_reports_says_nothing_that_is_masked(rule: GuardrailRule) -> None:
    fine, wordy = {"rating": "LOW", "n": 1.5, "none": None}, {"segments": [{"text": f"by {MAIL}"}]}
    choices = [[GROWING["text"]("Ask.")], [GROWING["text"]("Nobody.")]]
    assert kept(rule, choices, [fine, fine, fine]) == [True, True, True]
    assert kept(rule, choices, [fine, wordy, fine]) == [True, False, True]
    assert kept(rule, choices, [wordy, fine, SSN]) == [False, True, False]
    assert kept(rule, choices, [fine, {MAIL: 1}, fine]) == [True, False, True]


@pytest.mark.parametrize("rule", [MASK, STOP], ids=["redact", "block"])
@pytest.mark.parametrize(
    "part",
    [
        *(grow(f"Ask {MAIL}") for grow in GROWING.values()),
        ContentPart(text=TextPart(text="Ask.", citations=[Citation(title=MAIL)])),
        ContentPart(provider=ProviderPart(provider_type="p", block_json=json.dumps([MAIL]))),
        ContentPart(
            tool_result=ToolResultPart(
                tool_call_id="c", parts=[ContentPart(text=TextPart(text=f"Ask {MAIL}"))]
            )
        ),
    ],
    ids=[*GROWING, "citation", "provider", "tool_result"],
)
def test_what_a_provider_reports_beside_changed_words_goes(rule: GuardrailRule, part: ContentPart) -> None:
    """It may hold a piece of them that says nothing by itself, such as a number without its name."""
    fine = {"segments": ["219169994"]}
    choices = [[GROWING["text"]("Nobody.")], [part]]
    assert kept(rule, choices, [fine, fine, fine]) == [False, True, False]


def test_rules_that_only_log_leave_what_a_provider_reports() -> None:
    log = GuardrailRule(action=LOG, pii=PiiDetector())
    assert kept(log, [[GROWING["text"](MAIL)]], [SSN, SSN]) == [True, True]


def test_a_signature_goes_when_its_text_is_not_the_models_own_any_more() -> None:
    parts = [GROWING["reasoning"](text) for text in (f"about {MAIL}", "about nobody")]
    for part in parts:
        part.provider_signature = b"signed"
    answer = answer_of([parts])
    AnswerGuard(tallies_of(MASK)).apply(answer)
    assert [part.provider_signature for part in answer.choices[0].message.parts] == [b"", b"signed"]


values = st.recursive(
    said | st.sampled_from([219169994, 4111111111111111, 0.5, True, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(said, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    value=values,
    indent=st.sampled_from([None, 1]),
    beside=said,
    rules=st.lists(st.sampled_from([MASK, STOP, HARM, WORD]), min_size=1, max_size=3, unique_by=id),
    size=st.integers(1, 9),
)
@example({"My SSN is 219-16-9994jo@acme.iojo@acme.iojo@acme.io": 219169994}, None, "", [MASK], 1)
def test_an_answer_that_was_to_be_json_stays_json(
    value: object, indent: int | None, beside: str, rules: list[GuardrailRule], size: int
) -> None:
    vault = Vault()
    vault.put("EMAIL", 'a"l@acme.io')
    text = json.dumps({"social_security_number": value}, ensure_ascii=indent is None, indent=indent)
    choices = [[GROWING["reasoning"](beside), GROWING["text"](text), GROWING["text"](beside)]]
    answer = answer_of(choices)
    whole_tallies, stream_tallies = tallies_of(*rules), tallies_of(*rules)
    AnswerGuard(whole_tallies, vault=vault, is_json=True).apply(answer)
    guard = AnswerGuard(stream_tallies, vault=vault, is_json=True)
    folded = fold([passed for event in events_of(answer_of(choices), size) for passed in guard.feed([event])])
    assert list(folded.choices) == list(answer.choices)
    assert findings(stream_tallies) == findings(whole_tallies)
    if all(rule in (MASK, WORD) for rule in rules):
        left = json.loads(answer.choices[0].message.parts[1].text.text)
        assert shape(left["social_security_number"]) == shape(value)


def shape(value: object) -> object:
    """How many values JSON has, and where, whatever they and their names are."""
    match value:
        case dict():
            return [shape(each) for each in value.values()]
        case list():
            return [shape(each) for each in value]
        case _:
            return None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"a@x.io": 1, "b@x.io": 2, "c@x.io": 3}', '{"%": 1, "%_2": 2, "%_3": 3}'),
        ('{"to a@x.io": 1, "to b@x.io": 2, "b@x.io": 3}', '{"to %": 1, "to %_2": 2, "%": 3}'),
        ('{"a@x.io": {"b@x.io": 1, "c@x.io": 2}, "d@x.io": [{"e@x.io": 3}]}',
         '{"%": {"%": 1, "%_2": 2}, "%_2": [{"%": 3}]}'),
        ('[{"a@x.io": 1}, {"b@x.io": 2}]', '[{"%": 1}, {"%": 2}]'),
        ('{"%": 1, "a@x.io": 2}', '{"%": 1, "%_2": 2}'),
        ('{"a@x.io": 1, "%": 2, "%_2": 3, "%_3": 4}', '{"%": 1, "%_2": 2, "%_2_2": 3, "%_3": 4}'),
        ('{"%_2": 1, "a@x.io": 2, "b@x.io": 3}', '{"%_2": 1, "%": 2, "%_3": 3}'),
        ('{"a@x.io": 1, "\\u005bEMAIL_REDACTED]": 2}', '{"%": 1, "\\u005bEMAIL_REDACTED]_2": 2}'),
        ('{"%": 1, "%": 2, "n": 3, "n": 4}', '{"%": 1, "%": 2, "n": 3, "n": 4}'),
        ('{"a": "a@x.io", "b": "b@x.io"}', '{"a": "%", "b": "%"}'),
    ],
)  # fmt: skip
def test_masked_names_of_one_object_stay_apart(text: str, left: str) -> None:
    text, left = text.replace("%", "[EMAIL_REDACTED]"), left.replace("%", "[EMAIL_REDACTED]")
    answer = answer_of([[GROWING["tool_call"](text)]])
    AnswerGuard(tallies_of(MASK)).apply(answer)
    assert answer.choices[0].message.parts[0].tool_call.arguments == left
    for size in (1, 2, 7):
        guard = AnswerGuard(tallies_of(MASK))
        passed: list[ChatEvent] = []
        for event in events_of(answer_of([[GROWING["tool_call"](text)]]), size):
            passed += guard.feed([event])
            guard = guard.copy()
        assert fold(passed).choices == answer.choices


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"ssn": 219169994}', '{"ssn": "[SSN_REDACTED]"}'),
        ('{"to": "jo\\u0040acme.io"}', '{"to": "[EMAIL_REDACTED]"}'),
        ('["caf\\u00e9", 1.50]', '["caf\\u00e9", 1.50]'),
        (f"Sorry, ask {MAIL}", "Sorry, ask [EMAIL_REDACTED]"),
    ],
    ids=["number", "escapes", "untouched", "no JSON"],
)
def test_what_its_strings_and_numbers_say_is_masked(text: str, left: str) -> None:
    answer = answer_of([[GROWING["text"](text)]])
    AnswerGuard(tallies_of(MASK), is_json=True).apply(answer)
    assert answer.choices[0].message.parts[0].text.text == left


def test_a_citation_of_json_that_was_changed_tells_no_place() -> None:
    def cited(text: str) -> Citation:
        part = ContentPart(
            text=TextPart(text=text, citations=[Citation(start_index=1, end_index=5, title="t")])
        )
        answer = answer_of([[part]])
        AnswerGuard(tallies_of(MASK), is_json=True).apply(answer)
        [citation] = answer.choices[0].message.parts[0].text.citations
        return citation

    assert cited('["fine"]') == Citation(start_index=1, end_index=5, title="t")
    assert cited(f'["{MAIL}"]') == Citation(title="t")


def test_nothing_of_a_tools_result_comes_after_what_is_stopped() -> None:
    texts = ["All is well.", "Well. HATE. More.", "HATE"]
    parts = [ContentPart(text=TextPart(text=text)) for text in texts]
    result = ContentPart(tool_result=ToolResultPart(tool_call_id="c", parts=parts))
    answer = answer_of([[result, GROWING["text"]("More.")]])
    folded = fold(AnswerGuard(tallies_of(HARM)).feed(list(events_of(answer, 3))))
    AnswerGuard(tallies_of(HARM)).apply(answer)
    assert folded == answer
    [left] = answer.choices[0].message.parts
    assert [part.text.text for part in left.tool_result.parts] == ["All is well.", "Well."]
    assert answer.choices[0].finish.reason == FinishReason.FINISH_REASON_GUARDRAIL


def test_a_choice_that_is_stopped_leaves_the_others_alone() -> None:
    answer = answer_of([[GROWING["text"]("Well. HATE. More.")], [GROWING["text"]("All is well.")]])
    events = list(events_of(answer, 3))
    guard = AnswerGuard(tallies_of(HARM), choices=2)
    folded = fold(guard.feed(events))
    assert [choice.message.parts[0].text.text for choice in folded.choices] == ["Well.", "All is well."]
    assert [choice.finish.reason for choice in folded.choices] == [
        FinishReason.FINISH_REASON_GUARDRAIL,
        FinishReason.FINISH_REASON_STOP,
    ]
    assert not guard.is_stopped
