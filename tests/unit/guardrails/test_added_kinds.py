"""Kinds of personal data that an operator adds by a file of Presidio's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.pii import Found, PiiScanner, scan, spans
from gateway_server.guardrails.pii.added import read_added_kinds
from gateway_server.guardrails.rules import compile_profile
from tests.support.text_models import WordModels

pytestmark = pytest.mark.filterwarnings("ignore")  # of packages that Presidio imports

FILE = r"""
recognizers:
  - name: Employee number
    supported_entity: EMPLOYEE_ID
    supported_language: en
    patterns:
      - {name: badge, regex: '\bE-\d{6}\b', score: 0.3}
    context: [employee, Badge]
  - name: Project
    supported_entity: PROJECT
    deny_list: [Orion-7, Area-51, "#7-a"]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("kinds") / "recognizers.yaml"
    file.write_text(FILE)
    return file


def found(file: Path, text: str, *, min_score: float = 0.6) -> list[tuple[str, str, float]]:
    recognizers = [kind.recognize for kind in read_added_kinds(file).values()]
    pieces = scan(PiiScanner(recognizers, min_score=min_score), text)
    return [(each.text, each.entity_type, each.score) for each in pieces if isinstance(each, Found)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("employee E-123456, please", [("E-123456", "EMPLOYEE_ID", 0.65)]),
        ("the badge is e-123456.", [("e-123456", "EMPLOYEE_ID", 0.65)]),
        ("badge:E-123456", [("E-123456", "EMPLOYEE_ID", 0.65)]),
        ("?badge=E-123456&x", [("E-123456", "EMPLOYEE_ID", 0.65)]),
        ("article E-123456", []),  # without a word that tells, its score is 0.3
        ("employee E-1234567", []),
        ("go to area-51 with orion-7", [("area-51", "PROJECT", 1.0), ("orion-7", "PROJECT", 1.0)]),
        ("Orion-77", []),
        ("see #7-a, or no#7-a", [("#7-a", "PROJECT", 1.0), ("#7-a", "PROJECT", 1.0)]),
    ],
)
def test_values_are_found_as_the_file_says(
    file: Path, text: str, expected: list[tuple[str, str, float]]
) -> None:
    assert found(file, text) == expected


@given(
    pieces=st.lists(
        st.sampled_from(
            ["employee ", "E-123456", "E-", "123456", " ", "Orion-7", "a@b.io", "area-", "51", "é"]
        ),
        max_size=12,
    ),
    size=st.integers(1, 5),
)
@example(pieces=["x" * 60, " employee E-123456"], size=1)
def test_every_cutting_finds_the_same(file: Path, pieces: list[str], size: int) -> None:
    recognizers = [kind.recognize for kind in read_added_kinds(file).values()]
    text = "".join(pieces)
    scanner = PiiScanner(recognizers, min_score=0.6)
    cut = [each for at in range(0, len(text), size) for each in scanner.feed(text[at : at + size])]
    assert spans([*cut, *scanner.close()]) == spans(scan(PiiScanner(recognizers, min_score=0.6), text))


@pytest.mark.parametrize(
    ("regex", "values"),
    [
        (r"\d{3}\s\d{4}", ["415 5552"]),
        (r"\d{3}[-. x]\d{4}", ["415 5552", "415-5552", "415x5552"]),
        (r"\s?E\d{6}\s?", ["E123456"]),
        (r"[A-Z0-9]{6}", ["ABC123", "123456"]),
        (r"\b(?:EMP|STAFF)[-/]?\d{4,6}\b", ["EMP-1234", "staff/123456", "EMP1234"]),
        (r"^\d{6}$", ["123456"]),
        (r"\d{2}(?: \d{2}){2,4}", ["12 34 56"]),
        (r"[[:alpha:]]\d{4}", ["x1234"]),
        (r"\w+@\d{2}", ["jo@12"]),
    ],
)
def test_values_of_what_is_taken_are_found(tmp_path: Path, regex: str, values: list[str]) -> None:
    file = tmp_path / "kinds.yaml"
    file.write_text(with_pattern(regex))
    for value in values:
        assert found(file, value) == [(value, "A", 1.0)]
        if "^" not in regex:
            assert found(file, f"the one is {value} as was told") == [(value, "A", 1.0)]


