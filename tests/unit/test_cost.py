from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway.v1.model_pb2 import LongContextPrice, Price
from aigateway.v1.usage_pb2 import Cost, Modality, ModalityTokens, TokenUsage, UsageState
from gateway_server.usage.cost import price_usage

REPORTED = UsageState.USAGE_STATE_PROVIDER_REPORTED

# Claude Sonnet 4.5 as listed: $3 in, $15 out, $0.30 cache read, $3.75 and $6 cache write, per million.
SONNET = Price(
    input_nanos_per_million=3_000_000_000,
    output_nanos_per_million=15_000_000_000,
    cache_read_nanos_per_million=300_000_000,
    cache_write_nanos_per_million=3_750_000_000,
    cache_write_long_nanos_per_million=6_000_000_000,
    long_context_prices=[
        LongContextPrice(
            above_input_tokens=200_000,
            input_nanos_per_million=6_000_000_000,
            output_nanos_per_million=22_500_000_000,
        )
    ],
)

counts = st.integers(0, 2_000_000)
rates = st.integers(0, 200_000_000_000)


def usage(*, state: UsageState.ValueType = REPORTED, **fields: int) -> TokenUsage:
    return TokenUsage(state=state, **fields)  # type: ignore[arg-type]


def modality(name: str, tokens: int) -> ModalityTokens:
    return ModalityTokens(modality=Modality.Value(f"MODALITY_{name}"), tokens=tokens)


def test_every_class_has_its_own_rate() -> None:
    cost = price_usage(
        usage(
            input_tokens=1000,
            cache_read_input_tokens=400,
            cache_write_input_tokens=300,
            cache_write_long_input_tokens=100,
            output_tokens=50,
            reasoning_output_tokens=40,
        ),
        SONNET,
    )
    assert cost == Cost(
        currency_code="USD",
        input_nanos=300 * 3000,
        cache_read_nanos=400 * 300,
        cache_write_nanos=200 * 3750 + 100 * 6000,
        output_nanos=50 * 15000,
        total_nanos=900_000 + 120_000 + 1_350_000 + 750_000,
    )


def test_unset_cache_rates_fall_back_to_the_next_class() -> None:
    price = Price(input_nanos_per_million=2_000_000, output_nanos_per_million=0)
    tokens = usage(input_tokens=30, cache_read_input_tokens=10, cache_write_input_tokens=10)
    cost = price_usage(tokens, price)
    assert (cost.input_nanos, cost.cache_read_nanos, cost.cache_write_nanos) == (20, 20, 20)
    price.cache_write_nanos_per_million = 4_000_000
    tokens.cache_write_long_input_tokens = 10
    assert price_usage(tokens, price).cache_write_nanos == 40


def test_a_rate_of_zero_is_free_and_not_unset() -> None:
    price = Price(input_nanos_per_million=2_000_000, cache_read_nanos_per_million=0)
    assert price_usage(usage(input_tokens=10, cache_read_input_tokens=10), price).total_nanos == 0


@pytest.mark.parametrize(
    ("input_tokens", "input_rate", "output_rate"), [(200_000, 3000, 15_000), (200_001, 6000, 22_500)]
)
def test_a_long_input_changes_the_rates_of_the_whole_call(
    input_tokens: int, input_rate: int, output_rate: int
) -> None:
    cost = price_usage(usage(input_tokens=input_tokens, output_tokens=10), SONNET)
    assert cost.input_nanos == input_tokens * input_rate
    assert cost.output_nanos == 10 * output_rate


def test_the_rates_of_a_tier_fall_back_within_the_tier() -> None:
    cost = price_usage(usage(input_tokens=300_000, cache_read_input_tokens=300_000), SONNET)
    assert cost.cache_read_nanos == 300_000 * 6000


def test_the_highest_threshold_that_is_exceeded_counts_in_whatever_order_they_stand() -> None:
    price = Price(
        long_context_prices=[
            LongContextPrice(above_input_tokens=100, input_nanos_per_million=3_000_000),
            LongContextPrice(above_input_tokens=10, input_nanos_per_million=2_000_000),
        ]
    )
    assert [price_usage(usage(input_tokens=n), price).input_nanos for n in (10, 11, 100, 101)] == [
        0,
        22,
        200,
        303,
    ]


