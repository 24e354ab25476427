"""The law of streams for all rules on one text: every cutting gives the same text, stop and findings."""

import json
import random
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailProfile,
    GuardrailRule,
    ModerationDetector,
    PatternDetector,
    PiiDetector,
)
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.json_guard import JsonGuard
from gateway_server.guardrails.pii import PiiScanner
from gateway_server.guardrails.rules import Tally, compile_profile
from gateway_server.guardrails.text_guard import BlockedError, TextGuard, said
from gateway_server.guardrails.vault import Vault
from tests.support.text_models import WordModels

LOG, REDACT, BLOCK = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_REDACT,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
)
PII = GuardrailRule(action=REDACT, pii=PiiDetector(entity_types=["US_SSN", "CREDIT_CARD", "EMAIL_ADDRESS"]))
PHONES = GuardrailRule(action=REDACT, pii=PiiDetector(entity_types=["PHONE_NUMBER", "IP_ADDRESS"]))
HARM = GuardrailRule(action=BLOCK, moderation=ModerationDetector())
WORDS = GuardrailRule(
    action=REDACT, pattern=PatternDetector(words=["word", "call", "call me", "ssn ", "\u00e9", "x y"])
)
PATTERNS = [
    GuardrailRule(action=REDACT, pattern=PatternDetector(patterns=[pattern]))
    for pattern in (r"\bwo+rd\b", "a+b?", "(?i)call .*5", "5$", "^My", "x{60,70}")
]


@dataclass
class Guarded:
    """What became of a text."""

    text: str
    stopped_by: str
    findings: dict[str, dict[str, int]]
    scores: list[float | None]


def tallies_of(*rules: GuardrailRule) -> list[Tally]:
    numbered = []
    for index, rule in enumerate(rules):
        copy = GuardrailRule()
        copy.CopyFrom(rule)
        copy.rule_id = f"r{index}"
        numbered.append(copy)
    compiled = compile_profile(GuardrailProfile(name="p", output_rules=numbered), WordModels)
    return [Tally(rule) for rule in compiled.output_rules]


def guard(rules: list[GuardrailRule], text: str, cuts: Any = (), *, is_json: bool = False) -> Guarded:
    tallies = tallies_of(*rules)

    def open_text(context: str) -> TextGuard:
        return TextGuard(tallies, context=context)

    guarding = JsonGuard(open_text) if is_json else open_text("")
    passed, start, stopped_by = "", 0, ""
    try:
        for cut in (*cuts, len(text)):
            passed += said(list(guarding.feed(text[start:cut])))
            start = cut
        passed += said(list(guarding.close()))
    except BlockedError as blocked:
        passed += said(blocked.parts)
        stopped_by = blocked.tally.rule.rule_id
    findings = {tally.rule.rule_id: dict(tally.findings) for tally in tallies}
    return Guarded(passed, stopped_by, findings, [tally.score for tally in tallies])


def acting(rule: GuardrailRule, action: GuardrailAction.ValueType) -> GuardrailRule:
    copy = GuardrailRule()
    copy.CopyFrom(rule)
    copy.action = action
    return copy


FRAGMENTS = st.sampled_from([
    "123-45-6789", "4111 1111 1111 1111", "@", "x@y.com", " (at) ", ".", " ", "\n", "-", "+1 415 555 2671",
    "(", "415", "ssn ", "1", "\u200b", "\u00e9", "\u4e2d\u6587", '"', ",", ":", "192.168.1.1", "word",
    "Call me", "call ", "HATE", ". ", "! ", "My", "5", "woord", "\U0001f600", "\ud83d", "\u3002", "\\",
    "a" * 40, "x" * 65,
])  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=4), max_size=30).map("".join)
RULES = st.lists(
    st.builds(acting, st.sampled_from([PII, PHONES, WORDS, *PATTERNS]), st.sampled_from([LOG, REDACT, BLOCK]))
    | st.builds(acting, st.just(HARM), st.sampled_from([LOG, BLOCK])),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(rules=RULES, text=TEXTS, seed=st.integers(0, 2**32))
def test_every_cutting_of_a_text_gives_the_same(rules: list[GuardrailRule], text: str, seed: int) -> None:
    whole = guard(rules, text)
    cuts = sorted(random.Random(seed).choices(range(len(text) + 1), k=5))
    assert guard(rules, text, cuts) == whole
    assert guard(rules, text, range(1, len(text))) == whole


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.sampled_from([219.169994, 415.5550132, 4.111111111111111])
    | st.sampled_from([219169994, 5, 4111111111111111, "true", "word", "5", "x@y.com", "", "\u200bword"])
    | FRAGMENTS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(FRAGMENTS | st.just("ssn"), inner, max_size=5)
    ),
)


