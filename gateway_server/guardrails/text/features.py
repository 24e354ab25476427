"""Hashed features of a text, and its overlapping windows: the same arrays for training and for scoring.

Three blocks: character n-grams, word n-grams, and n-grams of concepts (classes of words that mean the same,
with all other words left out). All of it is numpy over whole chunks; nothing loops over characters.
"""

import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.uint32]
Hashes: TypeAlias = NDArray[np.uint64]
Ids: TypeAlias = NDArray[np.int64]

CHAR_BITS: Final = 18
WORD_BITS: Final = 18
CONCEPT_BITS: Final = 15
CHAR_TABLE: Final = 1 << CHAR_BITS
WORD_TABLE: Final = 1 << WORD_BITS
CONCEPT_TABLE: Final = 1 << CONCEPT_BITS
#: How many length classes of windows have a bias of their own.
LENGTH_CLASSES: Final = 8
#: Where each block begins in the row of weights.
WORDS_AT: Final = CHAR_TABLE
CONCEPTS_AT: Final = WORDS_AT + WORD_TABLE
LENGTHS_AT: Final = CONCEPTS_AT + CONCEPT_TABLE
#: What stands in place of a feature that was there just before; it weighs nothing.
NOTHING: Final = LENGTHS_AT + LENGTH_CLASSES
DIMENSIONS: Final = NOTHING + 1

#: Texts are read in chunks of this many characters, which overlap.
CHUNK: Final = 4096
OVERLAP: Final = 512

_CHAR_ORDERS: Final = (3, 4, 5)
_CHAR_WEIGHT: Final = 0.6
_WORD_WEIGHT: Final = 1.0
_CONCEPT_WEIGHT: Final = 1.0
_SHORTEST_SEGMENT: Final = 24
_LONGEST_SEGMENT: Final = 160
#: Windows of so many segments, one beginning every so many.
_SCALES: Final = ((1, 1), (2, 1), (4, 2), (10, 4), (30, 10))

#: What stands again within so many words, or so many concepts, does not count.
_WORD_DISTANCE: Final = 25
_CONCEPT_DISTANCE: Final = 4

_MASK: Final = (1 << 64) - 1
_BASE: Final = 0x9E3779B97F4A7C15
_BASE_INVERSE: Final = pow(_BASE, -1, 1 << 64)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_SPREAD: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_PAIR: Final = np.uint64(0xFF51AFD7ED558CCD)
_TRIPLE: Final = np.uint64(0xC4CEB9FE1A85EC53)
_STEM_LENGTHS: Final = (2, 3, 4, 5, 6, 7)

_SLOTS: Final = 1 << 16
_SHIFTS: Final = (np.uint64(48), np.uint64(32), np.uint64(16))
_ID_BITS: Final = 20
_PLACE_BITS: Final = 12

_OTHER, _LETTER, _IDEOGRAPH = 0, 1, 2
_CLASSIFIED: Final = 0x20000