@pytest.mark.parametrize(
    ("regex", "sample"),
    [
        (r"[A-Z]{2}\s?\d{6}", "aa 000000"),
        (r"Badge: \d{6}", "Badge: 000000"),
        (r"E-.*\d", "E- 0"),
        (r"E-\d\S*", 'E-0"'),
        (r"E-\d[^,]*", 'E-0"'),
        (r"(?:staff )?\d{6}", "staff 000000"),
        (r"\d{6}(?: or \d{6})?", "000000 or 000000"),
        ("\u2116[0-9]{6}", "\u2116000000"),
        (r"\d{3}.\d{4}", '000"0000'),
        (r"\d{50}", "0" * 50),
        (r"<\d{4}>", "<0000>"),
    ],
)
def test_a_pattern_of_values_that_would_not_be_found_is_refused(
    tmp_path: Path, regex: str, sample: str
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(with_pattern(regex), encoding="utf-8")
    with pytest.raises(ValueError, match="would not be found") as refused:
        read_added_kinds(file)
    assert f"{sample} would not be found" in str(refused.value)
    assert "spaces only between digits" in str(refused.value)


def profile_with(*entity_types: str, min_score: float | None = None) -> GuardrailProfile:
    detector = PiiDetector(entity_types=entity_types, min_score=min_score)
    rule = GuardrailRule(rule_id="pii", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=detector)
    return GuardrailProfile(name="p", input_rules=[rule])


def test_a_profile_can_ask_for_them(file: Path) -> None:
    added_kinds = read_added_kinds(file)
    assert compile_profile(profile_with("EMPLOYEE_ID", "US_SSN"), WordModels, None, added_kinds).input_rules
    with pytest.raises(GatewayError, match=r"EMPLOYEE_ID is found with a score of at most 0\.65"):
        compile_profile(profile_with("EMPLOYEE_ID", min_score=0.9), WordModels, None, added_kinds)
    with pytest.raises(GatewayError, match="EMPLOYEE_ID is no kind"):
        compile_profile(profile_with("EMPLOYEE_ID"), WordModels)


def with_pattern(regex: str) -> str:
    return f"recognizers: [{{supported_entity: A, patterns: [{{name: a, regex: '{regex}', score: 1}}]}}]"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("recognizers: [", "is no YAML"),
        ("a: b", "has no list of recognizers"),
        ("recognizers: []", "has no list of recognizers"),
        ("recognizers: [7]", r"recognizers\[0\]: is no mapping"),
        ("recognizers: [{supported_entity: A}]", r"recognizers\[0\]: Pattern recognizer should be"),
        ("recognizers: [{supported_entity: a b, deny_list: [A1]}]", "capitals and underscores"),
        (
            "recognizers: [{supported_entity: A, deny_list: [Orion]}]",
            "no digit",
        ),
        ("recognizers: [{supported_entity: US_SSN, deny_list: [A1]}]", "US_SSN is there already"),
        (with_pattern(r"(?<=a)\d"), "RE2 does not take it"),
        (with_pattern(r"(?:\d{1000}){1000}"), "RE2 does not take it"),
        (with_pattern(r"\d*"), "nothing at all"),
        (with_pattern("ab+"), "no digit"),
        ("recognizers: [{supported_entity: ID2, deny_list: [A1]}]", "capitals and underscores"),
        ("recognizers: [{supported_entity: A, deny_list: [Area 51]}]", "Area 51 would not be found"),
        ("recognizers: [{supported_entity: A, deny_list: [A1], context: badge}]", "list of words"),
        ("recognizers: [{supported_entity: A, deny_list: [A1], context: ['']}]", "list of words"),
        ("recognizers: [{supported_entity: A, deny_list: [A1], deny_list_score: .nan}]", "score must be"),
        ("recognizers: [{supported_entities: [A, B], deny_list: [A1]}]", "of several entities"),
        ("recognizers: [{supported_entity: A, deny_list: [A1], colour: red}]", "colour"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=why) as refused:
        read_added_kinds(file)
    assert str(file) in str(refused.value)
