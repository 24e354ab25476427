"""Hashed features of a text, and its overlapping windows: the same arrays for training and for scoring.

Three blocks: character n-grams, word n-grams, and n-grams of concepts (classes of words that mean the same,
with all other words left out). All of it is numpy over whole chunks; nothing loops over characters, and the
calls are as few as can be: each costs as much as a hundred characters do. Where there is less to do than
that, as with the concepts of a short text, plain Python does the same.
"""

import sys
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.uint32]
Hashes: TypeAlias = NDArray[np.uint64]
Ids: TypeAlias = NDArray[np.int64]
Bits: TypeAlias = NDArray[np.uint8]

CHAR_BITS: Final = 18
#: As many, so that the places of both are made at once.
WORD_BITS: Final = CHAR_BITS
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

#: How many n-grams begin at each character, word and concept.
ROWS: Final = (3, 3, 5)

#: Texts are read in chunks of this many characters, which overlap.
CHUNK: Final = 4096
OVERLAP: Final = 512

_SHORTEST_GRAM: Final = 3
_CHAR_ROWS, _WORD_ROWS, _CONCEPT_ROWS = ROWS
_SHORTEST_SEGMENT: Final = 24
_LONGEST_SEGMENT: Final = 160
#: Windows of so many segments, one beginning every so many.
_SCALES: Final = ((1, 1), (2, 1), (4, 2), (10, 4), (30, 10))
_LENGTHS: Final = np.array((24, 48, 96, 192, 384, 768, 1536))
#: The sum of each block is multiplied by its weight over the root of three times its size and so much.
_BLOCK_WEIGHTS: Final = np.array([[0.6], [1.0], [1.0]], dtype=np.float32)
_BLOCK_FLOORS: Final = np.array([[30], [6], [6]], dtype=np.float32)

#: What stands again within so many words, or so many concepts, does not count.
_WORD_DISTANCE: Final = 25
_CONCEPT_DISTANCE: Final = 4
_GAPS: Final = np.array((2, 4, 8, 16))

_MASK: Final = (1 << 64) - 1
_BASE: Final = 0x9E3779B97F4A7C15
_BASE_INVERSE: Final = pow(_BASE, -1, 1 << 64)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_SPREAD: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_PAIR: Final = np.uint64(0xFF51AFD7ED558CCD)
_TRIPLE: Final = np.uint64(0xC4CEB9FE1A85EC53)
_GAP_SALTS: Final = np.arange(1, len(_GAPS) + 2, dtype=np.uint64) * _SPREAD
#: What the concepts of one n-gram are multiplied by, whose sum is its hash: (5, 3).
_CONCEPT_FACTORS: Final = np.array(
    [
        [int(_MIX), 0, 0],
        [int(_PAIR) << 8 & _MASK, int(_PAIR), 0],
        [int(_PAIR) << 8 & _MASK, int(_PAIR), 0],
        [int(_TRIPLE) << 8 & _MASK, 0, int(_TRIPLE)],
        [int(_TRIPLE) << 16 & _MASK, int(_TRIPLE) << 8 & _MASK, int(_TRIPLE)],
    ],
    dtype=np.uint64,
)
_AROUND_SALT: Final = 7
_GAP_LIST: Final[list[int]] = _GAPS.tolist()
_GAP_SALT_LIST: Final[list[int]] = _GAP_SALTS.tolist()
#: Up to how many places that may be concepts' plain Python is quicker.
_FEW: Final = 32
#: The same for words that may stand again.
_FEW_WORDS: Final = 64
_ORDER_SALTS: Final = np.arange(_SHORTEST_GRAM, _SHORTEST_GRAM + _CHAR_ROWS, dtype=np.uint64)[:, None]

