"""What patterns and listed words find, for every cutting of the text, and in what time."""

import random
import time
from collections.abc import Iterable

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.guardrails.machines import (
    REACH,
    PatternMachine,
    SpanMachine,
    WordList,
    WordMachine,
    loosened,
)


def told(machine: SpanMachine, text: str, cuts: Iterable[int] = ()) -> list[str | tuple[str, ...]]:
    """Texts as they are, and findings as tuples; what continues belongs to the finding before."""
    pieces, start = [], 0
    for cut in (*cuts, len(text)):
        pieces += machine.feed(text[start:cut])
        assert len(machine.held) <= REACH
        start = cut
    pieces += machine.close()
    assert machine.held == ""
    merged: list[str | tuple[str, ...]] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, str):
            if isinstance(last, str):
                merged[-1] = last + piece
            else:
                merged.append(piece)
        elif piece.continues:
            assert isinstance(last, tuple)
            merged[-1] = (last[0] + piece.text,)
        else:
            merged.append((piece.text,))
    return merged


def patterns(pattern: str) -> PatternMachine:
    loose = loosened(pattern)
    return PatternMachine(re2.compile(pattern), "pattern", re2.compile(loose) if loose != pattern else None)


@pytest.mark.parametrize(
    ("pattern", "loose"),
    [
        (r"\bsk-\w+\b", r"\bsk-\w+(?:)"),
        (r"(?m)^a$|b\z", r"(?m)^a(?:)|b(?:)"),
        (r"[$\]$][]$][^]$][[:^alpha:]$]\$\\b\Q$\b\E$", r"[$\]$][]$][^]$][[:^alpha:]$]\$\\b\Q$\b\E(?:)"),
    ],
)
def test_what_is_asked_of_an_end_is_taken_off(pattern: str, loose: str) -> None:
    assert loosened(pattern) == loose


KEY = "sk-" + "aB3_" * 32
BLOCKS = "1234-" * 40


@pytest.mark.parametrize(
    ("pattern", "text", "pieces"),
    [
        (r"sk-[A-Za-z0-9_-]{20,}", f"key {KEY}, ok", ["key ", (KEY,), ", ok"]),
        (r"sk-[A-Za-z0-9_-]{20,}", "sk-" + "x" * 61, [("sk-" + "x" * 61,)]),
        (r"sk-[A-Za-z0-9_-]{20,}", "sk-" + "x" * 62 + " y", [("sk-" + "x" * 62,), " y"]),
        (r"sk-[A-Za-z0-9_-]{20,}", "sk-" + "x" * 9000 + " y", [("sk-" + "x" * 9000,), " y"]),
        (r"\d+", "9" * 100, [("9" * 100,)]),
        # Nothing but the match is masked.
        (r"\d+", "9" * 100 + "abc", [("9" * 100,), "abc"]),
        (r"x{60,70}", "x" * 75 + "y", [("x" * 70,), "xxxxxy"]),
        # Where it ends within what is seen, it may go on all the same.
        (r"k(?:\d{4}-)+", f"k{BLOCKS}56", [(f"k{BLOCKS}",), "56"]),
        (r"k(?:\d{4}-)+", f"k{'1234-' * 900}56", [(f"k{'1234-' * 900}",), "56"]),
        (r"a.*?b", "a" + "." * 20 + "b" + "." * 20 + "b", [("a" + "." * 20 + "b",), "." * 20 + "b"]),
        # What is around a match counts, however long it is.
        (r"\b\w+\b", "w" * 200 + "!", [("w" * 200,), "!"]),
        (r"(?m)^a.*$", "b\na" + "c" * 99 + "\na", ["b\n", ("a" + "c" * 99,), "\n", ("a",)]),
        (r"\bsk-\w{20,}\b", f"{KEY}, ok", [(KEY,), ", ok"]),
        (r"(?:\w+\b ?)+", "ab " * 30 + "w" * 200 + "!", [("ab " * 30 + "w" * 200,), "!"]),
        (r"a+$", "a" * 60 + "b", ["a" * 60 + "b"]),
        # Too long to know whether it ends there.
        (r"a+$", "a" * 200 + "b", [("a" * 192,), "a" * 8 + "b"]),
        (r"^a+", "a" * 200 + " a", [("a" * 200,), " a"]),
        # What needs more than that to be a match at all.
        (r"a[^b]*b", "a" + "c" * 63 + "b", ["a" + "c" * 63 + "b"]),
        (r"a[^b]*b", "a" + "c" * 62 + "b", [("a" + "c" * 62 + "b",)]),
        (r"\pL+", "\u4e2d" * 100 + "\U0001f600", [("\u4e2d" * 100,), "\U0001f600"]),
        (r".", "\ud83d", [("\ud83d",)]),
        (r"\d", "12", [("1",), ("2",)]),
    ],
)
def test_matches_of_any_length_are_found_whole(
    pattern: str, text: str, pieces: list[str | tuple[str, ...]]
) -> None:
    assert told(patterns(pattern), text) == pieces
    assert told(patterns(pattern), text, range(1, len(text))) == pieces


