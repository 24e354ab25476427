"""Folding the events of a stream gives exactly the unary answer."""

import time
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigateway.errors import GatewayError, StreamProtocolError
from aigateway.fold import ChatAccumulator, fold_events
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    Choice,
    ChoiceEnd,
    Finish,
    PartDelta,
    PartEnd,
    PartStart,
    StreamEnd,
    StreamStart,
)
from aigateway.v1.content_pb2 import (
    AudioPart,
    ContentPart,
    ImagePart,
    MediaSource,
    Message,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    VideoPart,
)
from aigateway.v1.usage_pb2 import TokenUsage
from tests.sdk.completions import completions, pack, split

START = ChatEvent(start=StreamStart(id="c1", model="gpt"))
TEXT = ChatEvent(part_start=PartStart(part=ContentPart(text=TextPart(text="a"))))
GROW = ChatEvent(part_delta=PartDelta(text="b"))
PART_END = ChatEvent(part_end=PartEnd())
CHOICE_END = ChatEvent(choice_end=ChoiceEnd(finish=Finish(stop_sequence="x")))
END = ChatEvent(end=StreamEnd(usage=TokenUsage(input_tokens=1)))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(completion=completions(), random=st.randoms(use_true_random=False))
def test_folding_all_events_of_any_split_gives_the_unary_answer(
    completion: ChatCompletion, random: Random
) -> None:
    events = split(completion, random)

    assert fold_events(events) == completion


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(completion=completions(), random=st.randoms(use_true_random=False))
def test_how_events_are_packed_into_messages_and_when_one_looks_makes_no_difference(
    completion: ChatCompletion, random: Random
) -> None:
    accumulator = ChatAccumulator()
    for chunk in pack(split(completion, random), random):
        assert not accumulator.finished
        accumulator.add_chunk(chunk)
        if random.random() < 0.5:
            assert accumulator.completion is accumulator.completion

    assert accumulator.finished
    assert accumulator.completion == completion


def _part(kind: str, tail: str) -> ContentPart:
    data = MediaSource(inline_data=tail.encode(), mime_type="x/y")
    match kind:
        case "text":
            return ContentPart(text=TextPart(text=tail))
        case "refusal":
            return ContentPart(refusal=RefusalPart(text=tail))
        case "reasoning":
            return ContentPart(reasoning=ReasoningPart(text=tail, is_summary=True))
        case "tool_call":
            return ContentPart(tool_call=ToolCallPart(tool_call_id="t", tool_name="n", arguments=tail))
        case "image":
            return ContentPart(image=ImagePart(source=data))
        case "video":
            return ContentPart(video=VideoPart(source=data))
        case "audio":
            return ContentPart(audio=AudioPart(source=data, transcript=tail))
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["text", "refusal", "reasoning", "tool_call", "image", "video", "audio"])
def test_every_kind_that_grows_is_appended_to_what_its_start_held(kind: str) -> None:
    match kind:
        case "reasoning":
            deltas = [PartDelta(reasoning_text=piece) for piece in ("b", "", "cd")]
        case "tool_call":
            deltas = [PartDelta(arguments=piece) for piece in ("b", "", "cd")]
        case "image" | "video" | "audio":
            deltas = [PartDelta(inline_data=piece) for piece in (b"b", b"", b"cd")]
        case _:
            deltas = [PartDelta(text=piece) for piece in ("b", "", "cd")]
    if kind == "audio":
        deltas += [PartDelta(transcript="bcd")]
    grown = [ChatEvent(part_delta=delta) for delta in deltas]

    begun = ChatEvent(part_start=PartStart(part=_part(kind, "a")))
    folded = fold_events([START, begun, *grown, PART_END, CHOICE_END, END])

    assert list(folded.choices[0].message.parts) == [_part(kind, "abcd")]


def test_a_partial_answer_is_what_came_until_then() -> None:
    accumulator = ChatAccumulator()
    for event in (START, TEXT, GROW):
        accumulator.add(event)
    before = accumulator.completion
    accumulator.add(GROW)

    def answer(text: str) -> ChatCompletion:
        message = Message(role=Role.ROLE_ASSISTANT, parts=[ContentPart(text=TextPart(text=text))])
        return ChatCompletion(id="c1", model="gpt", choices=[Choice(message=message)])

    assert accumulator.completion == answer("abb")
    assert before == answer("ab")
    assert not accumulator.finished
    assert ChatAccumulator().completion == ChatCompletion()


