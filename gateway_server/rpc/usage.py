"""UsageService as the gRPC front door serves it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_service_pb2 import (
    GetLimitUsageRequest,
    GetLimitUsageResponse,
    LimitUsage,
    ListUsageRecordsRequest,
    ListUsageRecordsResponse,
    QueryUsageRequest,
    QueryUsageResponse,
)
from gateway_server.call import CallContext
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.limits.report_turns import ReportTurns
from gateway_server.resource_names import parse_api_key, parse_tenant_or_any, tenant_name
from gateway_server.rpc.times import read_time
from gateway_server.rpc.usage_sums import read_sum_query, render_sums
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.resources import resource_not_found
from gateway_server.storage.tenants import TenantRepository
from gateway_server.storage.usage_records import UsageQuery, UsageRepository
from gateway_server.storage.usage_sums import UsageSumRepository
from gateway_server.usage.filter import parse_filter
from gateway_server.usage.ledger import Ledger

#: How long a list waits for records that are on their way to the store.
_FLUSH_SECONDS: Final = 1.0

#: How much is used up of the limits of a tenant and, unless its id is empty, of a key of the tenant.
#: Raises RESOURCE_NOT_FOUND.
ReadLimitUsage = Callable[[str, str], Awaitable[list[LimitUsage]]]


class UsageServicer:
    """Shows the ledger to those whose calls are in it, and to administrators."""

    def __init__(
        self,
        usage: UsageRepository,
        tenants: TenantRepository,
        ledger: Ledger,
        *,
        sums: UsageSumRepository,
        limit_usage: ReadLimitUsage,
        turns: ReportTurns,
    ) -> None:
        self._turns = turns
        self._sums = sums
        self._usage = usage
        self._tenants = tenants
        self._ledger = ledger
        self._limit_usage = limit_usage

    async def ListUsageRecords(
        self, request: ListUsageRecordsRequest, call: CallContext
    ) -> ListUsageRecordsResponse:
        """One page of calls, the last begun first; those that this process has finished are among them."""
        query = UsageQuery(
            tenant_id=await self._tenant_of(request.parent, call),
            start_time=read_time(request, "start_time"),
            end_time=read_time(request, "end_time"),
            conditions=parse_filter(request.filter),
        )
        if query.start_time is not None and query.end_time is not None and query.end_time <= query.start_time:
            raise invalid_request("end_time", "must be after start_time")
        if not request.page_token:
            await self._catch_up()
        async with self._turns.turn(call.principal.tenant_id):
            page = await self._usage.list_page(query, PageRequest(request.page_size, request.page_token))
        return ListUsageRecordsResponse(usage_records=page.items, next_page_token=page.next_page_token)

    async def QueryUsage(self, request: QueryUsageRequest, call: CallContext) -> QueryUsageResponse:
        """Sums of usage; calls that this process has finished are among them."""
        query = read_sum_query(request, await self._tenant_of(request.parent, call))
        if not request.page_token:
            await self._catch_up()
        async with self._turns.turn(call.principal.tenant_id):
            page = await self._sums.query(query, PageRequest(request.page_size, request.page_token))
        return render_sums(page, query, request)

    async def GetLimitUsage(self, request: GetLimitUsageRequest, call: CallContext) -> GetLimitUsageResponse:
        """How much is used up of each limit of a tenant, and of one of its keys."""
        tenant_id = await self._tenant_of(request.parent, call)
        assert tenant_id is not None  # noqa: S101 -- the contract's pattern has no wildcard here
        if request.api_key:
            key_tenant_id, api_key_id = parse_api_key(request.api_key, field="api_key")
            if key_tenant_id != tenant_id:
                raise resource_not_found(request.api_key)
        else:
            is_own = tenant_id == call.principal.tenant_id
            api_key_id = call.principal.api_key_id if is_own else ""
        return GetLimitUsageResponse(limits=await self._limit_usage(tenant_id, api_key_id))

    async def _tenant_of(self, parent: str, call: CallContext) -> str | None:
        """Whose calls are asked for, None for all; another's tenant looks like one that does not exist."""
        tenant_id = parse_tenant_or_any(parent)
        if tenant_id == call.principal.tenant_id:
            return tenant_id
        if not call.principal.is_admin_reader:
            if tenant_id is None:
                raise GatewayError(
                    ErrorReason.ERROR_REASON_SCOPE_MISSING,
                    "the usage of all tenants is for administrators; name the tenant of the key",
                    metadata={
                        "scopes": "SCOPE_ADMIN_READ,SCOPE_ADMIN_WRITE",
                        "method": call.method,
                        "tenant": tenant_name(call.principal.tenant_id),
                    },
                )
            raise resource_not_found(parent)
        if tenant_id is not None and not await self._tenants.has_existed(tenant_id):
            raise resource_not_found(parent)
        return tenant_id

    async def _catch_up(self) -> None:
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._ledger.flush()
        except TimeoutError:
            pass  # the list is then as the store has it
