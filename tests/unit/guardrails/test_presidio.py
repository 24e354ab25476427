"""Kinds of personal data that Presidio's registry adds."""

import subprocess
import sys

import pytest

from gateway_server.guardrails.pii import Found, PiiScanner, scan
from gateway_server.guardrails.pii.presidio import find_recognizer


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


def test_presidio_is_not_imported_before_it_is_needed() -> None:
    check = "import gateway_server.app, sys; sys.exit('presidio_analyzer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
