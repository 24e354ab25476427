"""What several attempts used and cost together."""

from collections.abc import Sequence
from typing import Final

from aigateway.v1.usage_pb2 import Cost, TokenUsage, UsageState

_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "cache_write_long_input_tokens",
)
_NANOS: Final = (
    "total_nanos",
    "input_nanos",
    "cache_read_nanos",
    "cache_write_nanos",
    "output_nanos",
    "extras_nanos",
)
#: From what is known best to what is known least; a sum is known as well as the least of its parts.
_STATES: Final = (
    UsageState.USAGE_STATE_UNSPECIFIED,
    UsageState.USAGE_STATE_PROVIDER_REPORTED,
    UsageState.USAGE_STATE_ESTIMATED,
    UsageState.USAGE_STATE_PARTIAL,
)


def add_usages(usages: Sequence[TokenUsage | None]) -> TokenUsage | None:
    """The sum; None of nothing. Modalities are told only where there is one usage."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    total = TokenUsage(state=max((usage.state for usage in known), key=_STATES.index))
    for name in _TOKENS:
        setattr(total, name, sum(getattr(usage, name) for usage in known))
    return total


def add_costs(costs: Sequence[Cost | None]) -> Cost | None:
    """The sum; None of nothing."""
    known = [cost for cost in costs if cost is not None]
    if len(known) < 2:
        return known[0] if known else None
    total = Cost(currency_code=known[0].currency_code, estimated=any(cost.estimated for cost in known))
    for name in _NANOS:
        setattr(total, name, sum(getattr(cost, name) for cost in known))
    return total
