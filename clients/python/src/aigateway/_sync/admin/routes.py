# Made from _async by tools/make_sync.py: edit there, then run it.
"""Routes."""

from collections.abc import Iterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from aigateway._sync.connection import Connection
from aigateway.v1.admin_service_pb2 import (
    CreateRouteRequest,
    DeleteRouteRequest,
    GetRouteRequest,
    ListRoutesRequest,
    ListTargetStatesRequest,
    ListTargetStatesResponse,
    UpdateRouteRequest,
)
from aigateway.v1.route_pb2 import Route
from aigateway.v1.routing_pb2 import TargetState


class Routes:
    """``client.admin.routes``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str, *, timeout: float | None = None) -> Route:
        """Gets one route, by its name: ``routes/{route}``."""
        request = GetRouteRequest(name=name)
        return self._connection.call(self._connection.stubs.admin.GetRoute, request, timeout=timeout)

    def list(self, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Route]:
        """All routes, newest first, fetched ``page_size`` at a time."""
        request = ListRoutesRequest(page_size=page_size)
        return self._connection.pages(
            self._connection.stubs.admin.ListRoutes, request, lambda page: page.routes, timeout=timeout
        )

    def create(self, route: Route, *, route_id: str = "", timeout: float | None = None) -> Route:
        """Creates a route; the gateway chooses the id when none is given."""
        request = CreateRouteRequest(route=route, route_id=route_id)
        return self._connection.call(self._connection.stubs.admin.CreateRoute, request, timeout=timeout)

    def update(
        self, route: Route, *, update_mask: Sequence[str] | None = None, timeout: float | None = None
    ) -> Route:
        """Changes the fields that the mask names; without a mask, every field that is set."""
        mask = None if update_mask is None else FieldMask(paths=update_mask)
        request = UpdateRouteRequest(route=route, update_mask=mask)
        return self._connection.call(self._connection.stubs.admin.UpdateRoute, request, timeout=timeout)

    def list_target_states(self, *, timeout: float | None = None) -> Sequence[TargetState]:
        """How the models that calls went to are doing, as the gateway that answers has seen it."""
        answer: ListTargetStatesResponse = self._connection.call(
            self._connection.stubs.admin.ListTargetStates, ListTargetStatesRequest(), timeout=timeout
        )
        return answer.target_states

    def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a route; with ``etag``, only if it is unchanged."""
        request = DeleteRouteRequest(name=name, etag=etag)
        self._connection.call(self._connection.stubs.admin.DeleteRoute, request, timeout=timeout)
