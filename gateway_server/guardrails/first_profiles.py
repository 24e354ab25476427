"""The profiles that every gateway has from its first start: ``default``, ``strict`` and ``off``."""

from collections.abc import Mapping

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from gateway_server.guardrails.rules import REDACT


def first_profiles() -> Mapping[str, GuardrailProfile]:
    """By id; made anew, so that whoever stores them may change them."""
    return {
        "default": GuardrailProfile(
            display_name="Masks personal data",
            input_rules=[_pii()],
            output_rules=[_pii()],
        ),
        "off": GuardrailProfile(display_name="Checks nothing"),
    }


def _pii() -> GuardrailRule:
    return GuardrailRule(rule_id="pii", action=REDACT, pii=PiiDetector())
