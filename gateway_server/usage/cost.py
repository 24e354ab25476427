"""What tokens cost, in whole billionths of a US dollar.

Each class of tokens is rounded to the nearest billionth, halves up; the total is the sum of the classes, so
that the parts of a cost always add up. At most half a billionth of a dollar a class is rounded away.
"""

from collections.abc import Iterable
from typing import Final

from aigateway.v1.model_pb2 import LongContextPrice, Price
from aigateway.v1.usage_pb2 import Cost, Modality, ModalityTokens, TokenUsage, UsageState

CURRENCY: Final = "USD"

_MILLION: Final = 1_000_000
#: A class of tokens costs no more than this, so that the sum of the four fits into an int64.
_MAX_NANOS: Final = (2**63 - 1) // 4
#: Modalities that providers price apart from text; a Price has one rate for all.
_PRICED_APART_IN_INPUT: Final = frozenset({Modality.MODALITY_AUDIO, Modality.MODALITY_VIDEO})
_PRICED_APART_IN_OUTPUT: Final = frozenset(
    {Modality.MODALITY_IMAGE, Modality.MODALITY_AUDIO, Modality.MODALITY_VIDEO}
)


def price_usage(usage: TokenUsage, price: Price) -> Cost:
    """The cost of ``usage``; estimated when its counts are, or are at odds, or may have other rates."""
    rates = _rates_for(price, usage.input_tokens)
    input_rate = rates.input_nanos_per_million
    read_rate = input_rate
    if rates.HasField("cache_read_nanos_per_million"):
        read_rate = rates.cache_read_nanos_per_million
    write_rate = input_rate
    if rates.HasField("cache_write_nanos_per_million"):
        write_rate = rates.cache_write_nanos_per_million
    long_rate = write_rate
    if rates.HasField("cache_write_long_nanos_per_million"):
        long_rate = rates.cache_write_long_nanos_per_million

    fresh = usage.input_tokens - usage.cache_read_input_tokens - usage.cache_write_input_tokens
    written = usage.cache_write_input_tokens - usage.cache_write_long_input_tokens
    counts = (fresh, usage.cache_read_input_tokens, written, usage.cache_write_long_input_tokens)

    input_nanos = _nanos(max(fresh, 0) * input_rate)
    cache_read_nanos = _nanos(max(usage.cache_read_input_tokens, 0) * read_rate)
    cache_write_nanos = _nanos(
        max(written, 0) * write_rate + max(usage.cache_write_long_input_tokens, 0) * long_rate
    )
    output_nanos = _nanos(max(usage.output_tokens, 0) * rates.output_nanos_per_million)
    return Cost(
        currency_code=CURRENCY,
        total_nanos=input_nanos + cache_read_nanos + cache_write_nanos + output_nanos,
        input_nanos=input_nanos,
        cache_read_nanos=cache_read_nanos,
        cache_write_nanos=cache_write_nanos,
        output_nanos=output_nanos,
        estimated=(
            usage.state != UsageState.USAGE_STATE_PROVIDER_REPORTED
            or min(*counts, usage.output_tokens) < 0
            or _has_any(usage.input_by_modality, _PRICED_APART_IN_INPUT)
            or _has_any(usage.output_by_modality, _PRICED_APART_IN_OUTPUT)
        ),
    )


def expected_nanos(price: Price, *, input_tokens: int, output_tokens: int, cached_tokens: int) -> int:
    """What a call is expected to cost that reads ``cached_tokens`` of its input from a cache."""
    rates: Price | LongContextPrice = price
    if price.long_context_prices:
        rates = _rates_for(price, input_tokens)
    cached = min(cached_tokens, input_tokens)
    nanos = (input_tokens - cached) * rates.input_nanos_per_million
    nanos += output_tokens * rates.output_nanos_per_million
    if cached:
        has_rate = rates.HasField("cache_read_nanos_per_million")
        read_rate = rates.cache_read_nanos_per_million if has_rate else rates.input_nanos_per_million
        nanos += cached * read_rate
    return _nanos(nanos)


def _rates_for(price: Price, input_tokens: int) -> Price | LongContextPrice:
    """The rates of a whole call that reads so many tokens: those of the highest threshold it exceeds."""
    exceeded = [tier for tier in price.long_context_prices if input_tokens > tier.above_input_tokens]
    return max(exceeded, key=lambda tier: tier.above_input_tokens, default=price)


def _nanos(tokens_times_rate: int) -> int:
    return min((tokens_times_rate + _MILLION // 2) // _MILLION, _MAX_NANOS)


def _has_any(counts: Iterable[ModalityTokens], modalities: frozenset[Modality.ValueType]) -> bool:
    return any(each.tokens > 0 and each.modality in modalities for each in counts)
