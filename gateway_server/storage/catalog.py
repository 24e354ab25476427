"""All providers, models and routes at once, as the router keeps them in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route
from gateway_server.clock import SystemClock
from gateway_server.storage.changes import read_revision
from gateway_server.storage.engine import Store
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.providers import ProviderRepository, sealed_credential_of
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.sealing import SealedSecret
from gateway_server.storage.tables import models, providers, routes


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """Every provider, model and route, oldest first, and the revision that they are at least as new as.

    Disabled ones are among them. ``credentials`` has those that are kept in the store, by provider's name.
    """

    providers: Sequence[Provider]
    models: Sequence[Model]
    routes: Sequence[Route]
    credentials: Mapping[str, SealedSecret]
    revision: int


async def load_catalog(store: Store) -> StoredCatalog:
    """Reads all of it in one transaction. Raises STORE_UNAVAILABLE."""
    provider_rows = ProviderRepository(store, SystemClock())
    model_rows = ModelRepository(store, SystemClock())
    route_rows = RouteRepository(store, SystemClock())
    async with store.read() as connection:
        # First: what changes while the rest is read is then read again.
        revision = await read_revision(connection)
        found_providers = (await connection.execute(select(providers).order_by(providers.c.uid))).all()
        found_routes = (await connection.execute(select(routes).order_by(routes.c.uid))).all()
        found_models = (await connection.execute(select(models).order_by(models.c.uid))).all()
    read_providers = [provider_rows.message_of(row) for row in found_providers]
    sealed = {
        provider.name: credential
        for provider, row in zip(read_providers, found_providers, strict=True)
        if (credential := sealed_credential_of(row)) is not None
    }
    return StoredCatalog(
        providers=read_providers,
        models=[model_rows.message_of(row) for row in found_models],
        routes=[route_rows.message_of(row) for row in found_routes],
        credentials=sealed,
        revision=revision,
    )
