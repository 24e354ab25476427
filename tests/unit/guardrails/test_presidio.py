"""Kinds of personal data that Presidio's registry adds."""

import subprocess
import sys

import pytest

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.pii import Found, PiiScanner, scan
from gateway_server.guardrails.pii.presidio import find_recognizer
from gateway_server.guardrails.rules import Profile, compile_profile
from tests.support.text_models import WordModels


@pytest.mark.filterwarnings("ignore")  # of packages that Presidio imports
@pytest.mark.parametrize(
    ("entity_type", "text", "value"),
    [
        ("UK_NHS", "NHS number 943 476 5919 please", "943 476 5919"),
        ("ES_NIF", "mi NIF es 12345678Z", "12345678Z"),
        ("IN_AADHAAR", "aadhaar 2345 6789 1239", None),
        ("US_ITIN", "my itin is 911-70-1234", "911-70-1234"),
    ],
)
def test_a_kind_of_the_registry_is_found(entity_type: str, text: str, value: str | None) -> None:
    recognizer = find_recognizer(entity_type)
    assert recognizer is not None
    pieces = scan(PiiScanner([recognizer], min_score=0.6), text)
    assert [each.text for each in pieces if isinstance(each, Found)] == ([value] if value else [])


@pytest.mark.parametrize("entity_type", ["PERSON", "SHOE_SIZE"])
def test_a_kind_without_digits_or_without_a_recognizer_is_none(entity_type: str) -> None:
    assert find_recognizer(entity_type) is None


def compiled(entity_type: str, min_score: float | None) -> Profile:
    detector = PiiDetector(entity_types=["EMAIL_ADDRESS", entity_type], min_score=min_score)
    rule = GuardrailRule(rule_id="pii", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=detector)
    return compile_profile(GuardrailProfile(name="p", input_rules=[rule]), WordModels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("entity_type", "most"),
    [
        ("US_PASSPORT", "0.45"),
        ("UK_PASSPORT", "0.45"),
        ("IN_PASSPORT", "0.45"),
        ("KR_PASSPORT", "0.45"),
        ("IT_PASSPORT", "0.4"),
        ("IT_IDENTITY_CARD", "0.4"),
        ("IT_DRIVER_LICENSE", "0.55"),
        ("UK_POSTCODE", "0.45"),
        ("US_BANK_NUMBER", "0.4"),
    ],
)
def test_a_kind_that_could_never_be_found_is_refused(entity_type: str, most: str) -> None:
    with pytest.raises(
        GatewayError, match=f"{entity_type} is found with a score of at most {most}"
    ) as refused:
        compiled(entity_type, None)
    assert "input_rules[0].pii.min_score" in str(refused.value)
    assert compiled(entity_type, 0.4).input_rules


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "entity_type", ["UK_NHS", "US_ITIN", "IN_AADHAAR", "MAC_ADDRESS", "US_DRIVER_LICENSE"]
)
def test_a_kind_that_can_be_found_is_taken(entity_type: str) -> None:
    assert compiled(entity_type, None).input_rules


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("text", "values"),
    [("My passport number is 912803456", ["912803456"]), ("The number of it is 912803456", [])],
)
def test_a_word_that_tells_lifts_what_is_weak(text: str, values: list[str]) -> None:
    recognizer = find_recognizer("US_PASSPORT")
    assert recognizer is not None
    pieces = scan(PiiScanner([recognizer], min_score=0.4), text)
    assert [each.text for each in pieces if isinstance(each, Found)] == values


def test_presidio_is_not_imported_before_it_is_needed() -> None:
    check = "import gateway_server.app, sys; sys.exit('presidio_analyzer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