@pytest.mark.parametrize(("rate", "nanos"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)])
def test_a_class_is_rounded_to_the_nearest_billionth_halves_up(rate: int, nanos: int) -> None:
    assert price_usage(usage(input_tokens=1), Price(input_nanos_per_million=rate)).total_nanos == nanos


@pytest.mark.parametrize(
    ("tokens", "estimated"),
    [
        (usage(input_tokens=1), False),
        (usage(input_tokens=1, state=UsageState.USAGE_STATE_ESTIMATED), True),
        (usage(input_tokens=1, state=UsageState.USAGE_STATE_PARTIAL), True),
        (usage(input_tokens=1, state=UsageState.USAGE_STATE_UNSPECIFIED), True),
        (usage(input_tokens=1, cache_read_input_tokens=2), True),
        (usage(input_tokens=-1), True),
        (usage(output_tokens=-1), True),
        (usage(input_tokens=2, cache_write_input_tokens=1, cache_write_long_input_tokens=2), True),
        (TokenUsage(state=REPORTED, input_by_modality=[modality("AUDIO", 1)]), True),
        (TokenUsage(state=REPORTED, input_by_modality=[modality("AUDIO", 0), modality("TEXT", 9)]), False),
        (TokenUsage(state=REPORTED, output_by_modality=[modality("IMAGE", 1)]), True),
    ],
)
def test_a_cost_says_when_it_is_not_sure(tokens: TokenUsage, estimated: bool) -> None:
    assert price_usage(tokens, SONNET).estimated is estimated


def test_counts_that_are_at_odds_never_give_a_negative_cost() -> None:
    cost = price_usage(usage(input_tokens=1, cache_read_input_tokens=5, output_tokens=-7), SONNET)
    assert (cost.input_nanos, cost.cache_read_nanos, cost.output_nanos) == (0, 1500, 0)
    assert cost.total_nanos == 1500


def test_absurd_counts_do_not_overflow() -> None:
    most = 2**63 - 1
    price = Price(input_nanos_per_million=most, output_nanos_per_million=most)
    cost = price_usage(usage(input_tokens=most, cache_read_input_tokens=most, output_tokens=most), price)
    assert 0 < cost.total_nanos <= most
    assert cost.total_nanos == cost.cache_read_nanos + cost.output_nanos


@given(
    fresh=counts, read=counts, written=counts, long_written=counts, output=counts,
    input_rate=rates, output_rate=rates, read_rate=rates, write_rate=rates, long_rate=rates,
)  # fmt: skip
def test_the_total_is_the_sum_and_within_two_billionths_of_the_exact_cost(
    fresh: int, read: int, written: int, long_written: int, output: int,
    input_rate: int, output_rate: int, read_rate: int, write_rate: int, long_rate: int,
) -> None:  # fmt: skip
    cost = price_usage(
        usage(
            input_tokens=fresh + read + written + long_written,
            cache_read_input_tokens=read,
            cache_write_input_tokens=written + long_written,
            cache_write_long_input_tokens=long_written,
            output_tokens=output,
        ),
        Price(
            input_nanos_per_million=input_rate,
            output_nanos_per_million=output_rate,
            cache_read_nanos_per_million=read_rate,
            cache_write_nanos_per_million=write_rate,
            cache_write_long_nanos_per_million=long_rate,
        ),
    )
    parts = cost.input_nanos + cost.cache_read_nanos + cost.cache_write_nanos + cost.output_nanos
    exact = Fraction(
        fresh * input_rate
        + read * read_rate
        + written * write_rate
        + long_written * long_rate
        + output * output_rate,
        1_000_000,
    )
    assert cost.total_nanos == parts
    assert abs(cost.total_nanos - exact) <= 2
    assert not cost.estimated


@given(tokens=counts, more=counts, rate=rates)
def test_more_tokens_never_cost_less(tokens: int, more: int, rate: int) -> None:
    price = Price(input_nanos_per_million=rate)
    less = price_usage(usage(input_tokens=tokens), price).total_nanos
    assert less <= price_usage(usage(input_tokens=tokens + more), price).total_nanos
