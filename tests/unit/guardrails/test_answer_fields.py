"""Every field of an answer that can carry words is read by rules, or it is said why not."""

from collections.abc import Iterator

import pytest

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    PartEnd,
    PartStart,
)
from aigateway.v1.content_pb2 import ContentPart
from aigateway.v1.guardrail_profile_pb2 import GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.guardrails.answer import AnswerGuard
from gateway_server.guardrails.parts import ALL_PARTS, REQUEST_PARTS
from tests.unit.guardrails.test_request_fields import Path, paths_of, put
from tests.unit.guardrails.test_text_guard import tallies_of

MASK = GuardrailRule(
    action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
    pii=PiiDetector(),
    parts=sorted(ALL_PARTS - REQUEST_PARTS),
)

OF_MEDIA = "bytes of a picture or of sound, which are told as unread"
OF_GATEWAY = "the gateway's own word"
OF_PROBABILITIES = "a request for it is refused where rules change answers"
#: Fields that no rule reads, by the end of their way.
UNREAD = {
    "id": OF_GATEWAY,
    "model": "the caller's own word",
    "served_by.provider": OF_GATEWAY,
    "served_by.provider_model": "the operator's word",
    "served_by.provider_response_id": "an id",
    "cost.currency_code": OF_GATEWAY,
    "guardrail_results.guardrail_profile": OF_GATEWAY,
    "guardrail_results.rule": "the operator's word",
    "attempts.provider": OF_GATEWAY,
    "attempts.provider_model": "the operator's word",
    "attempts.error_reason": OF_GATEWAY,
    "message.author": "of turns in requests; no format writes it",
    "finish.provider_reason": "chosen from the provider's list",
    "finish.stop_sequence": "the caller's own word",
    "logprobs.token": OF_PROBABILITIES,
    "logprobs.token_bytes": OF_PROBABILITIES,
    "top_logprobs.token": OF_PROBABILITIES,
    "top_logprobs.token_bytes": OF_PROBABILITIES,
    "image.source.inline_data": OF_MEDIA,
    "audio.source.inline_data": OF_MEDIA,
    "video.source.inline_data": OF_MEDIA,
    "part_delta.inline_data": OF_MEDIA,
    "source.uri": "an address, which cannot be changed; what it leads to is told as unread",
    "source.provider_file_id": "an id; what it stands for is told as unread",
    "source.mime_type": "a type",
    "tool_call.tool_call_id": "links a result to its call",
    "tool_result.tool_call_id": "links a result to its call",
    "reasoning.redacted_data": "sealed by a provider",
    "refusal.category": "chosen from the provider's list",
    "provider.provider_type": "chooses a format",
    "provider.block_type": "chosen from the provider's list",
    "citations.provider_file_id": "an id",
    "citation.provider_file_id": "an id",
}
#: Of parts without a kind, which there are none of; signatures of others have a test in test_answer.
KINDLESS = ("parts.provider_signature", "part.provider_signature")
#: For each delta a kind of part that grows by it.
GROWN_BY = {
    "text": "text",
    "reasoning_text": "reasoning",
    "arguments": "tool_call",
    "inline_data": "audio",
    "transcript": "audio",
    "citation": "text",
    "provider_signature": "reasoning",
}


def dotted(path: Path) -> str:
    return ".".join(field.name for field in path)


def reason_of(way: str) -> str:
    """Why nothing at the end of this way is read; empty when it is to be."""
    return next((why for end, why in UNREAD.items() if f".{way}".endswith(f".{end}")), "")


def is_kept(answer: ChatCompletion) -> bool:
    AnswerGuard(tallies_of(MASK)).apply(answer)
    return b"jo@acme.io" in answer.SerializeToString()


def is_passed_on(event: ChatEvent) -> bool:
    events = [event]
    if event.HasField("part_delta"):
        if event.part_delta.WhichOneof("delta") is None:
            event.part_delta.text = "x"  # log probabilities come beside a delta
        part = ContentPart()
        getattr(part, GROWN_BY[str(event.part_delta.WhichOneof("delta"))]).SetInParent()
        events = [ChatEvent(part_start=PartStart(part=part)), event, ChatEvent(part_end=PartEnd())]
    elif event.HasField("part_start"):
        events.append(ChatEvent(part_end=PartEnd()))
    passed = AnswerGuard(tallies_of(MASK)).feed(events)
    return any(b"jo@acme.io" in each.SerializeToString() for each in passed)


def ways_of(kind: type[ChatCompletion | ChatEvent]) -> Iterator[tuple[str, bool]]:
    """The way to each field that can hold words, and whether they come out as they were."""
    for path in paths_of(kind.DESCRIPTOR):
        way, message = dotted(path), kind()
        if way.endswith(KINDLESS):
            continue
        put(message, path)
        yield way, is_passed_on(message) if isinstance(message, ChatEvent) else is_kept(message)


@pytest.mark.parametrize("kind", [ChatCompletion, ChatEvent])
def test_every_field_with_words_is_read_or_it_is_said_why_not(kind: type[ChatCompletion | ChatEvent]) -> None:
    ways = dict(ways_of(kind))
    assert len(ways) > len(UNREAD)
    assert [way for way, is_left in ways.items() if is_left != bool(reason_of(way))] == []


def test_every_reason_is_of_a_field() -> None:
    ways = [f".{dotted(path)}" for kind in (ChatCompletion, ChatEvent) for path in paths_of(kind.DESCRIPTOR)]
    assert [end for end in UNREAD if not any(way.endswith(f".{end}") for way in ways)] == []
