"""Sketches add up exactly, come back from bytes, and tell percentiles within their error."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from gateway_server.storage.sketches import (
    EMPTY,
    RELATIVE_ERROR,
    bucket_column,
    bucket_of,
    decode_sketch,
    encode_sketch,
    quantiles_of,
    sketch_of,
)

TIMES = st.integers(0, 2**32 - 1)
HOUR = 3_600_000_000


def sketch(times: list[int]) -> int:
    return sum(sketch_of(bucket_of(time)) for time in times)


@given(st.lists(TIMES, min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_off_by_its_error_at_most(times: list[int], quantile: float) -> None:
    exact = sorted(times)[max(ceil(quantile * len(times)) - 1, 0)]
    (found,) = quantiles_of(sketch(times), [quantile])
    assert abs(found - exact) <= RELATIVE_ERROR * exact


@given(st.lists(TIMES, max_size=50), st.lists(TIMES, max_size=50))
def test_the_sum_of_sketches_is_the_sketch_of_all(one: list[int], other: list[int]) -> None:
    assert sketch(one) + sketch(other) == sketch(one + other)


@given(st.dictionaries(st.integers(0, 463), st.integers(1, 2**47), max_size=30))
def test_bytes_hold_a_sketch_whole(counts: dict[int, int]) -> None:
    whole = sum(sketch_of(bucket, count) for bucket, count in counts.items())
    assert decode_sketch(encode_sketch(whole)) == whole


def test_few_counts_take_few_bytes() -> None:
    assert encode_sketch(EMPTY) == b""
    assert len(encode_sketch(sketch([1_000_000]))) == 4
    assert len(encode_sketch(sketch(list(range(500_000, 2_000_000, 100))))) <= 3 + 2 * 33


def test_percentiles_of_a_known_spread() -> None:
    times = [number * 1000 for number in range(1, 1001)]  # a millisecond to a second
    p50, p95, p99 = quantiles_of(sketch(times), [0.5, 0.95, 0.99])
    assert p50 == pytest.approx(500_000, rel=RELATIVE_ERROR)
    assert p95 == pytest.approx(950_000, rel=RELATIVE_ERROR)
    assert p99 == pytest.approx(990_000, rel=RELATIVE_ERROR)


def test_nothing_has_no_percentiles() -> None:
    assert quantiles_of(EMPTY, [0.5, 0.99]) == [0, 0]


def test_what_is_longer_than_the_longest_counts_as_that() -> None:
    assert bucket_of(30 * HOUR) == bucket_of(2**32 - 1)
    assert quantiles_of(sketch([30 * HOUR]), [0.5])[0] >= HOUR


@given(st.lists(st.integers(0, 2**40) | st.integers(0, 200) | st.sampled_from([2**n for n in range(41)])))
def test_sql_finds_the_same_buckets(times: list[int]) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        for time in times:
            assert connection.execute(select(bucket_column(literal(time)))).scalar_one() == bucket_of(time)
    engine.dispose()
