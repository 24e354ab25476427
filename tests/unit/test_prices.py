from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from aigateway.v1.model_pb2 import Price
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.usage import prices
from gateway_server.usage.cost import price_usage
from gateway_server.usage.prices import ModelFacts, find_facts, find_price, nanos_of

AT = datetime(2026, 6, 1, tzinfo=UTC)


def test_a_price_is_exact_to_the_billionth() -> None:
    assert find_price("openai", "gpt-4o") == Price(
        input_nanos_per_million=2_500_000_000,
        output_nanos_per_million=10_000_000_000,
        cache_read_nanos_per_million=1_250_000_000,
    )


def test_a_dated_name_has_the_price_of_its_model() -> None:
    assert find_price("openai", "gpt-4o-2024-08-06") == find_price("openai", "gpt-4o")


def test_the_context_window_comes_along() -> None:
    assert find_facts("openai", "gpt-4o").context_window_tokens == 128_000


@pytest.mark.parametrize(
    ("provider_type", "provider_model"),
    [
        ("openai", "no-such-model"),
        ("openai", ""),
        ("openai", "whisper-1"),  # sold by the hour
        ("vllm", "gpt-4o"),
        ("demo", "demo"),
        ("unheard_of", "gpt-4o"),
    ],
)
def test_what_has_no_list_price_by_the_token_has_none(provider_type: str, provider_model: str) -> None:
    assert find_price(provider_type, provider_model) is None


def test_an_unknown_model_has_no_facts() -> None:
    assert find_facts("vllm", "anything") == ModelFacts(price=None, context_window_tokens=0)


def test_prices_that_change_with_time_are_those_of_the_time() -> None:
    snapshot = get_snapshot()
    changing = [
        (ours, model)
        for ours, theirs in prices._COMPANIES.items()
        for provider in snapshot.providers
        if provider.id == theirs
        for model in provider.models
        if isinstance(model.prices, list) and len(model.prices) > 1
    ]
    assert changing, "the data has no model whose price changed: choose another test"
    differing = 0
    for provider_type, model in changing:
        early = find_facts(provider_type, model.id, at=datetime(2020, 1, 1, tzinfo=UTC)).price
        late = find_facts(provider_type, model.id, at=datetime(2100, 1, 1, tzinfo=UTC)).price
        differing += early != late
    assert differing > 0


def test_every_list_price_of_the_companies_is_a_whole_number_of_billionths() -> None:
    seen = 0
    for provider in get_snapshot().providers:
        if provider.id not in prices._COMPANIES.values():
            continue
        for model in provider.models:
            listed = model.prices if isinstance(model.prices, list) else [model.prices]
            for each in listed:
                rates = getattr(each, "prices", each)
                for name in prices._RATES.values():
                    value = getattr(rates, name)
                    for dollars in (
                        [] if value is None else [getattr(value, "base", value), *map(_price, _tiers(value))]
                    ):
                        assert Fraction(nanos_of(dollars), 10**9) == Fraction(dollars), (model.id, name)
                        seen += 1
    assert seen > 1000


def _tiers(value: object) -> list[object]:
    return list(getattr(value, "tiers", []))


def _price(tier: object) -> Decimal:
    price = getattr(tier, "price", None)
    assert isinstance(price, Decimal)
    return price


@pytest.mark.parametrize("input_tokens", [1000, 250_000, 900_000])
@pytest.mark.parametrize(
    ("provider_type", "company", "model"),
    [
        ("openai", "openai", "gpt-4o"),
        ("openai", "openai", "gpt-5.4"),
        ("openai", "openai", "text-embedding-3-small"),
        ("anthropic", "anthropic", "claude-sonnet-4-5"),
        ("google", "google", "gemini-2.5-pro"),
    ],
)
def test_costs_equal_those_that_the_package_itself_calculates(
    provider_type: str, company: str, model: str, input_tokens: int
) -> None:
    price = find_facts(provider_type, model, at=AT).price
    assert price is not None
    ours = price_usage(
        TokenUsage(
            state=UsageState.USAGE_STATE_PROVIDER_REPORTED,
            input_tokens=input_tokens,
            cache_read_input_tokens=input_tokens // 4,
            output_tokens=777,
        ),
        price,
    )
    theirs = calc_price(
        Usage(input_tokens=input_tokens, cache_read_tokens=input_tokens // 4, output_tokens=777),
        model,
        provider_id=company,
        genai_request_timestamp=AT,
    )
    assert ours.total_nanos == theirs.total_price * 10**9


def test_nothing_is_loaded_until_a_price_is_asked_for() -> None:
    code = "import sys, gateway_server.usage.prices; print('genai_prices' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