@settings(deadline=None)
@given(rules=RULES, value=VALUES, is_ascii=st.booleans())
def test_what_of_json_passes_at_a_glance_passes_at_a_look_too(
    rules: list[GuardrailRule], value: Any, is_ascii: bool
) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    at_a_glance = guard(rules, text, is_json=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextGuard, "passes", lambda *_: False)
        assert guard(rules, text, is_json=True) == at_a_glance


def test_many_small_values_of_json_cost_no_look_each(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    opening = PiiScanner.__init__

    def count(scanner: PiiScanner, *args: Any, **kwargs: Any) -> None:
        nonlocal opened
        opened += 1
        opening(scanner, *args, **kwargs)

    monkeypatch.setattr(PiiScanner, "__init__", count)
    values = [1, -2.5, 1.5e3, True, None, "one", {"a_name": "", "n": 123456}] * 300
    text = json.dumps([*values, {"ssn": 219169994}])
    guarded = guard([PII, WORDS, PATTERNS[0]], text, is_json=True)
    assert guarded.text == text.replace("219169994", '"[SSN_REDACTED]"')
    assert opened < 10


@settings(deadline=None)
@given(
    rules=RULES, text=TEXTS, is_ascii=st.booleans(), cut_off=st.integers(0, 40), seed=st.integers(0, 2**32)
)
def test_every_cutting_of_json_gives_the_same_and_it_stays_json(
    rules: list[GuardrailRule], text: str, is_ascii: bool, cut_off: int, seed: int
) -> None:
    value = {
        text[:9]: text,
        "ssn": 219169994,
        "deep": [text[5:], {"phone_number": "781 1704"}, True, None, 1.5e7],
        "kind": text[-60:],
        "value": [219169994, "219169994"],
    }
    document = json.dumps(value, ensure_ascii=is_ascii)
    whole = guard(rules, document, is_json=True)
    cuts = sorted(random.Random(seed).choices(range(len(document) + 1), k=5))
    assert guard(rules, document, cuts, is_json=True) == whole
    assert guard(rules, document, range(1, len(document)), is_json=True) == whole
    if not whole.stopped_by:
        json.loads(whole.text)
    no_json = f"[{text}] {text}: {document}, {text}"
    assert guard(rules, no_json, cuts, is_json=True) == guard(rules, no_json, is_json=True)
    # What breaks off is guarded as far as it goes.
    broken = document[: -cut_off or None]
    assert guard(rules, broken, range(1, len(broken)), is_json=True) == guard(rules, broken, is_json=True)


@pytest.mark.parametrize(
    ("document", "guarded"),
    [
        ('{"ssn": "219 16 9994"}', '{"ssn": "[SSN_REDACTED]"}'),
        ('{"ssn": 219169994, "n": 219169994}', '{"ssn": "[SSN_REDACTED]", "n": 219169994}'),
        ('{"customerSsn":219169994}', '{"customerSsn":"[SSN_REDACTED]"}'),
        ('{"a\\u0040b.io": 1}', '{"[EMAIL_REDACTED]": 1}'),
        (
            '{"t": "\\u00e9\\/ caf\u00e9 a@b.io \\"x\\""}',
            '{"t": "\\u00e9\\/ caf\u00e9 [EMAIL_REDACTED] \\"x\\""}',
        ),
        ('["\\ud83d\\ude00 \\ud83d a@b.io"]', '["\\ud83d\\ude00 \\ud83d [EMAIL_REDACTED]"]'),
        ("mail a@b.io now", "mail [EMAIL_REDACTED] now"),
        ("[my ssn is 219 16 9994]", "[my ssn is [SSN_REDACTED]]"),
        ('{"a":"x"} My SSN is 219 16 9994', '{"a":"x"} My SSN is [SSN_REDACTED]'),
        (
            '{"ssn": {"value": "219169994"}, "n": 219169994}',
            '{"ssn": {"value": "[SSN_REDACTED]"}, "n": 219169994}',
        ),
        ("4111111111111111", '"[CREDIT_CARD_REDACTED]"'),
        (" 4111111111111111\n", ' "[CREDIT_CARD_REDACTED]"\n'),
        ("\ufeff4111111111111111", '\ufeff"[CREDIT_CARD_REDACTED]"'),
        ("4111111111111111 is my card", "[CREDIT_CARD_REDACTED] is my card"),
        ("true", "true"),
        (" \ufeff-", " \ufeff-"),
        (
            '\ufeff {"ssn":219169994,"a":"jo\\u0040acme.io"}',
            '\ufeff {"ssn":"[SSN_REDACTED]","a":"[EMAIL_REDACTED]"}',
        ),
        ('{"field":"ssn","value":"219169994"}', '{"field":"ssn","value":"[SSN_REDACTED]"}'),
        ('["SSN", 219169994, "", "219169994"]', '["SSN", "[SSN_REDACTED]", "", "[SSN_REDACTED]"]'),
        (
            '{"label": "Social Security Number", "of": [{"x": "y"}], "text": "219169994"}',
            '{"label": "Social Security Number", "of": [{"x": "y"}], "text": "[SSN_REDACTED]"}',
        ),
        (
            '["a long text that ends with: My ss\\u006e", ["219169994"]]',
            '["a long text that ends with: My ss\\u006e", ["[SSN_REDACTED]"]]',
        ),
        (
            '{"customers": {"their fields": {"kind": "Social Security Number", "value": 219169994}}}',
            '{"customers": {"their fields": {"kind": "Social Security Number", "value": "[SSN_REDACTED]"}}}',
        ),
        ('[["name", "ssn"], ["Jo", "219169994"]]', '[["name", "ssn"], ["Jo", "219169994"]]'),
        (
            '{"ssn": {"note": "' + "long " * 20 + '", "value": 219169994}}',
            '{"ssn": {"note": "' + "long " * 20 + '", "value": "[SSN_REDACTED]"}}',
        ),
        ('["12", "219-16-9994", "34"]', '["12", "[SSN_REDACTED]", "34"]'),
        ("[Note] My SSN, as asked: 219169994.", '[Note] My SSN, as asked: "[SSN_REDACTED]."'),
        ('{My SSN, that is "219169994"}', '{My SSN, that is "[SSN_REDACTED]"}'),
        ('[Note] My "ss\\u006e": [{219169994}]', '[Note] My "ss\\u006e": [{"[SSN_REDACTED]"}]'),
        ('["SSN" as asked, 219169994]', '["SSN" as asked, "[SSN_REDACTED]"]'),
        ("{ssn: 219169994}", '{ssn: "[SSN_REDACTED]"}'),
        ('{"ssn": 219169994' + " " * 60 + "}", '{"ssn": "[SSN_REDACTED]"' + " " * 60 + "}"),
        ("[" + ("1" * 64 + " ") * 5000 + "]", "[" + ("1" * 64 + " ") * 5000 + "]"),
        (f"[{'1' * 70} my SSN 219-16-9994]", f"[{'1' * 70} my SSN [SSN_REDACTED]]"),
        ('{"x": 0.' + "0" * 62 + "4111111111111111}", '{"x": 0.' + "0" * 62 + "4111111111111111}"),
        ('{"ssn":' + " " * 90 + "219169994 }", '{"ssn":' + " " * 90 + '"[SSN_REDACTED]" }'),
        ("", ""),
        (' {"a": "b"} ', ' {"a": "b"} '),
        ('{"a": "4111\\u00201111 1111 1111"', '{"a": "[CREDIT_CARD_REDACTED]"'),
    ],
)
def test_json_is_guarded_by_what_its_strings_say(document: str, guarded: str) -> None:
    assert guard([PII], document, is_json=True).text == guarded
    assert guard([PII], document, range(1, len(document)), is_json=True).text == guarded


def test_deep_json_takes_no_more_than_its_length() -> None:
    document = "[" * 200_000 + '"a@b.io"' + "]" * 200_000
    assert guard([PII], document, is_json=True).text == document.replace("a@b.io", "[EMAIL_REDACTED]")


@pytest.mark.parametrize("document", ["[" * 40_000, '{"a":{"bc":' * 20_000, '[{"a":' * 20_000])
def test_deep_json_takes_little_memory(document: str) -> None:
    guarding = JsonGuard(lambda context: TextGuard([], context=context))
    tracemalloc.start()
    try:
        for start in range(0, len(document), 16_384):
            guarding.feed(document[start : start + 16_384])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(document) + 200_000


@pytest.mark.parametrize("name", ["[k%d", "[%d]", "[SSN_REDACTED %d]", "caf\\u00e9 [SSN_%dx]"])
def test_many_names_of_json_that_are_no_placeholders_take_little_memory(name: str) -> None:
    guarding = JsonGuard(lambda context: TextGuard([], context=context))
    document = "{" + ",".join(f'"{name % number}":1' for number in range(5_000))
    tracemalloc.start()
    try:
        for start in range(0, len(document), 1_000):
            guarding.feed(document[start : start + 1_000])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000


@pytest.mark.parametrize("begins", ["", "[", "[[SSN_ ", "x " * 50])
def test_names_with_placeholders_stay_apart_from_what_is_masked(begins: str) -> None:
    document = f'{{"{begins}a@b.io": 1, "{begins}[EMAIL_REDACTED]": 2}}'
    masked = f'{{"{begins}[EMAIL_REDACTED]": 1, "{begins}[EMAIL_REDACTED]_2": 2}}'
    for cuts in ((), range(1, len(document)), range(0, len(document), 60)):
        assert guard([PII], document, cuts, is_json=True).text == masked


def test_what_json_says_after_what_is_deep_is_read_by_its_own_names() -> None:
    deep = "[" * 5000 + "]" * 5000
    document = f'{{"ssn": {{"a": {deep}, "b": [219169994]}}, "n": [219169994, {{"ssn": 219169994}}]}}'
    assert guard([PII], document, is_json=True).text == (
        f'{{"ssn": {{"a": {deep}, "b": ["[SSN_REDACTED]"]}}, "n": [219169994, {{"ssn": "[SSN_REDACTED]"}}]}}'
    )


def test_a_quotation_in_a_pattern_may_be_left_open() -> None:
    quoting = GuardrailRule(
        action=REDACT, pattern=PatternDetector(patterns=[r"\Qa.b", r"x\Qy\Ez", r"\Q$", "1"])
    )
    guarded = guard([quoting], "a.b axb xyz $ 1")
    assert guarded.text == ("[PATTERN_REDACTED] axb [PATTERN_REDACTED] [PATTERN_REDACTED] [PATTERN_REDACTED]")


def test_a_stop_passes_on_what_came_before_the_sentence() -> None:
    guarded = guard([HARM], "This is fine. Here comes HATE. More.", range(1, 36))
    assert (guarded.text, guarded.stopped_by) == ("This is fine.", "r0")
    assert guarded.findings == {"r0": {"hate": 1}}


def test_a_rule_that_only_looks_holds_nothing_back() -> None:
    looking = TextGuard(tallies_of(acting(PII, LOG), acting(HARM, LOG)))
    assert [said(looking.feed(character)) for character in "a@b.io HATE"] == list("a@b.io HATE")


@pytest.mark.parametrize("cuts", [(), range(1, 250), range(0, 250, 60)])
def test_a_number_stands_for_the_whole_of_a_long_value(cuts: Any) -> None:
    domain = "department.example-university.ac."
    text = f"Mail {'a' * 40}@{domain}uk, {'a' * 40}@{domain}nz,{'a' * 40}@{domain}uk and jo@acme.io"
    vault = Vault()
    tallies = tallies_of(PII)
    masking, masked, start = TextGuard(tallies, masks_into=vault), "", 0
    for cut in (*cuts, len(text)):
        masked += said(masking.feed(text[start:cut]))
        start = max(start, cut)
    masked += said(masking.close())
    assert masked == "Mail [EMAIL_1], [EMAIL_2],[EMAIL_1] and [EMAIL_3]"
    assert tallies[0].findings == {"EMAIL_ADDRESS": 4}
    restoring = TextGuard([], restores_from=vault)
    assert said([*restoring.feed(masked), *restoring.close()]) == text


def test_what_was_masked_on_the_way_in_comes_back_in_every_cutting() -> None:
    vault = Vault()
    masking = TextGuard(tallies_of(PII), masks_into=vault)
    masked = said([*masking.feed("a@b.io, c@d.io and a@b.io"), *masking.close()])
    assert masked == "[EMAIL_1], [EMAIL_2] and [EMAIL_1]"
    answer = "Dear [EMAIL_2] and [EMAIL_3] [EMAIL_1"
    for step in (1, 3, len(answer)):
        restoring = TextGuard([], restores_from=vault)
        parts = [
            part for at in range(0, len(answer), step) for part in restoring.feed(answer[at : at + step])
        ]
        assert said([*parts, *restoring.close()]) == "Dear c@d.io and [EMAIL_3] [EMAIL_1"


@pytest.mark.parametrize("fail_open", [True, False])
def test_a_check_that_fails_follows_its_policy_and_loses_nothing(
    caplog: pytest.LogCaptureFixture, *, fail_open: bool
) -> None:
    rule = acting(PII, REDACT)
    rule.fail_open = fail_open
    tallies = tallies_of(rule, WORDS)
    guarding = TextGuard(tallies)
    passed = said(guarding.feed("a word before 415"))

    class Broken:
        held = "415"

        def feed(self, text: str) -> list[str]:
            raise ValueError(f"cannot read {text}")

    stage = guarding._stages[0]
    stage._machines = [Broken()]  # type: ignore[attr-defined]
    if not fail_open:
        with pytest.raises(GatewayError) as caught:
            guarding.feed("-word secret")
        assert caught.value.metadata == {"guardrail_profile": "p", "rule": "r0", "cause": "error"}
        assert "secret" not in caught.value.message
    else:
        passed += said([*guarding.feed("-word secret"), *guarding.close()])
        assert passed == "a [WORD_REDACTED] before 415-[WORD_REDACTED] secret"
    assert tallies[0].result().action == GuardrailAction.GUARDRAIL_ACTION_ERROR
    assert "secret" not in caplog.text


def test_nothing_is_passed_on_once_a_check_that_must_run_has_failed() -> None:
    tallies = tallies_of(HARM, PII)
    guarding = TextGuard(tallies)
    guarding.feed("All is well. My SSN is 219-16")
    with pytest.raises(GatewayError):
        tallies[1].fail("error")
    for _ in range(2):
        with pytest.raises(GatewayError):
            guarding.feed("-9994 and more. And")
        with pytest.raises(GatewayError):
            guarding.close()


def test_what_waits_on_one_text_is_not_lost_when_the_check_fails_on_another() -> None:
    rule = acting(PHONES, REDACT)
    rule.fail_open = True
    tallies = tallies_of(rule)
    one, other = TextGuard(tallies), TextGuard(tallies)
    passed = said(one.feed("call 415-555"))
    tallies[0].fail("error")
    assert said(other.feed("fine")) == "fine"
    passed += said([*one.feed("-0000 now"), *one.close()])
    assert passed == "call 415-555-0000 now"


@pytest.mark.parametrize("fail_open", [True, False])
def test_the_time_of_a_rule_is_that_of_all_its_looks(
    monkeypatch: pytest.MonkeyPatch, *, fail_open: bool
) -> None:
    feed, looks = PiiScanner.feed, list[str]()

    def slow(scanner: PiiScanner, text: str) -> Any:
        looks.append(text)
        time.sleep(0.02)
        return feed(scanner, text)

    monkeypatch.setattr(PiiScanner, "feed", slow)
    rule = acting(PII, REDACT)
    rule.timeout.FromMilliseconds(100)
    rule.fail_open = fail_open
    [tally] = tallies_of(rule)
    guarding = TextGuard([tally])
    words = [f"{number} " for number in range(20)]
    if fail_open:
        passed = said([*(part for word in words for part in guarding.feed(word)), *guarding.close()])
        assert passed == "".join(words)
    else:
        with pytest.raises(GatewayError, match="could not run"):
            for word in words:
                guarding.feed(word)
    assert tally.failure == "timeout"
    assert len(looks) <= 6
