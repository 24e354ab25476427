"""How long things took, in a form that can be added up and still tells percentiles: counts by bucket.

Buckets are those of an HDR histogram (http://hdrhistogram.org): each doubling of a time has 16 of the same
width, so a bucket's middle is within 1/32, 3.2 %, of every time in it. That takes whole numbers only, which
comes out alike in Python and in any database: ``bucket_of`` and ``bucket_column`` are the same function.

A sketch is one large integer with a lane of 48 bits for each bucket, so that adding integers adds sketches.
"""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, case, literal_column

#: No percentile is off by more than this share of itself.
RELATIVE_ERROR: Final = 1 / 32

_SUB_BITS: Final = 4
_SUB_BUCKETS: Final = 1 << _SUB_BITS
#: Under this many microseconds each has a bucket of its own.
_EXACT: Final = 2 * _SUB_BUCKETS
#: Times are counted up to an hour and eleven minutes; what is longer counts as that.
_MAX_BITS: Final = 32
_LAST_BUCKET: Final = ((_MAX_BITS - _SUB_BITS - 1) << _SUB_BITS) + _EXACT - 1

_LANE_BYTES: Final = 6
_LANE_BITS: Final = 8 * _LANE_BYTES

#: A sketch of nothing.
EMPTY: Final = 0


def bucket_of(micros: int) -> int:
    """The bucket of a time."""
    shift = micros.bit_length() - _SUB_BITS - 1
    if shift <= 0:
        return micros
    return min((shift << _SUB_BITS) + (micros >> shift), _LAST_BUCKET)


def bucket_column(micros: ColumnElement[int]) -> ColumnElement[int]:
    """``bucket_of`` in SQL."""
    shifts = range(1, _MAX_BITS - _SUB_BITS)
    steps = [
        (
            micros < _number(1 << (shift + _SUB_BITS + 1)),
            micros // _number(1 << shift) + _number(shift << _SUB_BITS),
        )
        for shift in shifts
    ]
    return case((micros < _number(_EXACT), micros), *steps, else_=_number(_LAST_BUCKET))


def _number(value: int) -> ColumnElement[int]:
    """A number in the statement itself: PostgreSQL would not see that two with parameters are the same."""
    return literal_column(str(value), BigInteger)


def sketch_of(bucket: int, count: int = 1) -> int:
    """The sketch of so many times in one bucket."""
    return count << (_LANE_BITS * bucket)


def encode_sketch(sketch: int) -> bytes:
    """A sketch as it is kept: the first bucket, then the counts from there on, the lowest byte of each
    first, then the second of each as far as there are any. Few counts, and small ones, take few bytes.
    """
    if not sketch:
        return b""
    first = ((sketch & -sketch).bit_length() - 1) // _LANE_BITS
    sketch >>= _LANE_BITS * first
    length = -(-sketch.bit_length() // _LANE_BITS)
    if length == 1:  # the most frequent by far: the only call of its group in the hour
        size = -(-sketch.bit_length() // 8)
        return first.to_bytes(2, "little") + bytes([size]) + sketch.to_bytes(size, "little")
    lanes = sketch.to_bytes(length * _LANE_BYTES, "little")
    planes = [lanes[place::_LANE_BYTES] for place in range(_LANE_BYTES)]
    while not any(planes[-1]):
        planes.pop()
    return b"".join((first.to_bytes(2, "little"), bytes([len(planes)]), *planes))


def decode_sketch(encoded: bytes) -> int:
    """The sketch that ``encode_sketch`` wrote."""
    if not encoded:
        return EMPTY
    count, planes = encoded[2], encoded[3:]
    length = len(planes) // count
    lanes = bytearray(length * _LANE_BYTES)
    for place in range(count):
        lanes[place::_LANE_BYTES] = planes[place * length : (place + 1) * length]
    return int.from_bytes(lanes, "little") << (_LANE_BITS * int.from_bytes(encoded[:2], "little"))


def quantiles_of(sketch: int, quantiles: Iterable[float]) -> list[int]:
    """Microseconds that these shares of all times stay within, in rising order; zeros when there are none."""
    counts = _counts_of(sketch)
    total = sum(count for _, count in counts)
    found: list[int] = []
    seen, place = 0, -1
    for quantile in quantiles:
        wanted = max(quantile * total, 1)
        while seen < wanted and place + 1 < len(counts):
            place += 1
            seen += counts[place][1]
        found.append(_middle_of(counts[place][0]) if counts else 0)
    return found


def _counts_of(sketch: int) -> list[tuple[int, int]]:
    """Buckets that hold anything, with how much."""
    lanes = sketch.to_bytes(-(-sketch.bit_length() // 8), "little")
    return [
        (start // _LANE_BYTES, count)
        for start in range(0, len(lanes), _LANE_BYTES)
        if (count := int.from_bytes(lanes[start : start + _LANE_BYTES], "little"))
    ]


def _middle_of(bucket: int) -> int:
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    return (bucket - (shift << _SUB_BITS) << shift) + (1 << shift) // 2
