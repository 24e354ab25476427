"""Sketches of durations: small, added up exactly, and within two percent of any percentile.

Values are counted in buckets whose bounds grow by a fixed ratio, so that the middle of a bucket is within the
wanted share of every value in it: DDSketch (C. Masson, J. Rim, H. Lee, VLDB 2019, https://arxiv.org/abs/1908.10693).
"""

import math
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Final

_ACCURACY: Final = 0.02
_RATIO: Final = (1 + _ACCURACY) / (1 - _ACCURACY)
_LOG_RATIO: Final = math.log(_RATIO)
#: A bucket's number, and how many values it has.
_BUCKET: Final = struct.Struct("<HQ")

EMPTY: Final = b""


def bucket_of(value: int) -> int:
    """The bucket of a value; all below 1 are in the first."""
    return math.ceil(math.log(value) / _LOG_RATIO) if value > 1 else 0


def encode(counts: Counter[int]) -> bytes:
    """Counts by bucket as bytes, the same for the same counts."""
    return b"".join(_BUCKET.pack(bucket, count) for bucket, count in sorted(counts.items()))


def decode(sketch: bytes) -> Counter[int]:
    """Counts by bucket."""
    return Counter(dict(_BUCKET.iter_unpack(sketch)))


def merge(sketches: Iterable[bytes]) -> Counter[int]:
    """The counts of all of them together."""
    merged: Counter[int] = Counter()
    for sketch in sketches:
        for bucket, count in _BUCKET.iter_unpack(sketch):
            merged[bucket] += count
    return merged


def percentile(counts: Counter[int], share: float) -> int:
    """The value that ``share`` of all values are not above, from 0 to 1; 0 when there are none."""
    total = sum(counts.values())
    rank = share * (total - 1)
    seen = 0
    for bucket, count in sorted(counts.items()):
        seen += count
        if seen > rank:
            return round(2 * _RATIO**bucket / (_RATIO + 1))
    return 0
