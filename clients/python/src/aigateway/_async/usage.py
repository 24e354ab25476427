"""What was used, what it cost, and how much of each limit is left."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from aigateway._async.connection import AsyncConnection
from aigateway.options import timestamp
from aigateway.v1.usage_service_pb2 import (
    GetLimitUsageRequest,
    GetLimitUsageResponse,
    ListUsageRecordsRequest,
    QueryUsageRequest,
    TimeStep,
    UsageDimension,
    UsageRecord,
    UsageSum,
)


class AsyncUsage:
    """``client.usage``. ``parent`` is ``tenants/{tenant}``, or, for an admin, ``tenants/-`` for all."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list_records(
        self,
        parent: str,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        filter: str = "",  # noqa: A002 -- the field's name
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[UsageRecord]:
        """One record a call, newest first. A filter: ``model = "gpt-4o" AND status_code != 0``."""
        request = ListUsageRecordsRequest(
            parent=parent,
            start_time=timestamp(start_time),
            end_time=timestamp(end_time),
            filter=filter,
            page_size=page_size,
        )
        return self._connection.pages(
            self._connection.stubs.usage.ListUsageRecords,
            request,
            lambda page: page.usage_records,
            timeout=timeout,
        )

    def query(
        self,
        parent: str,
        *,
        start_time: datetime,
        end_time: datetime,
        step: "TimeStep.ValueType" = TimeStep.TIME_STEP_UNSPECIFIED,
        group_by: "Iterable[UsageDimension.ValueType]" = (),
        group_by_labels: Iterable[str] = (),
        filter: str = "",  # noqa: A002 -- the field's name
        order_by: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[UsageSum]:
        """Sums by time and by dimensions, oldest first, or as in ``order_by="cost.total_nanos desc"``."""
        request = QueryUsageRequest(
            parent=parent,
            start_time=timestamp(start_time),
            end_time=timestamp(end_time),
            step=step,
            group_by=group_by,
            group_by_labels=group_by_labels,
            filter=filter,
            order_by=order_by,
            page_size=page_size,
        )
        return self._connection.pages(
            self._connection.stubs.usage.QueryUsage, request, lambda page: page.usage_sums, timeout=timeout
        )

    async def get_limits(
        self, parent: str, *, api_key: str = "", timeout: float | None = None
    ) -> GetLimitUsageResponse:
        """How much of each limit of a tenant and of one key (the calling one) is used up."""
        request = GetLimitUsageRequest(parent=parent, api_key=api_key)
        return await self._connection.call(
            self._connection.stubs.usage.GetLimitUsage, request, timeout=timeout
        )
