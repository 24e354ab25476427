"""QueryUsage between the contract and the store: what is asked for, and how the sums are told."""

from collections.abc import Mapping
from typing import Final

from aigateway.v1.usage_pb2 import Cost, TokenUsage, UsageState
from aigateway.v1.usage_service_pb2 import (
    LatencyStats,
    QueryUsageRequest,
    QueryUsageResponse,
    TimeStep,
    UsageDimension,
    UsageSum,
)
from gateway_server.errors import invalid_request
from gateway_server.resource_names import api_key_name, provider_name, tenant_name
from gateway_server.rpc.times import read_time
from gateway_server.storage.rollups import GROUP_COLUMNS
from gateway_server.storage.sketches import quantiles_of
from gateway_server.storage.times import duration_of_micros, timestamp_of_micros
from gateway_server.storage.usage_records import UsageQuery
from gateway_server.storage.usage_sums import Largest, Step, SumPage, SumQuery, UsageGroupSum
from gateway_server.usage.filter import parse_filter

_DAY_MICROS: Final = 86_400_000_000
#: How much of the ledger may be summed where rollups do not tell.
_MAX_MINUTE_DAYS: Final = 1
_MAX_SINGLE_DAYS: Final = 31

_STEPS: Final[Mapping[TimeStep.ValueType, Step | None]] = {
    TimeStep.TIME_STEP_UNSPECIFIED: None,
    TimeStep.TIME_STEP_MINUTE: "minute",
    TimeStep.TIME_STEP_HOUR: "hour",
    TimeStep.TIME_STEP_DAY: "day",
    TimeStep.TIME_STEP_MONTH: "month",
}
_COLUMNS: Final[Mapping[UsageDimension.ValueType, tuple[str, ...]]] = {
    UsageDimension.USAGE_DIMENSION_TENANT: ("tenant_id",),
    UsageDimension.USAGE_DIMENSION_API_KEY: ("tenant_id", "api_key_id"),
    UsageDimension.USAGE_DIMENSION_MODEL: ("model",),
    UsageDimension.USAGE_DIMENSION_PROVIDER: ("provider_id",),
    UsageDimension.USAGE_DIMENSION_PROVIDER_MODEL: ("provider_model",),
    UsageDimension.USAGE_DIMENSION_METHOD: ("method",),
    UsageDimension.USAGE_DIMENSION_STATUS_CODE: ("status_code",),
    UsageDimension.USAGE_DIMENSION_END_USER: ("end_user_id",),
    UsageDimension.USAGE_DIMENSION_ENVIRONMENT: ("environment",),
}

_LARGEST: Final[Mapping[str, Largest]] = {
    "request_count desc": "request_count",
    "error_count desc": "error_count",
    "usage.total_tokens desc": "total_tokens",
    "cost.total_nanos desc": "cost_nanos",
}


def read_sum_query(request: QueryUsageRequest, tenant_id: str | None) -> SumQuery:
    """What is asked for; raises INVALID_REQUEST."""
    start, end = read_time(request, "start_time"), read_time(request, "end_time")
    if start is None or end is None or end <= start:
        raise invalid_request("end_time", "must be after start_time")
    columns = dict.fromkeys(name for dimension in request.group_by for name in _COLUMNS[dimension])
    conditions = parse_filter(request.filter)
    query = SumQuery(
        UsageQuery(tenant_id, start, end, conditions),
        step=_STEPS[request.step],
        group_by=tuple(columns),
        labels=tuple(request.group_by_labels),
        largest=_largest_of(request.order_by),
    )
    days = (end - start) / _DAY_MICROS
    if query.step == "minute" and days > _MAX_MINUTE_DAYS:
        raise invalid_request("end_time", f"must be within {_MAX_MINUTE_DAYS} day for steps of a minute")
    if not query.needed <= GROUP_COLUMNS and days > _MAX_SINGLE_DAYS:
        raise invalid_request(
            "end_time", f"must be within {_MAX_SINGLE_DAYS} days for what only single calls tell"
        )
    return query