def by_the_rule(pattern: str, text: str) -> list[str | tuple[str, ...]]:
    """The rule of PatternMachine, written down once more for whole texts."""
    compiled = re2.compile(pattern)

    def end_of(start: int, place: int) -> int:
        limit = place + REACH
        match = compiled.match(text, start, min(limit, len(text)))
        if match is not None and match.end() > place:
            return match.end()
        match = compiled.match(text[:limit], start)
        return limit if match is not None and match.end() == limit else place

    pieces: list[str | tuple[str, ...]] = []
    place = done = 0
    while place < len(text):
        end = end_of(place, place)
        if end == place:
            place += 1
            continue
        while (further := end_of(place, end)) > end:
            end = further
        if place > done:
            pieces.append(text[done:place])
        pieces.append((text[place:end],))
        place = done = end
    return [*pieces, text[done:]] if done < len(text) else pieces


PATTERNS = st.sampled_from([
    r"\w+", r"[a-z ]+", r"a[^b]*b", r"\bab\b", r"(?:a|b)+c", r"a.{70,}b", r"5$", r"^a+", r"a(?:.{40}b)?",
    r"a.*?b", r"x{60,70}", r"x{1,100}", r"(?m)^a.*$", r"(?:\w+ )+b", r"a+$", r"\b", r"\ba*", "\u00e9+1?",
    r"(?:ab)+|a\b", r"\bx+\b", r"a+\b ", r"a(?:.{63,66}b)?",
])  # fmt: skip
FRAGMENTS = st.sampled_from([
    "a", "b", "c", " ", "\n", "1", "\u00e9", "a" * 40, "x" * 65, "ab" * 30, "xxxx", "\U0001f600", "5",
    "word ", "b" * 63, "c" * 300,
])  # fmt: skip


