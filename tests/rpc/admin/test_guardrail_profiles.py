from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from aigateway.v1.admin_service_pb2 import (
    CreateGuardrailProfileRequest,
    CreateTenantRequest,
    DeleteGuardrailProfileRequest,
    GetGuardrailProfileRequest,
    ListGuardrailProfilesRequest,
    UpdateGuardrailProfileRequest,
)
from aigateway.v1.admin_service_pb2 import (
    TestGuardrailProfileRequest as TryRequest,
)
from aigateway.v1.content_pb2 import Role
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailProfile,
    GuardrailRule,
    JailbreakDetector,
    ModerationDetector,
    PatternDetector,
    PiiDetector,
    PromptInjectionDetector,
)
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.routing_pb2 import GuardrailAction, GuardrailStage
from aigateway.v1.tenant_pb2 import Tenant
from tests.rpc.admin.conftest import Gateway

LOG, REDACT, BLOCK = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_REDACT,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
)
NAME = "guardrailProfiles/mine"


def pii(action: GuardrailAction.ValueType = REDACT) -> GuardrailRule:
    return GuardrailRule(rule_id="pii", action=action, pii=PiiDetector())


async def make(gateway: Gateway, profile: GuardrailProfile) -> GuardrailProfile:
    request = CreateGuardrailProfileRequest(guardrail_profile_id="mine", guardrail_profile=profile)
    return await gateway.call(gateway.admin.CreateGuardrailProfile, request)


async def test_a_profile_from_creation_to_deletion(gateway: Gateway) -> None:
    admin = gateway.admin
    made = await make(gateway, GuardrailProfile(display_name="Mine", input_rules=[pii()]))
    assert made.name == NAME
    assert await gateway.call(admin.GetGuardrailProfile, GetGuardrailProfileRequest(name=NAME)) == made
    listed = await gateway.call(admin.ListGuardrailProfiles, ListGuardrailProfilesRequest())
    assert list(listed.guardrail_profiles) == [made]
    made.output_rules.append(pii(LOG))
    changed = await gateway.call(
        admin.UpdateGuardrailProfile,
        UpdateGuardrailProfileRequest(guardrail_profile=made, update_mask=FieldMask(paths=["output_rules"])),
    )
    assert list(changed.output_rules) == [pii(LOG)]
    failure = await gateway.fails(
        admin.DeleteGuardrailProfile, DeleteGuardrailProfileRequest(name=NAME, etag=made.etag)
    )
    assert failure.reason == "ETAG_MISMATCH"
    await gateway.call(
        admin.DeleteGuardrailProfile, DeleteGuardrailProfileRequest(name=NAME, etag=changed.etag)
    )
    failure = await gateway.fails(admin.GetGuardrailProfile, GetGuardrailProfileRequest(name=NAME))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_a_profile_in_use_is_not_deleted(gateway: Gateway) -> None:
    await make(gateway, GuardrailProfile())
    tenant = Tenant(guardrail_profile=NAME)
    await gateway.call(gateway.admin.CreateTenant, CreateTenantRequest(tenant_id="t", tenant=tenant))
    failure = await gateway.fails(
        gateway.admin.DeleteGuardrailProfile, DeleteGuardrailProfileRequest(name=NAME)
    )
    assert (failure.reason, failure.metadata["blocker"]) == ("RESOURCE_IN_USE", "tenants/t")