@dataclass(frozen=True, slots=True)
class Concepts:
    """Hashes of words, beginnings of words and pairs of words, each in one of its slots, with its concept."""

    keys: Hashes
    values: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The features of up to CHUNK characters: ids into the row of weights, in the order of the text."""

    length: int
    chars: tuple[Ids, ...]
    word_starts: Ids
    words: tuple[Ids, ...]
    concept_starts: Ids
    concepts: tuple[Ids, ...]
    #: Begin and end of each window, in characters.
    starts: Ids
    ends: Ids


def _powers(base: int, count: int) -> Hashes:
    powers, power = [], 1
    for _ in range(count):
        powers.append(power)
        power = power * base & _MASK
    return np.array(powers, dtype=np.uint64)


@cache
def _tables() -> tuple[Hashes, Hashes, NDArray[np.uint8]]:
    classes = np.zeros(_CLASSIFIED, dtype=np.uint8)
    for code in range(0x80, _CLASSIFIED):
        character = chr(code)
        if 0x3040 <= code < 0xA000 or 0xF900 <= code < 0xFB00:
            classes[code] = _IDEOGRAPH if character.isalnum() else _OTHER
        elif character.isalnum() or unicodedata.category(character) in {"Mn", "Mc"}:
            classes[code] = _LETTER
    for character in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
        classes[ord(character)] = _LETTER
    size = CHUNK + 16
    return _powers(_BASE, size), _powers(_BASE_INVERSE, size), classes


def _encode(text: str) -> Codes:
    # Digits say little more than that they are digits.
    encoding = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
    codes = np.frombuffer(text.encode(encoding, "surrogatepass"), dtype=np.uint32)
    return np.where((codes >= 48) & (codes <= 57), np.uint32(48), codes)


def _mixed(codes: Codes) -> Hashes:
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * _MIX
    return mixed ^ (mixed >> np.uint64(29))


def _to_ids(hashes: Hashes, bits: int, offset: int) -> Ids:
    spread = (hashes ^ (hashes >> np.uint64(31))) * _SPREAD
    return (spread >> np.uint64(64 - bits)).astype(np.int64) + offset


def _word_spans(codes: Codes, classes: NDArray[np.uint8]) -> tuple[Ids, Ids, Ids]:
    """Begin and end of each word, and the end of the run of letters that it is in."""
    kinds = classes[np.minimum(codes, _CLASSIFIED - 1)]
    alone = kinds == _IDEOGRAPH
    written = kinds > _OTHER
    before = np.empty_like(written)
    before[0] = False
    before[1:] = written[:-1] & ~alone[:-1]
    starts = np.flatnonzero(written & (~before | alone))
    after = np.empty_like(written)
    after[-1] = False
    after[:-1] = written[1:] & ~alone[1:]
    ends = np.flatnonzero(written & (~after | alone)) + 1
    run_ends = np.flatnonzero(written & ~np.append(written[1:], False)) + 1
    return starts, ends, run_ends[np.searchsorted(run_ends, starts, side="right")] if len(starts) else ends


def _hash_words(text: str) -> tuple[Hashes, Ids, Ids]:
    powers, _, classes = _tables()
    codes = _encode(text)
    starts, ends, _ = _word_spans(codes, classes)
    return _running_sums(_mixed(codes) * powers[: len(codes)]), starts, ends


def _running_sums(values: Hashes) -> Hashes:
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values, out=sums[1:])
    return sums


def _span_hashes(sums: Hashes, starts: Ids, ends: Ids) -> Hashes:
    return (sums[ends] - sums[starts]) * _tables()[1][starts]


def _stem_salt(length: int) -> np.uint64:
    return np.uint64((0xA24BAED4963EE407 * (length + 1)) & _MASK)


_STEMS: Final = np.array(_STEM_LENGTHS[::-1])
_STEM_SALTS: Final = np.array([_stem_salt(length) for length in _STEM_LENGTHS[::-1]])


def make_concepts(lexicon: Mapping[str, str]) -> Concepts:
    """Reads words by concept: ``stem*``, ``two_words``; words without spaces between them count as stems."""
    entries: dict[int, int] = {}
    for value, words in enumerate(lexicon.values(), start=1):
        for entry in words.split():
            text = entry.rstrip("*").replace("_", " ")
            sums, starts, ends = _hash_words(text)
            hashes = _span_hashes(sums, starts, ends)
            unspaced = " " not in text and ord(text[0]) >= 0x3040
            if (unspaced and len(text) > 1) or entry.endswith("*"):
                length = min(len(text), _STEM_LENGTHS[-1])
                key = _span_hashes(sums, np.array([0]), np.array([length]))[0] ^ _stem_salt(length)
            elif len(hashes) == 1 or unspaced:
                key = hashes[0]
            else:
                key = (hashes[:1] * _PAIR + hashes[1:2])[0]
            entries.setdefault(int(key), value)
    keys, values = np.zeros(_SLOTS, dtype=np.uint64), np.zeros(_SLOTS, dtype=np.uint8)
    for key, value in entries.items():
        slots = [key >> int(shift) & (_SLOTS - 1) for shift in _SHIFTS]
        slot = next(slot for slot in slots if not values[slot])
        keys[slot], values[slot] = key, value
    return Concepts(keys, values)


def _look_up(concepts: Concepts, hashes: Hashes) -> NDArray[np.uint8]:
    found = np.zeros(hashes.shape, dtype=np.uint8)
    for shift in _SHIFTS:
        places = (hashes >> shift & np.uint64(_SLOTS - 1)).astype(np.int64)
        found += concepts.values[places] * (concepts.keys[places] == hashes)
    return found


def _find_concepts(
    concepts: Concepts, sums: Hashes, spans: tuple[Ids, Ids, Ids], words: Hashes, pairs: Hashes
) -> NDArray[np.uint8]:
    starts, _, run_ends = spans
    keys = np.zeros((2 + len(_STEM_LENGTHS), len(starts)), dtype=np.uint64)
    keys[0, :-1] = pairs
    keys[1] = words
    ends = starts + _STEMS[:, None]
    fits = ends <= run_ends
    stems = (sums[np.where(fits, ends, starts)] - sums[starts]) * _tables()[1][starts]
    keys[2:] = (stems ^ _STEM_SALTS[:, None]) * fits
    found = _look_up(concepts, keys)
    # The first in the order of pair, word, longest stem.
    first: NDArray[np.uint8] = found[(found != 0).argmax(axis=0), np.arange(len(starts))]
    return first


def _without_repeats(blocks: Sequence[Ids], distance: int) -> tuple[Ids, ...]:
    """The ids, with NOTHING for those that stood there shortly before: a list is no argument."""
    keys = np.concatenate([
        (ids + (number << _ID_BITS) << _PLACE_BITS) + np.arange(len(ids)) for number, ids in enumerate(blocks)
    ])  # fmt: skip
    keys.sort()
    same = keys[1:] >> _PLACE_BITS == keys[:-1] >> _PLACE_BITS
    again = keys[1:][same & (keys[1:] - keys[:-1] <= distance)]
    block, places = again >> (_ID_BITS + _PLACE_BITS), again & (1 << _PLACE_BITS) - 1
    for number, ids in enumerate(blocks):
        ids[places[block == number]] = NOTHING
    return tuple(blocks)


def _concept_ids(values: NDArray[np.uint8], places: Ids) -> tuple[Ids, ...]:
    ids = values.astype(np.uint64)
    singles = _to_ids(ids * _MIX, CONCEPT_BITS, CONCEPTS_AT)
    if len(ids) < 2:
        return (singles,)
    gaps = np.digitize(np.diff(places), (2, 4, 8, 16)).astype(np.uint64)
    pairs = (ids[:-1] * np.uint64(256) + ids[1:]) * _PAIR
    blocks = [singles, _to_ids(pairs, CONCEPT_BITS, CONCEPTS_AT)]
    blocks.append(_to_ids(pairs + (gaps + np.uint64(1)) * _SPREAD, CONCEPT_BITS, CONCEPTS_AT))
    if len(ids) > 2:
        skips = (ids[:-2] * np.uint64(256) + ids[2:]) * _TRIPLE + np.uint64(7)
        triples = ((ids[:-2] * np.uint64(256) + ids[1:-1]) * np.uint64(256) + ids[2:]) * _TRIPLE
        blocks += [_to_ids(skips, CONCEPT_BITS, CONCEPTS_AT), _to_ids(triples, CONCEPT_BITS, CONCEPTS_AT)]
    return tuple(blocks)


_ENDERS: Final = np.zeros(0xFF21, dtype=np.bool_)
_ENDERS[[ord(each) for each in "\n.!?;:\u3002\uff01\uff1f\u0964\u061f"]] = True


def _segments(codes: Codes) -> list[int]:
    """Where segments begin, and the end of the last: after sentences, neither very short nor long."""
    stops = _ENDERS[np.minimum(codes, len(_ENDERS) - 1)]
    stops[:-1] &= (codes[1:] <= 32) | (codes[:-1] > 0x2FFF) | (codes[:-1] == 10)
    cuts, begin = [0], 0
    for place in np.flatnonzero(stops).tolist():
        end = place + 1
        if end - begin < _SHORTEST_SEGMENT:
            continue
        while end - begin > _LONGEST_SEGMENT * 3 // 2:
            begin += _LONGEST_SEGMENT
            cuts.append(begin)
        cuts.append(end)
        begin = end
    while len(codes) - begin > _LONGEST_SEGMENT * 3 // 2:
        begin += _LONGEST_SEGMENT
        cuts.append(begin)
    if len(codes) - begin < _SHORTEST_SEGMENT and len(cuts) > 1:
        cuts.pop()
    if cuts[-1] != len(codes):
        cuts.append(len(codes))
    return cuts


def _windows(cuts: Ids) -> tuple[Ids, Ids]:
    count = len(cuts) - 1
    starts, ends = [], []
    for size, stride in _SCALES:
        firsts = np.arange(0, max(count - size, 0) + stride, stride)
        firsts = np.minimum(firsts, max(count - size, 0))
        starts.append(cuts[firsts])
        ends.append(cuts[np.minimum(firsts + size, count)])
        if size >= count:
            break
    return np.concatenate(starts), np.concatenate(ends)


def read_chunk(text: str, concepts: Concepts) -> Chunk:
    """The features of at most CHUNK characters of normalised text."""
    powers, _, classes = _tables()
    codes = _encode(text[:CHUNK] or " ")
    mixed = _mixed(codes)
    sums = _running_sums(mixed * powers[: len(codes)])

    chars, gram = [], mixed
    for order in range(2, max(_CHAR_ORDERS) + 1):
        if len(codes) < order:
            break
        gram = gram[:-1] + mixed[order - 1 :] * powers[order - 1]
        if order in _CHAR_ORDERS:
            chars.append(_to_ids(gram + np.uint64(order), CHAR_BITS, 0))

    spans = _word_spans(codes, classes)
    hashes = _span_hashes(sums, spans[0], spans[1])
    pairs = hashes[:-1] * _PAIR + hashes[1:]
    words = [_to_ids(hashes, WORD_BITS, WORDS_AT), _to_ids(pairs, WORD_BITS, WORDS_AT)]
    if len(hashes) > 2:
        words.append(_to_ids(pairs[:-1] * _TRIPLE + hashes[2:], WORD_BITS, WORDS_AT))
    concept_starts: Ids = np.zeros(0, dtype=np.int64)
    concept_blocks: tuple[Ids, ...] = ()
    if len(hashes):
        found = _find_concepts(concepts, sums, spans, hashes, pairs)
        places = np.flatnonzero(found)
        concept_starts = spans[0][places]
        concept_blocks = _concept_ids(found[places], places)
        concept_blocks = _without_repeats(concept_blocks, _CONCEPT_DISTANCE)
    starts, ends = _windows(np.array(_segments(codes)))
    word_blocks = _without_repeats(words, _WORD_DISTANCE)
    return Chunk(
        len(codes), tuple(chars), spans[0], word_blocks, concept_starts, concept_blocks, starts, ends
    )


def chunk_texts(text: str) -> Iterator[str]:
    """The overlapping parts in which a text is read."""
    step = CHUNK - OVERLAP
    for start in range(0, max(len(text) - OVERLAP, 1), step):
        yield text[start : start + CHUNK]


def length_classes(lengths: Ids) -> Ids:
    """The class of each window's length in characters."""
    return np.digitize(lengths, (24, 48, 96, 192, 384, 768, 1536))


def scales(chunk: Chunk) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """By what the sums of each block are multiplied, per window."""
    lengths = (chunk.ends - chunk.starts).astype(np.float32)
    words = np.searchsorted(chunk.word_starts, chunk.ends) - np.searchsorted(chunk.word_starts, chunk.starts)
    places = chunk.concept_starts
    concepts = np.searchsorted(places, chunk.ends) - np.searchsorted(places, chunk.starts)
    return (
        (_CHAR_WEIGHT / np.sqrt(3 * lengths + 30)).astype(np.float32),
        (_WORD_WEIGHT / np.sqrt(3 * words + 6)).astype(np.float32),
        (_CONCEPT_WEIGHT / np.sqrt(3 * concepts + 6)).astype(np.float32),
    )