@given(pattern=PATTERNS, text=st.lists(FRAGMENTS, max_size=25).map("".join), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_every_cutting_finds_the_same_of_a_pattern(pattern: str, text: str, seed: int) -> None:
    whole = by_the_rule(pattern, text)
    cuts = sorted(random.Random(seed).choices(range(len(text) + 1), k=5))
    assert told(patterns(pattern), text) == whole
    assert told(patterns(pattern), text, cuts) == whole
    assert told(patterns(pattern), text, range(1, len(text))) == whole


@given(
    pattern=st.sampled_from([r"k(?:\d+-)+", r"kx*", r"k(?:\w{11} )*", r"k(?:\w+ )*\w"]),
    parts=st.lists(st.sampled_from(["12-", "1-", "x" * 500, "abcdefghijk ", "a b " * 200]), max_size=20),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=50)
def test_every_cutting_finds_the_same_where_the_middle_is_forgotten(
    pattern: str, parts: list[str], seed: int
) -> None:
    text = "k" + "".join(part * 20 for part in parts)
    whole = told(patterns(pattern), text)
    cuts = sorted(random.Random(seed).choices(range(len(text) + 1), k=9))
    assert told(patterns(pattern), text, cuts) == whole
    assert told(patterns(pattern), text, range(7, len(text), 7)) == whole


@pytest.mark.parametrize("pattern", [r"[a-z ]+", r"\w+", r"a[^b]*b", r"a.{70,}b", r"(?:a|b)+c", r"\w+@\w+"])
@pytest.mark.parametrize("text", ["a", "ab c", "a" * 999 + "b", "\u00e91"])
def test_a_pattern_takes_a_time_linear_in_the_text(pattern: str, text: str) -> None:
    text *= 64_000 // len(text)
    machine = patterns(pattern)
    started_at = time.process_time()
    machine.feed(text)
    machine.close()
    # A tenth of that is usual; when every beginning was tried to its end, it were half a minute.
    assert time.process_time() - started_at < 3


def words(*listed: str) -> WordMachine:
    return WordMachine(WordList(listed))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("say Blue Moon!", "Blue Moon"),
        ("blue  moon", "blue  moon"),
        ("blue \n\t moon", "blue \n\t moon"),
        ("blue\u00a0\u3000moon", "blue\u00a0\u3000moon"),
        ("b\u200blue m\u00adoon", "b\u200blue m\u00adoon"),
        ("blue \u200b \u2060moon", "blue \u200b \u2060moon"),
        ("\u200bblue moon\u200b", "blue moon"),
        ("\uff22\uff4c\uff55\uff45 mo\uff4fn", "\uff22\uff4c\uff55\uff45 mo\uff4fn"),
        ("blue" + " " * 56 + "moon", "blue" + " " * 56 + "moon"),
        # A word that is only a part of another.
        ("blue moons", ""),
        ("blue moon\u200bs", ""),
        ("x\u200bblue moon", ""),
        ("bluemoon", ""),
        ("T\u2011800", "T\u2011800"),
        ("\u03a3\u039f\u03a6\u039f\u03a3", "\u03a3\u039f\u03a6\u039f\u03a3"),
        ("\u03c3\u03bf\u03c6\u03bf\u03c2", "\u03c3\u03bf\u03c6\u03bf\u03c2"),
        ("code  7", "code "),
    ],
)  # fmt: skip
def test_words_are_found_by_how_they_look(text: str, found: str) -> None:
    def open_machine() -> WordMachine:
        return words("blue  moon", "t-800", "\u03c3\u03bf\u03c6\u03bf\u03c2", "code\u200b ")

    pieces = told(open_machine(), text)
    assert [piece[0] for piece in pieces if isinstance(piece, tuple)] == ([found] if found else [])
    assert "".join(piece if isinstance(piece, str) else piece[0] for piece in pieces) == text
    assert told(open_machine(), text, range(1, len(text))) == pieces


@given(
    text=st.lists(
        st.sampled_from([
            "call", "me", "ssn", "x", "y", " ", "  ", "\n", "\u200b", "\u1160", "\u3000", "\uff43all",
            "\u03a3", "\u03c2", "-", "\u2011", "a" * 40, " " * 60, "\u200b" * 62, "\ud83d", "\u0130",
        ])
        | st.text(max_size=3),
        max_size=20,
    ).map("".join),
    seed=st.integers(0, 2**32),
)  # fmt: skip
@settings(deadline=None)
def test_every_cutting_finds_the_same_words(text: str, seed: int) -> None:
    def open_machine() -> WordMachine:
        return words("call", "call me", "ssn ", " x", "x y", "\u03c3", "-", "a" * 40 + "call", "x - y")

    whole = told(open_machine(), text)
    assert "".join(piece if isinstance(piece, str) else piece[0] for piece in whole) == text
    cuts = sorted(random.Random(seed).choices(range(len(text) + 1), k=5))
    assert told(open_machine(), text, cuts) == whole
    assert told(open_machine(), text, range(1, len(text))) == whole
