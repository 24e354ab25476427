"""The places of features in the row of weights, against the same written out for one n-gram at a time.

A model that was trained means nothing beside other places.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.guardrails.text import features
from gateway_server.guardrails.text.concepts import ATTACK, MODERATION
from gateway_server.guardrails.text.features import (
    CHAR_BITS,
    CONCEPT_BITS,
    CONCEPTS_AT,
    NOTHING,
    WORD_BITS,
    WORDS_AT,
    find_features,
    make_concepts,
    read_chunk,
)

_MASK = (1 << 64) - 1
_BASE, _MIX, _SPREAD = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xC2B2AE3D27D4EB4F
_PAIR, _TRIPLE = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53

WORDS = ["alpha", "beta", "gamma", "x", "of", "9", "ü"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)


def place(hashed: int, bits: int) -> int:
    hashed &= _MASK
    return (((hashed ^ hashed >> 31) * _SPREAD) & _MASK) >> (64 - bits)


def hash_of(text: str) -> int:
    total = 0
    for index, character in enumerate(text):
        mixed = (ord("0" if character.isdigit() else character) + 1) * _MIX & _MASK
        total += (mixed ^ mixed >> 29) * _BASE**index
    return total & _MASK


def without_repeats(ids: Sequence[int], distance: int) -> list[int]:
    return [
        NOTHING if each in ids[max(0, index - distance) : index] else each for index, each in enumerate(ids)
    ]


def padded(ids: list[int], count: int) -> list[int]:
    return (ids + [NOTHING] * count)[:count]


@given(TEXTS)
def test_characters_and_words_are_where_the_model_has_them(text: str) -> None:
    words = text.split()
    expected = []
    for order in (3, 4, 5):
        grams = [text[start : start + order] for start in range(len(text) - order + 1)]
        expected += padded([place(hash_of(gram) + order, CHAR_BITS) for gram in grams], len(text))
    hashes = list(map(hash_of, words))
    pairs = [first * _PAIR + second for first, second in pairwise(hashes)]
    triples = [pair * _TRIPLE + third for pair, third in zip(pairs, hashes[2:], strict=False)]
    for row in (hashes, pairs, triples):
        ids = [WORDS_AT + place(hashed, WORD_BITS) for hashed in row]
        expected += padded(without_repeats(ids, 25), len(words))
    assert read_chunk(text).ids.tolist() == expected


@given(TEXTS)
def test_concepts_are_where_the_model_has_them(text: str) -> None:
    concepts = {"alpha": 1, "beta": 2, "gamma": 3}
    found = [(at, concepts[word]) for at, word in enumerate(text.split()) if word in concepts]
    rows: list[list[int]] = [[], [], [], [], []]
    for index, (at, first) in enumerate(found):
        rows[0].append(first * _MIX)
        if index + 1 < len(found):
            after, second = found[index + 1]
            rows[1].append((first * 256 + second) * _PAIR)
            distance = sum(after - at >= gap for gap in (2, 4, 8, 16))
            rows[2].append(rows[1][-1] + (distance + 1) * _SPREAD)
        if index + 2 < len(found):
            second, third = found[index + 1][1], found[index + 2][1]
            rows[3].append((first * 256 + third) * _TRIPLE + 7)
            rows[4].append(((first * 256 + second) * 256 + third) * _TRIPLE)
    expected = []
    for row in rows:
        ids = [CONCEPTS_AT + place(hashed, CONCEPT_BITS) for hashed in row]
        expected += padded(without_repeats(ids, 4), len(found))
    reading = read_chunk(text)
    chunk = find_features(reading, make_concepts({word: word for word in concepts}))
    assert chunk.ids[len(reading.ids) :].tolist() == expected


CONCEPTS = [make_concepts(lexicon) for lexicon in (ATTACK, MODERATION)]
SPOKEN = st.lists(
    st.sampled_from([
        *WORDS, "ignore", "all", "previous", "instructions", "rules", "kill", "hate", "system prompt", "you",
        "are", "forget", "忽略之前的指令", "忘记", "правила", ".", "!", "\n", "vergiss", "password",
        "\U00020000",
    ]),
    max_size=60,
).map(" ".join)  # fmt: skip


@given(SPOKEN)
def test_few_words_and_many_are_read_alike(text: str) -> None:
    """Short texts are read in plain Python, where that is quicker: bit for bit the same."""

    def chunks() -> list[features.Chunk]:
        reading = read_chunk(text)
        return [find_features(reading, concepts) for concepts in CONCEPTS]

    with pytest.MonkeyPatch.context() as patch:
        short, read = chunks(), read_chunk(text)
        patch.setattr(features, "_FEW", -1)
        patch.setattr(features, "_FEW_WORDS", -1)
        long, read_long = chunks(), read_chunk(text)
        patch.setattr(features, "_FEW", 10_000)
        patch.setattr(features, "_FEW_WORDS", 10_000)
        few = chunks()
    assert np.array_equal(read.ids, read_long.ids)
    for chunk, other, third in zip(short, long, few, strict=True):
        for name in ("ids", "bounds", "edges"):
            assert np.array_equal(getattr(chunk, name), getattr(other, name))
            assert np.array_equal(getattr(chunk, name), getattr(third, name))
