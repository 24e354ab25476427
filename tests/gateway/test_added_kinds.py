"""A gateway whose operator adds kinds of personal data."""

from __future__ import annotations

from pathlib import Path

import pytest

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.app import StartError
from tests.gateway.callers import Caller
from tests.support.gateway import running_gateway
from tests.support.upstream import Upstream

FILE = r"""
recognizers:
  - name: Employee number
    supported_entity: EMPLOYEE_ID
    patterns:
      - {name: badge, regex: '\bE-\d{6}\b', score: 0.7}
"""


@pytest.mark.filterwarnings("ignore")  # of packages that Presidio imports
async def test_values_of_an_added_kind_are_masked(
    shared_upstream: Upstream, upstream: Upstream, state_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "recognizers.yaml"
    file.write_text(FILE)
    rule = GuardrailRule(
        rule_id="pii",
        action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
        pii=PiiDetector(entity_types=["EMPLOYEE_ID"]),
    )
    async with running_gateway(
        state_dir, vllm_base_url=shared_upstream.base_url, pii_recognizers_file=str(file)
    ) as gateway:
        profile = GuardrailProfile(name="guardrailProfiles/default", input_rules=[rule])
        await gateway.client.admin.guardrail_profiles.update(profile)
        outcome = await Caller(gateway.client, streams=False).call("I am E-123456")
    assert outcome.answer is not None
    assert [dict(each.findings) for each in outcome.answer.guardrail_results] == [{"EMPLOYEE_ID": 1}]
    assert (await upstream.next()).json["messages"][0]["content"] == "I am [EMPLOYEE_ID_REDACTED]"


@pytest.mark.filterwarnings("ignore")
async def test_a_file_that_cannot_be_used_ends_the_start(state_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "recognizers.yaml"
    file.write_text(FILE.replace(r"\b", "(?<=a)"))
    with pytest.raises(StartError, match=r"pii_recognizers_file cannot be used: .*RE2 does not take it"):
        async with running_gateway(state_dir, pii_recognizers_file=str(file)):
            pass
