"""Prices and sizes of well-known models, from the data that the package ``genai-prices`` ships.

Nothing is fetched: its update thread is never started. Loading the data takes most of a second, so that
happens when it is first asked for, by administration and not by calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from aigateway.v1.model_pb2 import LongContextPrice, Price

_NANOS: Final = 10**9

#: What the package calls the companies behind our provider types. A server of one's own has no price list.
_COMPANIES: Final = {
    "openai": "openai",
    "azure_openai": "azure",
    "anthropic": "anthropic",
    "google": "google",
    "bedrock": "aws",
}
#: Our rates, and what the package calls them.
_RATES: Final = {
    "input_nanos_per_million": "input_mtok",
    "output_nanos_per_million": "output_mtok",
    "cache_read_nanos_per_million": "cache_read_mtok",
    "cache_write_nanos_per_million": "cache_write_mtok",
    "cache_write_long_nanos_per_million": "cache_write_1h_mtok",
}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is publicly known of a model: ``price`` is None and the size 0 when it is not."""

    price: Price | None = None
    context_window_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Rate:
    """Nanos a million tokens, and what they become above some number of input tokens."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()

    def at(self, input_tokens_above: int) -> int:
        """The rate of a call that reads more than so many tokens."""
        return max((tier for tier in self.tiers if tier[0] <= input_tokens_above), default=(0, self.base))[1]


def find_price(provider_type: str, provider_model: str) -> Price | None:
    """The list price of a model today, None when it is not known or is not by the token."""
    return find_facts(provider_type, provider_model).price


def find_facts(provider_type: str, provider_model: str, *, at: datetime | None = None) -> ModelFacts:
    """What is known of a model, with the price that holds ``at`` a time, now by default."""
    company = _COMPANIES.get(provider_type)
    if company is None or not provider_model:
        return ModelFacts()
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- loading it takes most of a second

    try:
        _, model = get_snapshot().find_provider_model(provider_model, None, company, None)
    except LookupError:
        return ModelFacts()
    prices = model.get_prices(at or datetime.now(UTC)) if model.prices else None
    rates: dict[str, _Rate] = {}
    for ours, theirs in _RATES.items():
        rate = _rate_of(getattr(prices, theirs, None))
        if rate is not None:
            rates[ours] = rate
    return ModelFacts(price=_price_of(rates), context_window_tokens=model.context_window or 0)


def nanos_of(dollars: Decimal) -> int:
    """Whole billionths, halves up. Exact for every list price in the data of these companies."""
    return int((dollars * _NANOS).to_integral_value(ROUND_HALF_UP))


def _rate_of(value: object) -> _Rate | None:
    """A rate of the package: a number, or one with tiers."""
    match value:
        case None:
            return None
        case Decimal():
            return _Rate(nanos_of(value))
    base, tiers = getattr(value, "base", None), getattr(value, "tiers", None)
    if not isinstance(base, Decimal) or not isinstance(tiers, list):
        raise TypeError(f"genai-prices has a rate of an unknown kind: {type(value).__name__}")
    return _Rate(nanos_of(base), tuple(sorted((tier.start, nanos_of(tier.price)) for tier in tiers)))


def _price_of(rates: dict[str, _Rate]) -> Price | None:
    """The price with these rates, None when input has none: then it is not sold by the token."""
    if "input_nanos_per_million" not in rates:
        return None
    starts = sorted({start for rate in rates.values() for start, _ in rate.tiers})
    price = Price()
    _set_rates(price, {name: rate.base for name, rate in rates.items()})
    for start in starts:
        tier = price.long_context_prices.add(above_input_tokens=start)
        _set_rates(tier, {name: rate.at(start) for name, rate in rates.items()})
    return price


def _set_rates(price: Price | LongContextPrice, rates: Mapping[str, int]) -> None:
    for name, nanos in rates.items():
        setattr(price, name, nanos)
