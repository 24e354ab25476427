"""RPCs of audit events."""

from aigateway.v1.admin_service_pb2 import ListAuditEventsRequest, ListAuditEventsResponse
from gateway_server.call import CallContext
from gateway_server.errors import invalid_request
from gateway_server.rpc.admin.base import AdminMethods
from gateway_server.rpc.times import read_time
from gateway_server.storage.paging import PageRequest


class AuditEventMethods(AdminMethods):
    """Changes that administrators made."""

    async def ListAuditEvents(
        self, request: ListAuditEventsRequest, _: CallContext
    ) -> ListAuditEventsResponse:
        """One page of changes, newest first."""
        if "\0" in request.resource:
            raise invalid_request("resource", "must not hold a NUL")
        page = await self._audit.list_page(
            PageRequest(request.page_size, request.page_token),
            resource=request.resource,
            start=read_time(request, "start_time"),
            end=read_time(request, "end_time"),
        )
        return ListAuditEventsResponse(audit_events=page.items, next_page_token=page.next_page_token)
