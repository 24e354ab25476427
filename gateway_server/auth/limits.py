"""Which limits apply to a caller, from what its tenant and its key say."""

from collections.abc import Iterator
from typing import Literal

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import Budget, Tenant
from gateway_server.call import BudgetLimit, RateLimit
from gateway_server.resource_names import parse_api_key


def rate_limits(tenant: Tenant, api_key: ApiKey) -> tuple[RateLimit, ...]:
    """The rate limits of calls with a key, besides the tenant's limits for some models.

    A kind of limit that the key's override names is the key's own; the key shares the others with its tenant.
    """
    own = RateLimit.of(api_key.name, api_key.rate_limits_override)
    shared = RateLimit.of(tenant.name, tenant.rate_limits)
    shared = shared._replace(
        requests_per_minute=None if own.requests_per_minute is not None else shared.requests_per_minute,
        tokens_per_minute=None if own.tokens_per_minute is not None else shared.tokens_per_minute,
        max_concurrent_requests=(
            None if own.max_concurrent_requests is not None else shared.max_concurrent_requests
        ),
    )
    models = (
        RateLimit.of(tenant.name, each.rate_limits, model=each.model) for each in tenant.model_rate_limits
    )
    return tuple(limit for limit in (own, shared, *models) if limit.limits_something)


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
