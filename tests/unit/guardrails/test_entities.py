"""Persons and places: the law of streams with a model, what wins where findings overlap, the model itself."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.ner.model import Entities, Entity, EntityModel, ModelError, find_all
from gateway_server.guardrails.ner.scanner import EntityScanner
from gateway_server.guardrails.pii import RECOGNIZERS, Found, Piece, PiiScanner
from gateway_server.guardrails.rules import Tally, compile_profile, require_models
from gateway_server.guardrails.text_guard import TextGuard, said
from gateway_server.guardrails.vault import Vault
from tests.support.entity_models import write_trained
from tests.support.text_models import WordModels

BOTH = frozenset({"PERSON", "LOCATION"})
NAME = re.compile(r"(?:[A-Z][a-z]+ )*[A-Z][a-z]+(?: \d+)?")


def find_capitals(texts: Sequence[str]) -> list[Entities]:
    """Calls a person what has a capital letter, with a number after it; names that text, and all of it."""
    return [tuple(Entity(*found.span(), "PERSON") for found in NAME.finditer(text)) for text in texts]


def scanner(find: object = find_capitals, **fields: object) -> EntityScanner:
    values = PiiScanner(tuple(RECOGNIZERS.values()), min_score=0.6)
    return EntityScanner(values, find, BOTH, **fields)  # type: ignore[arg-type]


def found_in(text: str, **fields: object) -> list[tuple[str, str]]:
    machine = scanner(**fields)
    pieces = [*machine.feed(text), *machine.close()]
    assert "".join(each if isinstance(each, str) else each.text for each in pieces) == text
    return [(each.text, each.entity_type) for each in pieces if isinstance(each, Found)]


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same, with neighbouring text in one, and each value whole."""
    together: list[Piece] = []
    for piece in pieces:
        last = together[-1] if together else None
        if isinstance(piece, str) and isinstance(last, str):
            together[-1] = last + piece
        elif isinstance(piece, Found) and isinstance(last, Found) and piece.continues:
            together[-1] = Found(last.text + piece.text, last.entity_type, last.score)
        else:
            together.append(piece)
    return together


words = st.sampled_from(
    [
        "Ada Lovelace",
        "Alan Turing",
        "Berlin ",
        "Dr. ",
        "J. ",
        "Mr",
        ". ",
        "? ",
        "\n",
        " ",
        "word ",
        "x" * 150,
        "219-16-9994",
        "+1 415 555 2671",
        "ada@acme.io",
        "x" * 390 + "@acme-and-acme.io",
        "[PERSON_1]",
        "[EMAIL_REDACTED]",
        "[",
        "@",
        "7",
        "My name is Grace Hopper.",
    ]
)
texts = st.lists(words | st.text(max_size=4), max_size=25).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(ends)]


@settings(deadline=None, max_examples=400)
@given(text=texts, places=st.lists(st.integers(0, 2_000), max_size=12))
def test_every_cutting_gives_the_same(text: str, places: list[int]) -> None:
    whole, cut_up = scanner(), scanner()
    expected = joined([*whole.feed(text), *whole.close()])
    pieces = [piece for part in cut(text, places) for piece in cut_up.feed(part)]
    assert joined([*pieces, *cut_up.close()]) == expected


@settings(deadline=None)
@given(text=texts)
def test_what_is_held_and_what_is_decided_are_the_text(text: str) -> None:
    machine, said = scanner(), ""
    for index, character in enumerate(text):
        said += "".join(each if isinstance(each, str) else each.text for each in machine.feed(character))
        assert said + machine.held == text[: index + 1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> EntityModel:
    return EntityModel(write_trained(tmp_path_factory.mktemp("spacy") / "trained"))


def test_a_trained_model_finds_names_that_it_was_not_trained_on(trained: EntityModel) -> None:
    text = "My name is Grace Hopper. I met Alan Turing in Paris. The weather was nice."
    assert found_in(text, find=lambda asked: find_all(trained, asked)) == [
        ("Grace Hopper", "PERSON"),
        ("Alan Turing", "PERSON"),
        ("Paris", "LOCATION"),
    ]


@settings(deadline=None, max_examples=40)
@given(text=texts, places=st.lists(st.integers(0, 2_000), max_size=6))
def test_every_cutting_gives_the_same_by_a_trained_model(
    trained: EntityModel, text: str, places: list[int]
) -> None:
    def find(asked: Sequence[str]) -> list[Entities]:
        return find_all(trained, asked)

    whole, cut_up = scanner(find), scanner(find)
    expected = joined([*whole.feed(text), *whole.close()])
    pieces = [piece for part in cut(text, places) for piece in cut_up.feed(part)]
    assert joined([*pieces, *cut_up.close()]) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is Ada 219-16-9994 ok", [("Ada", "PERSON"), ("219-16-9994", "US_SSN")]),
        ("to ada@Acme.io ok", [("ada@Acme.io", "EMAIL_ADDRESS")]),
        ("Ada Lovelace", [("Ada Lovelace", "PERSON")]),
        ("by [EMAIL_REDACTED] and [PERSON_12] ok", []),
    ],
)
def test_specific_kinds_win_and_what_was_masked_is_left(text: str, found: list[tuple[str, str]]) -> None:
    assert found_in(text) == found


def test_allowed_values_are_no_findings() -> None:
    assert found_in("ask Ada or Bob", allowed_values=frozenset({"Ada"})) == [("Bob", "PERSON")]


def test_kinds_that_are_not_asked_for_are_no_findings() -> None:
    values = PiiScanner(())
    machine = EntityScanner(values, find_capitals, frozenset({"LOCATION"}))
    assert [*machine.feed("ask Ada"), *machine.close()] == ["ask Ada"]


