"""RPCs of routes."""

from typing import Final

from google.protobuf.empty_pb2 import Empty

from aigateway.v1.admin_service_pb2 import (
    CreateRouteRequest,
    DeleteRouteRequest,
    GetRouteRequest,
    ListRoutesRequest,
    ListRoutesResponse,
    ListTargetStatesRequest,
    ListTargetStatesResponse,
    UpdateRouteRequest,
)
from aigateway.v1.route_pb2 import Route
from gateway_server.allowed_models import is_allowed, model_names
from gateway_server.call import CallContext, Principal
from gateway_server.errors import invalid_request
from gateway_server.ids import new_id
from gateway_server.resource_names import parse_model, parse_route
from gateway_server.rpc.admin.base import AdminMethods, actor_of, require_there
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.resources import resource_not_found

_RULES: Final = field_rules(Route.DESCRIPTOR, "route")


class RouteMethods(AdminMethods):
    """Routes, and the state of their targets. Keys that are no admin's see routes that they may use."""

    async def GetRoute(self, request: GetRouteRequest, call: CallContext) -> Route:
        """One route."""
        route = await self._routes.get(parse_route(request.name))
        if not _may_see(call.principal, route):
            raise resource_not_found(request.name)
        return route

    async def ListRoutes(self, request: ListRoutesRequest, call: CallContext) -> ListRoutesResponse:
        """One page of the routes."""
        principal = call.principal
        page = await self._routes.list_page(
            PageRequest(request.page_size, request.page_token),
            accept=None if principal.is_admin_reader else lambda route: _may_see(principal, route),
        )
        return ListRoutesResponse(routes=page.items, next_page_token=page.next_page_token)

    async def CreateRoute(self, request: CreateRouteRequest, call: CallContext) -> Route:
        """Makes a route."""
        check_create(request.route, _RULES)
        await self._check(request.route)
        route = await self._routes.by(actor_of(call)).create(request.route_id or new_id(), request.route)
        await self._announce(route.name)
        return route

    async def UpdateRoute(self, request: UpdateRouteRequest, call: CallContext) -> Route:
        """Changes the fields that the mask names."""
        route_id = parse_route(request.route.name, "route.name")
        await self._check(request.route)

        def change(route: Route) -> None:
            apply_update(route, request.route, request.update_mask, _RULES)

        route = await self._routes.by(actor_of(call)).update(route_id, change, etag=request.route.etag)
        await self._announce(route.name)
        return route

    async def DeleteRoute(self, request: DeleteRouteRequest, call: CallContext) -> Empty:
        """Deletes a route that is no tenant's default."""
        await self._routes.by(actor_of(call)).delete(parse_route(request.name), etag=request.etag)
        await self._announce(request.name)
        return Empty()

    async def ListTargetStates(self, _: ListTargetStatesRequest, __: CallContext) -> ListTargetStatesResponse:
        """How the targets of routes are doing."""
        return ListTargetStatesResponse(target_states=self._target_states())

    async def _check(self, route: Route) -> None:
        """Raises INVALID_REQUEST for targets that are not there, or there twice."""
        seen: set[str] = set()
        for index, target in enumerate(route.targets):
            field = f"route.targets[{index}].model"
            if target.model in seen:
                raise invalid_request(field, "is named twice")
            seen.add(target.model)
            await require_there(self._models.get(*parse_model(target.model, field)), target.model, field)


def _may_see(principal: Principal, route: Route) -> bool:
    """Whether tenant and key allow the route, or one of the models it names, or it names none."""
    if principal.is_admin_reader or not route.targets:
        return True
    name = route.name.partition("/")[2]
    return any(
        is_allowed(principal.allowed_models, (*model_names(*parse_model(target.model)), name))
        for target in route.targets
    )
