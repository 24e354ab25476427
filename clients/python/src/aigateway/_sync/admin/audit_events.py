# Made from _async by tools/make_sync.py: edit there, then run it.
"""The audit log."""

from collections.abc import Iterator
from datetime import datetime

from aigateway._sync.connection import Connection
from aigateway.options import timestamp
from aigateway.v1.admin_service_pb2 import ListAuditEventsRequest
from aigateway.v1.audit_event_pb2 import AuditEvent


class AuditEvents:
    """``client.admin.audit_events``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        resource: str = "",
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[AuditEvent]:
        """Changes that administrators made, newest first; of one resource and those below it, if named."""
        request = ListAuditEventsRequest(
            resource=resource,
            start_time=timestamp(start_time),
            end_time=timestamp(end_time),
            page_size=page_size,
        )
        return self._connection.pages(
            self._connection.stubs.admin.ListAuditEvents,
            request,
            lambda page: page.audit_events,
            timeout=timeout,
        )
