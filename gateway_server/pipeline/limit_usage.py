"""How much is used up of the limits of a tenant and of one of its keys: rates and budgets alike."""

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.usage_service_pb2 import LimitUsage
from gateway_server.auth.limits import budget_limits, rate_limits
from gateway_server.clock import Clock
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.limiter import RateLimiter
from gateway_server.resource_names import api_key_name, tenant_name
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.tenants import TenantRepository
from gateway_server.storage.times import micros_of_seconds
from gateway_server.time_zones import load_time_zones


class LimitUsageReader:
    """Reads limits as they are configured now, and what is used up of them."""

    def __init__(
        self,
        *,
        tenants: TenantRepository,
        api_keys: ApiKeyRepository,
        limiter: RateLimiter,
        budgets: BudgetBook,
        clock: Clock,
    ) -> None:
        self._tenants = tenants
        self._api_keys = api_keys
        self._limiter = limiter
        self._budgets = budgets
        self._clock = clock

    async def read(self, tenant_id: str, api_key_id: str) -> list[LimitUsage]:
        """All limits of the tenant and, unless its id is empty, of the key. Raises RESOURCE_NOT_FOUND."""
        tenant = await self._tenants.get(tenant_id)
        if api_key_id:
            api_key = await self._api_keys.get(tenant_id, api_key_id)
        else:
            api_key = ApiKey(name=api_key_name(tenant_id, "none"))
        await load_time_zones(tenant.budget.time_zone, api_key.budget.time_zone)
        rates = list(rate_limits(tenant, api_key))
        rates += [limit for limit in rate_limits(tenant, ApiKey(name=api_key.name)) if limit not in rates]
        return [
            *await self._limiter.usage(rates, group=tenant_name(tenant_id)),
            *await self._budgets.usage(budget_limits(tenant, api_key), micros_of_seconds(self._clock.now())),
        ]
