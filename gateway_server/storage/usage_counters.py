"""What one call adds to the counters of a rollup: from a row in memory, and as SQL over the ledger."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, case, func, literal_column

from aigateway.v1.usage_pb2 import UsageState
from gateway_server.storage.tables import USAGE_COUNTERS, usage_records

#: One call counts as this at most, in tokens, billionths or microseconds. What a provider reports beyond any
#: sense must not make the sum of a day overflow, as then no call of that day could be written.
MOST_OF_A_CALL: Final = 2**46

_STATES: Final = {
    "reported_count": UsageState.USAGE_STATE_PROVIDER_REPORTED,
    "estimated_count": UsageState.USAGE_STATE_ESTIMATED,
    "partial_count": UsageState.USAGE_STATE_PARTIAL,
}
#: Those that add up a column of the ledger of the same name.
_TOKENS: Final = tuple(name for name in USAGE_COUNTERS if name.endswith("_tokens"))
_COSTS: Final = tuple(name for name in USAGE_COUNTERS if name.endswith("_nanos"))


def counters_of(row: Mapping[str, Any] | RowMapping) -> list[int]:
    """What a row of ``usage_records`` adds, in the order of ``USAGE_COUNTERS``."""
    state = row["usage_state"]
    first_token = row["time_to_first_token_micros"]
    cost = row["cost_nanos"]
    return [
        1,
        1 if row["status_code"] else 0,
        1 if state == UsageState.USAGE_STATE_PROVIDER_REPORTED else 0,
        1 if state == UsageState.USAGE_STATE_ESTIMATED else 0,
        1 if state == UsageState.USAGE_STATE_PARTIAL else 0,
        *(_amount(row[name]) for name in _TOKENS),
        0 if cost is None else 1,
        1 if row["cost_estimated"] else 0,
        *(_amount(row[name]) for name in _COSTS),
        _amount(row["latency_micros"]),
        0 if first_token is None else 1,
        _amount(first_token),
    ]


def counter_columns() -> dict[str, ColumnElement[int]]:
    """The same as expressions over ``usage_records``, by name."""
    columns = usage_records.c
    one: ColumnElement[int] = literal_column("1")
    expressions: dict[str, ColumnElement[int]] = {
        "request_count": one,
        "error_count": _one_if(columns.status_code != 0),
        "priced_count": _one_if(columns.cost_nanos.is_not(None)),
        "cost_estimated_count": _one_if(func.coalesce(columns.cost_estimated, False)),
        "latency_micros": _amount_column(columns.latency_micros),
        "first_token_count": _one_if(columns.time_to_first_token_micros.is_not(None)),
        "first_token_micros": _amount_column(columns.time_to_first_token_micros),
        **{name: _one_if(columns.usage_state == state) for name, state in _STATES.items()},
        **{name: _amount_column(columns[name]) for name in (*_TOKENS, *_COSTS)},
    }
    return {name: expressions[name].label(name) for name in USAGE_COUNTERS}


def _amount(value: int | None) -> int:
    return min(value or 0, MOST_OF_A_CALL)


def _amount_column(column: ColumnElement[Any]) -> ColumnElement[int]:
    return case((column > MOST_OF_A_CALL, MOST_OF_A_CALL), else_=func.coalesce(column, 0))


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)