async def test_profiles_are_for_administrators(gateway: Gateway) -> None:
    secret = await gateway.key("acme", Scope.SCOPE_INFERENCE)
    failure = await gateway.fails(gateway.admin.ListGuardrailProfiles, ListGuardrailProfilesRequest(), secret)
    assert failure.reason == "SCOPE_MISSING"


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        (GuardrailProfile(input_rules=[GuardrailRule(rule_id="a", action=BLOCK)]), "input_rules[0]"),
        (
            GuardrailProfile(input_rules=[GuardrailRule(rule_id="A", action=BLOCK, pii=PiiDetector())]),
            "rule_id",
        ),
        (GuardrailProfile(input_rules=[GuardrailRule(rule_id="a", pii=PiiDetector())]), "action"),
        (GuardrailProfile(input_rules=[pii(), pii()]), "input_rules[1].rule_id"),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(rule_id="a", action=REDACT, prompt_injection=PromptInjectionDetector())
                ]
            ),
            "input_rules[0].action",
        ),
        (
            GuardrailProfile(
                output_rules=[GuardrailRule(rule_id="a", action=BLOCK, jailbreak=JailbreakDetector())]
            ),
            "output_rules[0]",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(
                        rule_id="a", action=LOG, moderation=ModerationDetector(min_scores={"rudeness": 0.5})
                    )
                ]
            ),
            "moderation.min_scores",
        ),
        (
            GuardrailProfile(
                input_rules=[GuardrailRule(rule_id="a", action=LOG, pii=PiiDetector(entity_types=["SHOE"]))]
            ),
            "pii.entity_types[0]",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(rule_id="a", action=LOG, pattern=PatternDetector(patterns=["x", "("]))
                ]
            ),
            "pattern.patterns[1]",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(rule_id="a", action=LOG, pattern=PatternDetector(patterns=["(?=x)"]))
                ]
            ),
            "pattern.patterns[0]",
        ),
        (
            GuardrailProfile(
                input_rules=[GuardrailRule(rule_id="a", action=LOG, pattern=PatternDetector(patterns=["x*"]))]
            ),
            "pattern.patterns[0]",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(rule_id="a", action=LOG, pattern=PatternDetector(words=["w" * 65]))
                ]
            ),
            "pattern.words[0]",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(rule_id="a", action=LOG, pattern=PatternDetector(words=["w", "\u200b"]))
                ]
            ),
            "pattern.words[1]",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(
                        rule_id="a", action=LOG, pattern=PatternDetector(patterns=["[a-z]{64}", "[a-z]{65}"])
                    )
                ]
            ),
            "pattern.patterns[1]",
        ),
        (GuardrailProfile(stream_holdback_characters=20), "stream_holdback_characters"),
        (
            GuardrailProfile(
                output_rules=[
                    pii(),
                    GuardrailRule(rule_id="a", action=LOG, pii=PiiDetector(), roles=[Role.ROLE_USER]),
                ]
            ),
            "output_rules[1].roles",
        ),
        (
            GuardrailProfile(
                input_rules=[
                    GuardrailRule(rule_id="a", action=LOG, pii=PiiDetector(), timeout=Duration(seconds=-1))
                ]
            ),
            "timeout",
        ),
    ],
)
async def test_what_cannot_work_is_refused_by_name(
    gateway: Gateway, profile: GuardrailProfile, field: str
) -> None:
    request = CreateGuardrailProfileRequest(guardrail_profile_id="mine", guardrail_profile=profile)
    failure = await gateway.fails(gateway.admin.CreateGuardrailProfile, request)
    assert failure.reason == "INVALID_REQUEST"
    [violated] = failure.violations
    assert violated.startswith("guardrail_profile.")
    assert field in violated


async def test_a_thousand_rules_and_patterns_are_taken_or_refused_within_bounds(gateway: Gateway) -> None:
    rules = [
        GuardrailRule(
            rule_id=f"r{index}",
            action=REDACT,
            pattern=PatternDetector(patterns=[f"(a+)+{index}$", f"[a-z]{{1,50}}x{index}"]),
        )
        for index in range(1000)
    ]
    await make(gateway, GuardrailProfile(input_rules=rules))
    tried = await gateway.call(
        gateway.admin.TestGuardrailProfile, TryRequest(name=NAME, text="a" * 60 + " zzzx7 " + "b" * 100)
    )
    assert tried.text == "a" * 60 + " [PATTERN_REDACTED] " + "b" * 100

    bomb = GuardrailRule(
        rule_id="bomb", action=LOG, pattern=PatternDetector(patterns=["((a{1,1000}){1,1000}){1,1000}"])
    )
    failure = await gateway.fails(
        gateway.admin.UpdateGuardrailProfile,
        UpdateGuardrailProfileRequest(guardrail_profile=GuardrailProfile(name=NAME, output_rules=[bomb])),
    )
    assert (failure.reason, set(failure.violations)) == (
        "INVALID_REQUEST",
        {"guardrail_profile.output_rules[0].pattern.patterns[0]"},
    )

    # Two thousand patterns a side are taken, whichever rules have them; and what is more is not.
    three = GuardrailRule(rule_id="more", action=LOG, pattern=PatternDetector(patterns=["x", "y", "z"]))
    large = [
        GuardrailRule(
            rule_id=f"r{index}",
            action=LOG,
            pattern=PatternDetector(patterns=[rf"x(?:\pL{{0,10}}){{10}}{index}"]),
        )
        for index in range(1000)
    ]
    for profile, field in (
        (
            GuardrailProfile(name=NAME, output_rules=[*rules[:-1], three]),
            "output_rules[999].pattern.patterns[2]",
        ),
        (GuardrailProfile(name=NAME, input_rules=large), "input_rules[8].pattern.patterns[0]"),
    ):
        failure = await gateway.fails(
            gateway.admin.UpdateGuardrailProfile, UpdateGuardrailProfileRequest(guardrail_profile=profile)
        )
        assert failure.reason == "INVALID_REQUEST"
        assert set(failure.violations) == {f"guardrail_profile.{field}"}