def test_a_model_is_asked_about_sentences_and_lines_and_not_cut_at_titles_and_initials() -> None:
    asked: list[str] = []

    def find(texts: Sequence[str]) -> list[Entities]:
        asked.extend(texts)
        return [()] * len(texts)

    said = "I saw Dr. John F. Kennedy. He left!\nName: Ada\n\n123\norder_id\nand so on, "
    found_in(said + "word " * 100, find=find)
    assert asked == [
        "I saw Dr. John F. Kennedy.",
        " He left!",
        "Name: Ada\n\n",
        "and so on, " + "word " * 77,
        "word " * 23,
    ]


def test_a_long_sentence_is_not_cut_within_a_name() -> None:
    asked: list[str] = []

    def find(texts: Sequence[str]) -> list[Entities]:
        asked.extend(texts)
        return [()] * len(texts)

    found_in("so " * 131 + "Ada Lovelace and so on", find=find)
    assert asked == ["so " * 130, "so Ada Lovelace and so on"]


def test_halves_of_characters_do_not_stop_a_model(rule_model: str) -> None:
    model = EntityModel(rule_model)
    text = "Ada Lovelace \ud800 of Berlin"
    assert found_in(text, find=lambda asked: find_all(model, asked)) == [
        ("Ada Lovelace", "PERSON"),
        ("Berlin", "LOCATION"),
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("en_x", "the spaCy model en_x is not installed here: python -m spacy download en_x"),
        ("./nowhere", "there is no spaCy model in ./nowhere"),
        ("a..b", "the spaCy model a..b is not installed here: python -m spacy download a..b"),
        ("json", "the spaCy model json cannot be loaded: OSError"),
    ],
)
def test_why_a_model_cannot_be_used(name: str, why: str) -> None:
    with pytest.raises(ModelError) as caught:
        EntityModel(name)
    assert str(caught.value) == why


def test_a_model_that_finds_other_things_is_none(tmp_path: Path) -> None:
    import spacy

    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(ModelError, match="finds neither persons nor places"):
        EntityModel(str(tmp_path))


class Finder:
    """A model in this process."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.timeouts: list[float] = []

    def start(self) -> None:
        pass

    def why_unusable(self) -> str:
        return self.why

    def find(self, texts: Sequence[str], timeout: float) -> list[Entities]:
        self.timeouts.append(timeout)
        if any("slow" in text for text in texts):
            raise TimeoutError
        if any("broken" in text for text in texts):
            raise ModelError("cannot")
        return find_capitals(texts)


def profile_of(fail_open: bool = False, **fields: object) -> GuardrailProfile:
    detector = PiiDetector(entity_types=["PERSON", "EMAIL_ADDRESS"], **fields)  # type: ignore[arg-type]
    rule = GuardrailRule(
        rule_id="pii",
        action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
        pii=detector,
        fail_open=fail_open,
    )
    rule.timeout.FromMilliseconds(1_500)
    return GuardrailProfile(name="p", output_rules=[rule])


def test_names_are_masked_and_come_back_by_number() -> None:
    finder = Finder()
    [rule] = compile_profile(profile_of(), WordModels, finder).output_rules
    vault = Vault()
    guard = TextGuard([Tally(rule)], masks_into=vault)
    masked = said([*guard.feed("ask Ada Lovelace, ada@acme.io, or Bob. then Ada Lovelace"), *guard.close()])
    assert masked == "ask [PERSON_1], [EMAIL_1], or [PERSON_2]. then [PERSON_1]"
    back = TextGuard([Tally(rule)], restores_from=vault)
    answered = said([*back.feed("so [PERSON_1] and Cy"), *back.close()])
    assert answered == "so Ada Lovelace and [PERSON_REDACTED]"
    assert set(finder.timeouts) == {1.5}


@pytest.mark.parametrize(("word", "failure"), [("slow", "timeout"), ("broken", "error")])
def test_a_model_that_fails_follows_the_policy_of_its_rule(word: str, failure: str) -> None:
    text = f"ask Ada. this is {word}. ask Bob. "
    [rule] = compile_profile(profile_of(), WordModels, Finder()).output_rules
    tally = Tally(rule)
    with pytest.raises(GatewayError) as caught:
        TextGuard([tally]).feed(text)
    assert (caught.value.reason_name, tally.failure) == ("GUARDRAIL_FAILED", failure)

    [rule] = compile_profile(profile_of(fail_open=True), WordModels, Finder()).output_rules
    tally = Tally(rule)
    guard = TextGuard([tally])
    parts = [part for character in text for part in guard.feed(character)]
    assert said([*parts, *guard.close()]) == f"ask [PERSON_REDACTED]. this is {word}. ask Bob. "
    assert tally.failure == failure


def test_a_profile_whose_model_cannot_be_used_is_refused_when_it_is_written() -> None:
    profile = compile_profile(profile_of(), WordModels, Finder("it is not here"))
    with pytest.raises(GatewayError) as caught:
        require_models(profile)
    [violation] = caught.value.violations
    assert violation.field == "guardrail_profile.output_rules[0].pii.entity_types"
    assert violation.description == "cannot find PERSON: it is not here"
    require_models(compile_profile(profile_of(), WordModels, Finder()))


def test_a_score_that_no_name_reaches_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        compile_profile(profile_of(min_score=0.9), WordModels, Finder())
    [violation] = caught.value.violations
    assert violation.field == "guardrail_profile.output_rules[0].pii.min_score"