def test_choices_come_in_the_order_of_their_index() -> None:
    second = ChatEvent(choice_end=ChoiceEnd(choice_index=1))

    folded = fold_events([START, second, TEXT, CHOICE_END, END])

    assert [choice.index for choice in folded.choices] == [0, 1]


UNKNOWN_EVENT = ChatEvent.FromString(b"\xfa\x01\x00")
UNKNOWN_DELTA = ChatEvent(part_delta=PartDelta())
UNKNOWN_PART = ChatEvent(part_start=PartStart(part=ContentPart()))
CALL = ChatEvent(part_start=PartStart(part=ContentPart(tool_call=ToolCallPart(tool_call_id="t"))))
LINKED_IMAGE = ChatEvent(
    part_start=PartStart(part=ContentPart(image=ImagePart(source=MediaSource(uri="http://x"))))
)
BYTES = ChatEvent(part_delta=PartDelta(inline_data=b"x"))
SECOND_PART = ChatEvent(part_start=PartStart(part_index=1, part=TEXT.part_start.part))
NEGATIVE_PART = ChatEvent(part_delta=PartDelta(part_index=-1, text="x"))
NEGATIVE_CHOICE = ChatEvent(part_start=PartStart(choice_index=-1, part=TEXT.part_start.part))


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([TEXT], "part_start came before start"),
        ([END], "end came before start"),
        ([START, START], "start came twice"),
        ([START, GROW], "choice 0 has no part 0"),
        ([START, PART_END], "choice 0 has no part 0"),
        ([START, TEXT, TEXT], "part 0 of choice 0 was started in the place of part 1"),
        ([START, SECOND_PART], "part 1 of choice 0 was started in the place of part 0"),
        ([START, TEXT, NEGATIVE_PART], "part -1 of choice 0 was never started"),
        ([START, NEGATIVE_CHOICE], "-1 is not the index of a choice"),
        ([START, TEXT, PART_END, GROW], "part 0 of choice 0 grew or ended after it had ended"),
        ([START, TEXT, PART_END, PART_END], "part 0 of choice 0 grew or ended after it had ended"),
        ([START, TEXT, CHOICE_END, GROW], "part 0 of choice 0 grew or ended after it had ended"),
        ([START, TEXT, CHOICE_END, SECOND_PART], "part 1 of choice 0 came after the choice had ended"),
        ([START, CHOICE_END, CHOICE_END], "choice 0 ended twice"),
        ([START, TEXT, END], "the stream ended before choice 0 did"),
        ([START, TEXT, CHOICE_END, END, END], "end came after the end of the stream"),
        ([START, CALL, GROW], "part 0 of choice 0 is tool_call and cannot grow by text"),
        ([START, TEXT, BYTES], "part 0 of choice 0 is text and cannot grow by inline_data"),
        ([START, LINKED_IMAGE, BYTES], "part 0 of choice 0 has no inline data to grow"),
        ([START, UNKNOWN_EVENT], "an event of a kind that this version of the SDK does not know"),
        ([START, TEXT, UNKNOWN_DELTA], "grew by something that this version of the SDK does not know"),
        ([START, UNKNOWN_PART], "is of a kind that this version of the SDK does not know"),
    ],
)
def test_an_event_that_does_not_fit_is_refused_and_changes_nothing(
    events: list[ChatEvent], message: str
) -> None:
    accumulator = ChatAccumulator()
    for event in events[:-1]:
        accumulator.add(event)
    before = accumulator.completion.SerializeToString(deterministic=True)
    accumulator._snapshot = None

    with pytest.raises(StreamProtocolError, match=message) as caught:
        accumulator.add(events[-1])

    assert isinstance(caught.value, GatewayError)
    assert accumulator.completion.SerializeToString(deterministic=True) == before


def test_a_stream_without_an_end_is_no_answer() -> None:
    with pytest.raises(StreamProtocolError, match="without an end"):
        fold_events([START, TEXT, CHOICE_END])


def test_time_grows_in_proportion_to_the_stream() -> None:
    def seconds(count: int) -> float:
        deltas = [GROW] * count
        began = time.process_time()
        accumulator = ChatAccumulator()
        accumulator.add(START)
        accumulator.add(TEXT)
        for delta in deltas:
            accumulator.add(delta)
        assert len(accumulator.completion.choices[0].message.parts[0].text.text) == count + 1
        return time.process_time() - began

    seconds(1_000)
    short, long = min(seconds(10_000) for _ in range(3)), min(seconds(100_000) for _ in range(3))

    # Ten times as long a stream; a fold that copied the text at each delta would take a hundred times.
    assert long < 25 * short