#: Longest first: the first that is found counts.
_STEMS: Final = np.array((7, 6, 5, 4, 3, 2))[:, None]
_STEM_SALTS: Final = (_STEMS.astype(np.uint64) + np.uint64(1)) * np.uint64(0xA24BAED4963EE407)
_FILTER_BITS: Final = 20
_ID_BITS: Final = 20
#: One more than CHUNK needs, so that no two ids are as near as a distance.
_PLACE_BITS: Final = 13
_ROW_KEYS: Final = (np.arange(max(ROWS)) << _ID_BITS)[:, None]
_PLACES: Final = np.arange(CHUNK)

#: What a character is, bit by bit: a letter or digit; one that is a word of its own; white space; the end of
#: a sentence before white space; the end of one whatever follows.
_LETTER, _IDEOGRAPH, _SPACE, _STOP, _FULL_STOP = 1, 2, 4, 8, 16
_WRITTEN: Final = _LETTER | _IDEOGRAPH
_CLASSIFIED: Final = 0x20000


@dataclass(frozen=True, slots=True)
class Concepts:
    """Hashes of words, beginnings of words and pairs of words in ascending order, each with its concept."""

    keys: Hashes
    values: Bits
    #: The same, for few keys.
    by_key: Mapping[int, int]
    #: Whether a key may begin with so many bits: most words are told by it to be none.
    begins: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The features of up to CHUNK characters.

    ``ids`` are places in the row of weights, block after block: for characters, words and concepts as many
    rows as ``ROWS`` says, in the order of the text. Windows consist of whole segments of the text.
    """

    ids: Ids
    #: Where each segment begins and the last one ends, counted in characters, words and concepts:
    #: (3, segments + 1).
    bounds: Ids
    #: The first segment of each window, and the one behind its last: (2, windows).
    edges: Ids

    @property
    def firsts(self) -> Ids:
        """The first segment of each window."""
        firsts: Ids = self.edges[0]
        return firsts

    @property
    def lasts(self) -> Ids:
        """The segment behind the last of each window."""
        lasts: Ids = self.edges[1]
        return lasts

    @property
    def lengths(self) -> tuple[int, int, int]:
        """How many characters, words and concepts there are."""
        characters, words, concepts = self.bounds[:, -1].tolist()
        return characters, words, concepts


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a chunk, whatever it is read for: its characters, words and segments."""

    #: As in Chunk, of the first two blocks.
    ids: Ids
    bounds: Ids
    #: Hashes that concepts are found by, (8, words): of a word with its next, of itself, of its beginnings.
    keys: Hashes


