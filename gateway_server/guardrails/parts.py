"""What a rule may read: the kinds of parts of requests and answers."""

import re
from typing import Final

from aigateway.v1.guardrail_profile_pb2 import GuardrailPart

PartKinds = frozenset[GuardrailPart.ValueType]

ALL_PARTS: Final[PartKinds] = frozenset(part for part in GuardrailPart.values() if part)
#: What no rule can read but for what is written beside it. It is missed only where a rule asks for it.
MEDIA_PARTS: Final[PartKinds] = frozenset(
    {
        GuardrailPart.GUARDRAIL_PART_IMAGE,
        GuardrailPart.GUARDRAIL_PART_AUDIO,
        GuardrailPart.GUARDRAIL_PART_VIDEO,
    }
)
#: What answers never have.
REQUEST_PARTS: Final[PartKinds] = frozenset(
    {GuardrailPart.GUARDRAIL_PART_TOOL_DEFINITION, GuardrailPart.GUARDRAIL_PART_RESPONSE_FORMAT}
)
#: What stays what it is in a tool's result too.
ATTACHED: Final[PartKinds] = MEDIA_PARTS | {GuardrailPart.GUARDRAIL_PART_DOCUMENT}

#: A name that a program gave something; it gives nobody orders.
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")

_BY_KIND: Final = {
    "text": GuardrailPart.GUARDRAIL_PART_TEXT,
    "refusal": GuardrailPart.GUARDRAIL_PART_TEXT,
    "reasoning": GuardrailPart.GUARDRAIL_PART_REASONING,
    "tool_call": GuardrailPart.GUARDRAIL_PART_TOOL_CALL,
    "tool_result": GuardrailPart.GUARDRAIL_PART_TOOL_RESULT,
    "document": GuardrailPart.GUARDRAIL_PART_DOCUMENT,
    "image": GuardrailPart.GUARDRAIL_PART_IMAGE,
    "audio": GuardrailPart.GUARDRAIL_PART_AUDIO,
    "video": GuardrailPart.GUARDRAIL_PART_VIDEO,
    "provider": GuardrailPart.GUARDRAIL_PART_PROVIDER,
}


def part_of(kind: str, *, in_result: bool = False) -> GuardrailPart.ValueType:
    """As what a part of content of this ``kind`` is read, in a tool's result or outside of one."""
    part = _BY_KIND[kind]
    return GuardrailPart.GUARDRAIL_PART_TOOL_RESULT if in_result and part not in ATTACHED else part


def name_of(part: GuardrailPart.ValueType) -> str:
    """As results and metrics name it: ``tool_call``."""
    return GuardrailPart.Name(part).removeprefix("GUARDRAIL_PART_").lower()
