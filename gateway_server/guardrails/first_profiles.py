"""The profiles that every gateway has from its first start: ``default``, ``strict`` and ``off``."""

from collections.abc import Mapping
from typing import Final

from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailProfile,
    GuardrailRule,
    JailbreakDetector,
    ModerationDetector,
    PiiDetector,
    PromptInjectionDetector,
)
from gateway_server.guardrails.rules import BLOCK, REDACT
from gateway_server.guardrails.text.models import CATEGORIES

#: Where about one harmless text in thirty is stopped, in place of one in a hundred.
_STRICT: Final = 0.35


def first_profiles() -> Mapping[str, GuardrailProfile]:
    """By id; made anew, so that whoever stores them may change them."""
    return {
        "default": GuardrailProfile(
            display_name="Masks personal data, stops attacks",
            input_rules=[
                GuardrailRule(
                    rule_id="prompt-injection", action=BLOCK, prompt_injection=PromptInjectionDetector()
                ),
                GuardrailRule(rule_id="jailbreak", action=BLOCK, jailbreak=JailbreakDetector()),
                _pii(),
            ],
            output_rules=[_pii()],
        ),
        "strict": GuardrailProfile(
            display_name="Masks personal data, stops attacks and harm, in doubt too",
            input_rules=[
                GuardrailRule(
                    rule_id="prompt-injection",
                    action=BLOCK,
                    prompt_injection=PromptInjectionDetector(
                        min_score=_STRICT, strict_for_retrieved_content=True
                    ),
                ),
                GuardrailRule(
                    rule_id="jailbreak", action=BLOCK, jailbreak=JailbreakDetector(min_score=_STRICT)
                ),
                _pii(),
                _moderation(dict.fromkeys(CATEGORIES, _STRICT)),
            ],
            output_rules=[_pii(), _moderation({})],
        ),
        "off": GuardrailProfile(display_name="Checks nothing"),
    }


def _pii() -> GuardrailRule:
    return GuardrailRule(rule_id="pii", action=REDACT, pii=PiiDetector())


def _moderation(min_scores: Mapping[str, float]) -> GuardrailRule:
    return GuardrailRule(
        rule_id="moderation", action=BLOCK, moderation=ModerationDetector(min_scores=min_scores)
    )