def _powers(base: int, count: int) -> Hashes:
    powers, power = [], 1
    for _ in range(count):
        powers.append(power)
        power = power * base & _MASK
    return np.array(powers, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class _Tables:
    powers: Hashes
    inverses: Hashes
    #: For each character its bits and its hash.
    bits: Bits
    hashes: Hashes


@cache
def _tables() -> _Tables:
    bits = np.zeros(_CLASSIFIED, dtype=np.uint8)
    for code in range(0x80, _CLASSIFIED):
        character = chr(code)
        if 0x3040 <= code < 0xA000 or 0xF900 <= code < 0xFB00:
            bits[code] = _IDEOGRAPH if character.isalnum() else 0
        elif character.isalnum() or unicodedata.category(character) in {"Mn", "Mc"}:
            bits[code] = _LETTER
    for character in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
        bits[ord(character)] = _LETTER
    bits[:33] |= _SPACE
    for character in "\n.!?;:\u3002\uff01\uff1f\u0964\u061f":
        bits[ord(character)] |= _STOP if " " < character < "\u3000" else _FULL_STOP
    size = CHUNK + 16
    hashes = _hash_codes(np.arange(_CLASSIFIED, dtype=np.uint32))
    return _Tables(_powers(_BASE, size), _powers(_BASE_INVERSE, size), bits, hashes)


def _encode(text: str) -> Codes:
    encoding = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
    return np.frombuffer(text.encode(encoding, "surrogatepass"), dtype=np.uint32)


def _hash_codes(codes: Codes) -> Hashes:
    # Digits say little more than that they are digits.
    codes = np.where((codes >= 48) & (codes <= 57), np.uint32(48), codes)
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * _MIX
    return mixed ^ (mixed >> np.uint64(29))


def _running_hash(codes: Codes, *, is_ascii: bool = False) -> Hashes:
    """Sums of which two give the hash of what stands between them, see _span_hashes.

    Behind the last are as many zeros as the longest n-gram goes beyond the end.
    """
    tables = _tables()
    is_classified = is_ascii or codes.max() < _CLASSIFIED
    known = tables.hashes.take(codes, mode="clip") if is_classified else _hash_codes(codes)
    count = len(codes)
    known *= tables.powers[:count]
    sums = np.zeros(count + _SHORTEST_GRAM + _CHAR_ROWS - 1, dtype=np.uint64)
    np.add.accumulate(known, out=sums[1 : count + 1])
    return sums


def _span_hashes(sums: Hashes, starts: Ids, ends: Ids) -> Hashes:
    return (sums.take(ends) - sums.take(starts)) * _tables().inverses.take(starts)


def _to_ids(hashes: Hashes, bits: int) -> Ids:
    """Places in a table of two to the power of ``bits``; the hashes are used up."""
    hashes ^= hashes >> np.uint64(31)
    hashes *= _SPREAD
    hashes >>= np.uint64(64 - bits)
    return hashes.view(np.int64)


def _word_spans(bits: Bits, *, is_ascii: bool = False) -> tuple[Ids, Ids, Ids]:
    """Begin and end of each word, and the end of the run of letters that it is in."""
    kinds = bits & np.uint8(_WRITTEN)
    has_ideographs = not is_ascii and bool((kinds & _IDEOGRAPH).any())
    change = kinds[1:] != kinds[:-1]
    if has_ideographs:
        change |= kinds[1:] == _IDEOGRAPH
    places = change.nonzero()[0]
    cuts = np.empty(len(places) + 2, dtype=np.int64)
    cuts[0], cuts[-1] = 0, len(bits)
    np.add(places, 1, out=cuts[1:-1])
    written = kinds.take(cuts[:-1]).nonzero()[0]
    starts, ends = cuts.take(written), cuts.take(written + 1)
    if not has_ideographs:
        return starts, ends, ends
    run_ends = np.flatnonzero((kinds > 0) & ~np.append(kinds[1:] > 0, False)) + 1
    return starts, ends, run_ends[np.searchsorted(run_ends, starts, side="right")]


def make_concepts(lexicon: Mapping[str, str]) -> Concepts:
    """Reads words by concept: ``stem*``, ``two_words``; words without spaces between them count as stems."""
    entries: dict[int, int] = {}
    for value, words in enumerate(lexicon.values(), start=1):
        for entry in words.split():
            entries.setdefault(_key(entry), value)
    keys = np.array(sorted(entries), dtype=np.uint64)
    begins = np.zeros(1 << _FILTER_BITS, dtype=np.bool_)
    begins[keys >> np.uint64(64 - _FILTER_BITS)] = True
    return Concepts(keys, np.array([entries[int(key)] for key in keys], dtype=np.uint8), entries, begins)


def _key(entry: str) -> int:
    text = entry.rstrip("*").replace("_", " ")
    codes = _encode(text)
    sums = _running_hash(codes)
    starts, ends, _ = _word_spans(_tables().bits.take(codes, mode="clip"))
    hashes = _span_hashes(sums, starts, ends)
    unspaced = " " not in text and ord(text[0]) >= 0x3040
    if (unspaced and len(text) > 1) or entry.endswith("*"):
        length = min(len(text), int(_STEMS[0, 0]))
        salt = _STEM_SALTS[_STEMS[:, 0] == length, 0]
        return int((_span_hashes(sums, np.array([0]), np.array([length])) ^ salt)[0])
    if len(hashes) == 1 or unspaced:
        return int(hashes[0])
    return int((hashes[:1] * _PAIR + hashes[1:2])[0])


def _concept_keys(
    sums: Hashes, starts: Ids, run_ends: Ids, words: Hashes, *, begun: Hashes, inverses: Hashes
) -> Hashes:
    keys = np.zeros((2 + len(_STEMS), len(starts)), dtype=np.uint64)
    keys[0, :-1] = words[1, :-1]
    keys[1] = words[0]
    # Beyond the end of a run, the hash of a whole run meets a salt that fits no stem of its length.
    stems = sums.take(np.minimum(starts + _STEMS, run_ends))
    stems -= begun
    stems *= inverses
    np.bitwise_xor(stems, _STEM_SALTS, out=keys[2:])
    return keys


def _likely_concepts(concepts: Concepts, keys: Hashes) -> Ids:
    """Where all of the keys stand, row after row, that are a concept's, and some of the others."""
    return concepts.begins.take((keys >> np.uint64(64 - _FILTER_BITS)).view(np.int64)).nonzero()[0]


def _find_few_concepts(
    concepts: Concepts, keys: Hashes, likely: Ids, count: int
) -> tuple[list[int], list[int]]:
    """See _find_concepts."""
    found: dict[int, int] = {}
    for place, key in zip(likely.tolist(), keys.take(likely).tolist(), strict=True):
        value = concepts.by_key.get(key)
        if value is not None:
            found.setdefault(place % count, value)
    words = sorted(found)
    return [found[word] for word in words], words


def _find_concepts(concepts: Concepts, flat: Hashes, likely: Ids, count: int) -> tuple[Hashes, Ids]:
    """The concepts in the order of the text, and at which of so many words they stand."""
    hashes = flat.take(likely)
    places = concepts.keys.searchsorted(hashes)
    values = concepts.values.take(places, mode="clip") * (concepts.keys.take(places, mode="clip") == hashes)
    found = np.zeros(count, dtype=np.uint8)
    # What is written last stays: that of a pair, else of the word, else of its longest beginning.
    true = values.nonzero()[0][::-1]
    found[likely.take(true) % count] = values.take(true)
    words = found.nonzero()[0]
    return found.take(words).astype(np.uint64), words


def _drop_repeats(ids: Ids, distance: int) -> None:
    """Writes NOTHING where the same id stood in the same row shortly before: a list is no argument."""
    rows, count = ids.shape
    keys = ids + _ROW_KEYS[:rows]
    keys <<= _PLACE_BITS
    keys += _PLACES[:count]
    flat = keys.ravel()
    flat.sort()
    later = flat[1:]
    # Neighbours of one row and id differ by their places alone; of others by more than a distance.
    again = later.take((later - flat[:-1] <= distance).nonzero()[0])
    if not len(again):
        return
    ids[again >> (_ID_BITS + _PLACE_BITS), again & (1 << _PLACE_BITS) - 1] = NOTHING


def _shifted(row: Hashes, rows: int, *, first: int = 0) -> Hashes:
    """``rows`` times the same, each from one place further on, the first from ``first`` on.

    Beyond the end is nothing: the row needs as many places more than are asked for.
    """
    count = len(row) - first - rows + 1
    return np.ndarray((rows, count), row.dtype, row, first * row.itemsize, (row.itemsize, row.itemsize))


def _hash_chars(sums: Hashes, count: int, grams: Hashes) -> None:
    """Writes hashes of three, four and five characters from each on; those beyond the end are none."""
    np.subtract(_shifted(sums, _CHAR_ROWS, first=_SHORTEST_GRAM), sums[:count], out=grams)
    grams *= _tables().inverses[:count]
    grams += _ORDER_SALTS


def _cut_ends(ids: Ids, first: int) -> None:
    """Writes NOTHING where an n-gram would go beyond the end, in the first row by up to ``first`` places."""
    for row, reach in enumerate(range(first, first + len(ids))):
        ids[row, max(ids.shape[1] - reach, 0) :] = NOTHING


def _hash_words(hashes: Hashes, grams: Hashes) -> None:
    """Writes hashes of one, two and three words from each on; those beyond the end are none."""
    grams[0] = hashes
    np.multiply(hashes, _PAIR, out=grams[1])
    grams[1, :-1] += hashes[1:]
    np.multiply(grams[1], _TRIPLE, out=grams[2])
    grams[2, :-2] += hashes[2:]


def _concept_ids(values: Hashes, words: Ids) -> Ids:
    """One, two, two with their distance, the first and third of three, and three concepts from each on."""
    longest = _CONCEPT_FACTORS.shape[1]
    row = np.zeros(len(values) + longest - 1, dtype=np.uint64)
    row[: len(values)] = values
    hashes = _CONCEPT_FACTORS @ _shifted(row, longest)
    gaps = _GAPS.searchsorted(words[1:] - words[:-1], side="right")
    hashes[2, :-1] += _GAP_SALTS.take(gaps)
    hashes[3] += np.uint64(_AROUND_SALT)
    ids = _to_ids(hashes, CONCEPT_BITS)
    ids += CONCEPTS_AT
    ids[1:3, -1:] = NOTHING
    ids[3:, -2:] = NOTHING
    return ids


@lru_cache(maxsize=1 << 14)
def _concept_id(row: int, values: tuple[int, ...], salt: int) -> int:
    factors: list[int] = _CONCEPT_FACTORS[row].tolist()
    hashed = sum(value * factor for value, factor in zip(values, factors, strict=True)) + salt & _MASK
    hashed = (hashed ^ hashed >> 31) * int(_SPREAD) & _MASK
    return (hashed >> 64 - CONCEPT_BITS) + CONCEPTS_AT


def _few_concept_ids(values: list[int], words: list[int]) -> list[int]:
    """What _concept_ids gives, without repeats."""
    count = len(values)
    one, two, apart, around, three = ([NOTHING] * count for _ in range(_CONCEPT_ROWS))
    for place, value in enumerate(values):
        one[place] = _concept_id(0, (value, 0, 0), 0)
        after = values[place + 1 : place + 3]
        if after:
            gap = bisect_right(_GAP_LIST, words[place + 1] - words[place])
            two[place] = _concept_id(1, (value, after[0], 0), 0)
            apart[place] = _concept_id(2, (value, after[0], 0), _GAP_SALT_LIST[gap])
        if len(after) > 1:
            around[place] = _concept_id(3, (value, 0, after[1]), _AROUND_SALT)
            three[place] = _concept_id(4, (value, after[0], after[1]), 0)
    ids: list[int] = []
    for row in (one, two, apart, around, three):
        for place in _few_repeats(row, _CONCEPT_DISTANCE):
            row[place] = NOTHING
        ids += row
    return ids


def _few_repeats(ids: list[int], distance: int) -> list[int]:
    """Where in a row _drop_repeats would write NOTHING."""
    if len(set(ids)) == len(ids):
        return []
    last: dict[int, int] = {}
    repeats = []
    for place, each in enumerate(ids):
        if place - last.get(each, -distance - 1) <= distance:
            repeats.append(place)
        last[each] = place
    return repeats


def _segments(bits: Bits) -> Ids:
    """Where segments begin, and the end of the last: after sentences, neither very short nor long."""
    count = len(bits)
    stops = (bits & np.uint8(_STOP | _FULL_STOP)).nonzero()[0]
    kinds = bits.tobytes()
    cuts, begin = [0], 0
    for place in stops.tolist():
        end = place + 1
        if end - begin < _SHORTEST_SEGMENT:
            continue
        if not (end == count or kinds[place] & _FULL_STOP or kinds[end] & _SPACE):
            continue
        while end - begin > _LONGEST_SEGMENT * 3 // 2:
            begin += _LONGEST_SEGMENT
            cuts.append(begin)
        cuts.append(end)
        begin = end
    while count - begin > _LONGEST_SEGMENT * 3 // 2:
        begin += _LONGEST_SEGMENT
        cuts.append(begin)
    if count - begin < _SHORTEST_SEGMENT and len(cuts) > 1:
        cuts.pop()
    if cuts[-1] != count:
        cuts.append(count)
    return np.array(cuts)


@cache
def _windows(count: int) -> Ids:
    """The first segment of each window of ``count`` segments, and the one behind its last: (2, windows)."""
    firsts, lasts = [], []
    for size, stride in _SCALES:
        first = np.minimum(np.arange(0, max(count - size, 0) + stride, stride), max(count - size, 0))
        firsts.append(first)
        lasts.append(np.minimum(first + size, count))
        if size >= count:
            break
    return np.array((np.concatenate(firsts), np.concatenate(lasts)))


def read_chunk(text: str) -> Reading:
    """Reads at most CHUNK characters of normalised text."""
    codes, is_ascii = _encode(text[:CHUNK] or " "), text.isascii()
    bits = _tables().bits.take(codes, mode="clip")
    sums = _running_hash(codes, is_ascii=is_ascii)
    starts, ends, run_ends = _word_spans(bits, is_ascii=is_ascii)
    begun, inverses = sums.take(starts), _tables().inverses.take(starts)
    words_from = _CHAR_ROWS * len(codes)
    hashes = np.empty(words_from + _WORD_ROWS * len(starts), dtype=np.uint64)
    words = hashes[words_from:].reshape(_WORD_ROWS, len(starts))
    _hash_chars(sums, len(codes), hashes[:words_from].reshape(_CHAR_ROWS, -1))
    _hash_words((sums.take(ends) - begun) * inverses, words)
    keys = _concept_keys(sums, starts, run_ends, words, begun=begun, inverses=inverses)
    ids = _to_ids(hashes, CHAR_BITS)
    _cut_ends(ids[:words_from].reshape(_CHAR_ROWS, -1), _SHORTEST_GRAM - 1)
    word_ids = ids[words_from:].reshape(_WORD_ROWS, len(starts))
    word_ids += WORDS_AT
    if len(starts) <= _FEW_WORDS:
        for row, listed in enumerate(word_ids.tolist()):
            for place in _few_repeats(listed, _WORD_DISTANCE):
                word_ids[row, place] = NOTHING
    else:
        _drop_repeats(word_ids, _WORD_DISTANCE)
    _cut_ends(word_ids, 0)
    cuts = _segments(bits)
    return Reading(ids, np.array((cuts, starts.searchsorted(cuts))), keys)


def find_features(reading: Reading, concepts: Concepts) -> Chunk:
    """The features of what was read, with one lexicon's concepts."""
    keys, count = reading.keys.ravel(), max(reading.keys.shape[1], 1)
    likely = _likely_concepts(concepts, keys)
    bounds = np.empty((len(ROWS), reading.bounds.shape[1]), dtype=np.int64)
    bounds[:2] = reading.bounds
    if len(likely) <= _FEW:
        few_values, few_words = _find_few_concepts(concepts, keys, likely, count)
        ids = np.array(_few_concept_ids(few_values, few_words), dtype=np.int64)
        bounds[2] = [bisect_left(few_words, word) for word in reading.bounds[1].tolist()]
    else:
        values, words = _find_concepts(concepts, keys, likely, count)
        ids = _concept_ids(values, words)
        _drop_repeats(ids, _CONCEPT_DISTANCE)
        bounds[2] = words.searchsorted(reading.bounds[1])
    return Chunk(np.concatenate((reading.ids, ids.ravel())), bounds, _windows(bounds.shape[1] - 1))


def chunk_texts(text: str) -> Iterator[str]:
    """The overlapping parts in which a text is read."""
    step = CHUNK - OVERLAP
    for start in range(0, max(len(text) - OVERLAP, 1), step):
        yield text[start : start + CHUNK]


def length_features(lengths: Ids) -> Ids:
    """The feature of each window's length in characters."""
    return _LENGTHS.searchsorted(lengths, side="right") + LENGTHS_AT


def scales(sizes: Ids) -> NDArray[np.float32]:
    """What to multiply the sums of windows by; sizes are (3, windows), in characters, words and concepts."""
    factors: NDArray[np.float32] = _BLOCK_WEIGHTS / np.sqrt(
        sizes.astype(np.float32) * np.float32(3) + _BLOCK_FLOORS
    )
    return factors
