"""RPCs of models."""

import asyncio
from typing import Final

from google.protobuf.empty_pb2 import Empty

from aigateway.v1.admin_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ListModelsRequest,
    ListModelsResponse,
    UpdateModelRequest,
)
from aigateway.v1.model_pb2 import Model
from gateway_server.allowed_models import is_allowed, model_names
from gateway_server.call import CallContext, Principal
from gateway_server.errors import invalid_request
from gateway_server.resource_names import (
    model_id_of,
    parse_model,
    parse_provider,
    parse_provider_or_any,
    provider_name,
)
from gateway_server.rpc.admin.base import AdminMethods, actor_of
from gateway_server.rpc.admin.masks import apply_update, check_create, field_rules
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.resources import resource_not_found
from gateway_server.usage.prices import find_facts

_RULES: Final = field_rules(Model.DESCRIPTOR, "model")


class ModelMethods(AdminMethods):
    """Models. Keys that are no admin's see those that they may use."""

    async def GetModel(self, request: GetModelRequest, call: CallContext) -> Model:
        """One model."""
        provider_id, model_id = parse_model(request.name)
        model = await self._models.get(provider_id, model_id)
        if not call.principal.is_admin_reader:
            provider = await self._providers.get(provider_id)
            if provider.disabled or not _may_use(call.principal, model):
                raise resource_not_found(request.name)
        return model

    async def ListModels(self, request: ListModelsRequest, call: CallContext) -> ListModelsResponse:
        """One page of the models of a provider, or of all."""
        provider_id = parse_provider_or_any(request.parent)
        principal = call.principal
        if provider_id is not None and principal.is_admin_reader:
            await self._providers.get(provider_id)
        disabled = frozenset() if principal.is_admin_reader else await self._disabled_providers()

        def may_see(model: Model) -> bool:
            return principal.is_admin_reader or (
                _provider_of(model) not in disabled and _may_use(principal, model)
            )

        page = await self._models.list_page(
            provider_id,
            PageRequest(request.page_size, request.page_token),
            accept=None if principal.is_admin_reader else may_see,
        )
        return ListModelsResponse(models=page.items, next_page_token=page.next_page_token)

    async def CreateModel(self, request: CreateModelRequest, call: CallContext) -> Model:
        """Makes a model; price and context window are filled in where they are left out and known."""
        provider_id = parse_provider(request.parent, "parent")
        check_create(request.model, _RULES)
        model = Model()
        model.CopyFrom(request.model)
        model_id = request.model_id or model_id_of(model.provider_model)
        if not model_id:
            raise invalid_request("model_id", "cannot be made from model.provider_model; choose one")
        self._check_price(model)
        provider = await self._providers.get(provider_id)
        if not model.HasField("price") or not model.context_window_tokens:
            provider_model = model.provider_model or model_id
            # In a thread: the data takes a while to load.
            facts = await asyncio.to_thread(find_facts, provider.provider_type, provider_model)
            if not model.HasField("price") and facts.price is not None:
                model.price.CopyFrom(facts.price)
            model.context_window_tokens = model.context_window_tokens or facts.context_window_tokens
        created = await self._models.by(actor_of(call)).create(provider_id, model_id, model)
        await self._announce(created.name)
        return created

    async def UpdateModel(self, request: UpdateModelRequest, call: CallContext) -> Model:
        """Changes the fields that the mask names."""

        def change(model: Model) -> None:
            apply_update(model, request.model, request.update_mask, _RULES)
            self._check_price(model)

        provider_id, model_id = parse_model(request.model.name, "model.name")
        model = await self._models.by(actor_of(call)).update(
            provider_id, model_id, change, etag=request.model.etag
        )
        await self._announce(model.name)
        return model

    async def DeleteModel(self, request: DeleteModelRequest, call: CallContext) -> Empty:
        """Deletes a model."""
        provider_id, model_id = parse_model(request.name)
        await self._models.by(actor_of(call)).delete(provider_id, model_id, etag=request.etag)
        await self._announce(request.name)
        return Empty()

    def _check_price(self, model: Model) -> None:
        """Raises INVALID_REQUEST for prices that leave it open which holds when."""
        if model.price.effective_time.ToNanoseconds() > self._clock.now() * 1e9:
            raise invalid_request(
                "model.price.effective_time", "lies in the future; put this price into scheduled_prices"
            )
        times: set[int] = set()
        for index, price in enumerate(model.scheduled_prices):
            field = f"model.scheduled_prices[{index}].effective_time"
            if not price.HasField("effective_time"):
                raise invalid_request(field, "must be given")
            if price.effective_time.ToNanoseconds() in times:
                raise invalid_request(field, "is that of another price too")
            times.add(price.effective_time.ToNanoseconds())

    async def _disabled_providers(self) -> frozenset[str]:
        """The names of the providers that the router leaves alone."""
        disabled: set[str] = set()
        token = ""
        while True:
            page = await self._providers.list_page(PageRequest(1000, token))
            disabled.update(provider.name for provider in page.items if provider.disabled)
            token = page.next_page_token
            if not token:
                return frozenset(disabled)


def _may_use(principal: Principal, model: Model) -> bool:
    names = model_names(*parse_model(model.name))
    return not model.disabled and is_allowed(principal.allowed_models, names)


def _provider_of(model: Model) -> str:
    return provider_name(parse_model(model.name)[0])
