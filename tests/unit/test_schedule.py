"""Which price holds when."""

from __future__ import annotations

import pytest

from aigateway.v1.model_pb2 import Model, Price
from gateway_server.usage.schedule import next_price_time, priced_at


def price(nanos: int, seconds: int) -> Price:
    made = Price(input_nanos_per_million=nanos)
    made.effective_time.seconds = seconds
    return made


MODEL = Model(price=Price(input_nanos_per_million=1), scheduled_prices=[price(3, 200), price(2, 100)])


@pytest.mark.parametrize(("now", "nanos"), [(0, 1), (99.9, 1), (100, 2), (199, 2), (200, 3), (1e9, 3)])
def test_the_latest_that_has_come_into_effect_holds(now: float, nanos: int) -> None:
    assert priced_at(MODEL, now).price.input_nanos_per_million == nanos
    assert MODEL.price.input_nanos_per_million == 1


def test_a_model_without_a_price_gets_its_first_one() -> None:
    model = Model(scheduled_prices=[price(2, 100)])
    assert not priced_at(model, 99).HasField("price")
    assert priced_at(model, 100).price.input_nanos_per_million == 2


@pytest.mark.parametrize(("now", "due"), [(0, 100), (100, 200), (150, 200), (200, None)])
def test_when_the_next_one_comes(now: float, due: float | None) -> None:
    assert next_price_time([Model(), MODEL], now) == due
