"""Which limits apply to a caller, from what its tenant and its key say."""

from collections.abc import Iterator
from typing import Literal

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import Budget, Tenant
from gateway_server.call import BudgetLimit
from gateway_server.resource_names import parse_api_key


def budget_limits(tenant: Tenant, api_key: ApiKey) -> tuple[BudgetLimit, ...]:
    """The budgets of the tenant and of the key, each of which must have room."""
    tenant_id, api_key_id = parse_api_key(api_key.name)
    time_zone = tenant.budget.time_zone or "UTC"
    return (
        *_budget_limits(tenant.budget, tenant_id, "", time_zone),
        *_budget_limits(api_key.budget, tenant_id, api_key_id, api_key.budget.time_zone or time_zone),
    )


def _budget_limits(budget: Budget, tenant_id: str, api_key_id: str, time_zone: str) -> Iterator[BudgetLimit]:
    periods: tuple[tuple[Literal["day", "month"], int | None], ...] = (
        ("day", budget.daily_nanos if budget.HasField("daily_nanos") else None),
        ("month", budget.monthly_nanos if budget.HasField("monthly_nanos") else None),
    )
    for period, limit_nanos in periods:
        if limit_nanos is not None:
            yield BudgetLimit(
                tenant_id=tenant_id,
                api_key_id=api_key_id,
                period=period,
                limit_nanos=limit_nanos,
                time_zone=time_zone,
                alert_percentages=tuple(sorted(budget.alert_percentages)),
                allow_unpriced_models=budget.allow_unpriced_models,
            )