async def test_sides_that_are_written_one_after_another_work_together(gateway: Gateway) -> None:
    rules = [
        GuardrailRule(
            rule_id=f"r{index}", action=REDACT, pattern=PatternDetector(patterns=[f"x{index};", f"y{index};"])
        )
        for index in range(700)
    ]
    await make(gateway, GuardrailProfile(input_rules=rules))
    await gateway.call(
        gateway.admin.UpdateGuardrailProfile,
        UpdateGuardrailProfileRequest(
            guardrail_profile=GuardrailProfile(name=NAME, output_rules=rules),
            update_mask=FieldMask(paths=["output_rules"]),
        ),
    )
    for stage in (GuardrailStage.GUARDRAIL_STAGE_INPUT, GuardrailStage.GUARDRAIL_STAGE_OUTPUT):
        tried = await gateway.call(
            gateway.admin.TestGuardrailProfile, TryRequest(name=NAME, text="a x699; b", stage=stage)
        )
        assert tried.text == "a [PATTERN_REDACTED] b"


async def test_a_profile_is_tried_on_a_text(gateway: Gateway) -> None:
    await make(
        gateway,
        GuardrailProfile(
            input_rules=[
                pii(),
                GuardrailRule(
                    rule_id="injection",
                    action=BLOCK,
                    prompt_injection=PromptInjectionDetector(strict_for_retrieved_content=True),
                ),
            ],
            output_rules=[
                GuardrailRule(rule_id="harm", action=BLOCK, moderation=ModerationDetector()),
                pii(LOG),
            ],
        ),
    )

    async def tried(
        text: str, *, stage: int = 0, role: int = 0
    ) -> tuple[str, bool, list[tuple[str, str, dict[str, int]]]]:
        request = TryRequest(name=NAME, text=text, stage=stage, role=role)  # type: ignore[arg-type]
        answer = await gateway.call(gateway.admin.TestGuardrailProfile, request)
        told = [
            (each.rule, GuardrailAction.Name(each.action).rpartition("_")[2], dict(each.findings))
            for each in answer.results
        ]
        return answer.text, answer.blocked, told

    assert await tried("My SSN is 123-45-6789") == (
        "My SSN is [SSN_REDACTED]",
        False,
        [("pii", "REDACT", {"US_SSN": 1}), ("injection", "PASS", {})],
    )
    assert await tried("INJECTION for a@b.io") == (
        "",
        True,
        [("pii", "REDACT", {"EMAIL_ADDRESS": 1}), ("injection", "BLOCK", {"prompt_injection": 1})],
    )
    # System messages are their author's own orders; personal data is masked there too.
    assert await tried("INJECTION for a@b.io", role=Role.ROLE_SYSTEM) == (
        "INJECTION for [EMAIL_REDACTED]",
        False,
        [("pii", "REDACT", {"EMAIL_ADDRESS": 1})],
    )
    output = GuardrailStage.GUARDRAIL_STAGE_OUTPUT
    assert await tried("Write to a@b.io. VIOLENCE is next. And c@d.io.", stage=output) == (
        "Write to a@b.io.",
        True,
        [("harm", "BLOCK", {"violence": 1}), ("pii", "LOG", {"EMAIL_ADDRESS": 1})],
    )
