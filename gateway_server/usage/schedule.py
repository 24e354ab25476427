"""Which of a model's prices holds at a time, and until when."""

from collections.abc import Iterable
from typing import Final

from aigateway.v1.model_pb2 import Model

_NANOS: Final = 1e9


def priced_at(model: Model, now: float) -> Model:
    """The model with the price that holds at ``now``, in Unix seconds."""
    held = [price for price in model.scheduled_prices if price.effective_time.ToNanoseconds() <= now * _NANOS]
    if not held:
        return model
    priced = Model()
    priced.CopyFrom(model)
    priced.price.CopyFrom(max(held, key=lambda price: price.effective_time.ToNanoseconds()))
    return priced


def next_price_time(models: Iterable[Model], now: float) -> float | None:
    """When the next price of any model comes into effect, in Unix seconds; None when none is scheduled."""
    times = (
        price.effective_time.ToNanoseconds() / _NANOS for model in models for price in model.scheduled_prices
    )
    return min((time for time in times if time > now), default=None)
