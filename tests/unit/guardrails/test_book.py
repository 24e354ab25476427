"""Profiles as the store has them."""

import pytest

from aigateway.v1.content_pb2 import Role
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailPart,
    GuardrailProfile,
    GuardrailRule,
    PatternDetector,
    PiiDetector,
)
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.book import ProfileBook
from tests.support.text_models import WordModels


def with_pattern(pattern: str, etag: str) -> GuardrailProfile:
    rule = GuardrailRule(
        rule_id="a",
        action=GuardrailAction.GUARDRAIL_ACTION_LOG,
        pattern=PatternDetector(patterns=[pattern]),
    )
    return GuardrailProfile(name="guardrailProfiles/p", etag=etag, input_rules=[rule])


async def test_the_error_of_a_profile_that_cannot_work_says_why_until_it_can() -> None:
    stored = [with_pattern("(word-of-the-admin", "1")]

    async def load() -> list[GuardrailProfile]:
        return stored

    book = ProfileBook(load, WordModels)
    for why in ("see guardrail_profile.input_rules[0].pattern.patterns[0]", "it is not there"):
        await book.refresh()
        with pytest.raises(GatewayError) as caught:
            book.get(["guardrailProfiles/p"])
        assert caught.value.reason_name == "GUARDRAIL_FAILED"
        assert caught.value.message.startswith(
            "guardrailProfiles/p cannot be used, and calls do not pass without it"
        )
        assert why in caught.value.message
        assert "word-of-the-admin" not in caught.value.message, "callers are not told what is looked for"
        assert caught.value.metadata["guardrail_profile"] == "guardrailProfiles/p"
        stored = []
    stored = [with_pattern("x", "2")]
    await book.refresh()
    assert [profile.name for profile in book.get(["guardrailProfiles/p"])] == ["guardrailProfiles/p"]


async def test_roles_of_output_rules_are_refused_when_written_and_do_not_break_what_is_stored() -> None:
    rule = GuardrailRule(
        rule_id="a", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=PiiDetector(), roles=[Role.ROLE_USER]
    )
    stored = GuardrailProfile(name="guardrailProfiles/p", etag="1", output_rules=[rule])

    async def load() -> list[GuardrailProfile]:
        return [stored]

    book = ProfileBook(load, WordModels)
    with pytest.raises(GatewayError, match="answers are the assistant's"):
        await book.validate(stored)
    await book.refresh()
    assert len(book.get(["guardrailProfiles/p"])) == 1

    rule.roles[:] = [Role.ROLE_USER, Role.ROLE_ASSISTANT]
    await book.validate(GuardrailProfile(output_rules=[rule]))
    rule.roles[:] = [Role.ROLE_USER]
    await book.validate(GuardrailProfile(input_rules=[rule]))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (GuardrailPart.GUARDRAIL_PART_TOOL_DEFINITION, "tool_definition"),
        (GuardrailPart.GUARDRAIL_PART_RESPONSE_FORMAT, "response_format"),
    ],
)
async def test_output_rules_that_choose_what_answers_never_have_are_refused(
    part: GuardrailPart.ValueType, name: str
) -> None:
    async def load() -> list[GuardrailProfile]:
        return []

    rule = GuardrailRule(
        rule_id="a", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=PiiDetector(), parts=[part]
    )
    book = ProfileBook(load, WordModels)
    await book.validate(GuardrailProfile(name="guardrailProfiles/p", input_rules=[rule]))
    with pytest.raises(GatewayError, match=rf"output_rules\[0\].parts: answers have no {name}"):
        await book.validate(GuardrailProfile(name="guardrailProfiles/p", output_rules=[rule]))