def _largest_of(order_by: str) -> Largest | None:
    if not order_by.strip():
        return None
    largest = _LARGEST.get(" ".join(order_by.split()))
    if largest is None:
        raise invalid_request("order_by", f"must be empty or one of: {', '.join(_LARGEST)}")
    return largest


def render_sums(page: SumPage, query: SumQuery, request: QueryUsageRequest) -> QueryUsageResponse:
    """One page of sums, and the total over all pages."""
    return QueryUsageResponse(
        usage_sums=[_message_of(each, query, request) for each in page.sums],
        next_page_token=page.next_page_token,
        total=_message_of(page.total, query, request),
    )


def _message_of(group: UsageGroupSum, query: SumQuery, request: QueryUsageRequest) -> UsageSum:
    counters = group.counters
    message = UsageSum(
        start_time=timestamp_of_micros(group.start_time),
        end_time=timestamp_of_micros(group.end_time),
        group=_group_of(group, query, request) if group.values else {},
        request_count=counters["request_count"],
        error_count=counters["error_count"],
        errors_by_reason=group.errors,
        usage=TokenUsage(
            input_tokens=counters["input_tokens"],
            output_tokens=counters["output_tokens"],
            total_tokens=counters["total_tokens"],
            cache_read_input_tokens=counters["cache_read_input_tokens"],
            cache_write_input_tokens=counters["cache_write_input_tokens"],
            cache_write_long_input_tokens=counters["cache_write_long_input_tokens"],
            reasoning_output_tokens=counters["reasoning_output_tokens"],
            state=_state_of(counters),
        ),
        cost=Cost(
            currency_code="USD",
            total_nanos=counters["cost_nanos"],
            input_nanos=counters["input_cost_nanos"],
            cache_read_nanos=counters["cache_read_cost_nanos"],
            cache_write_nanos=counters["cache_write_cost_nanos"],
            output_nanos=counters["output_cost_nanos"],
            extras_nanos=counters["extras_cost_nanos"],
            estimated=counters["cost_estimated_count"] > 0,
        ),
        latency=_stats_of(group.latency, counters["request_count"], counters["latency_micros"]),
    )
    if counters["first_token_count"]:
        message.time_to_first_token.CopyFrom(
            _stats_of(group.first_token, counters["first_token_count"], counters["first_token_micros"])
        )
    return message


def _state_of(counters: Mapping[str, int]) -> UsageState.ValueType:
    """How sure the sum of tokens is: as its least sure part."""
    if counters["estimated_count"]:
        return UsageState.USAGE_STATE_ESTIMATED
    if counters["partial_count"]:
        return UsageState.USAGE_STATE_PARTIAL
    if counters["reported_count"]:
        return UsageState.USAGE_STATE_PROVIDER_REPORTED
    return UsageState.USAGE_STATE_UNSPECIFIED


def _stats_of(sketch: int, count: int, total_micros: int) -> LatencyStats:
    p50, p95, p99 = quantiles_of(sketch, (0.50, 0.95, 0.99))
    return LatencyStats(
        mean=duration_of_micros(total_micros // count if count else 0),
        p50=duration_of_micros(p50),
        p95=duration_of_micros(p95),
        p99=duration_of_micros(p99),
    )


def _group_of(group: UsageGroupSum, query: SumQuery, request: QueryUsageRequest) -> dict[str, str]:
    """The group by names: of dimensions as in ``model``, of labels as in ``labels.team``."""
    values = dict(
        zip((*query.group_by, *(f"labels.{name}" for name in query.labels)), group.values, strict=True)
    )
    found: dict[str, str] = {}
    for dimension in request.group_by:
        name: str = UsageDimension.Name(dimension).removeprefix("USAGE_DIMENSION_").lower()
        columns = [str(values[column]) for column in _COLUMNS[dimension]]
        match name:
            case "tenant":
                found[name] = tenant_name(columns[0])
            case "api_key":
                found[name] = api_key_name(*columns)
            case "provider":
                found[name] = provider_name(columns[0]) if columns[0] else ""
            case _:
                found[name] = columns[0]
    for label in query.labels:
        found[f"labels.{label}"] = str(values[f"labels.{label}"])
    return found
