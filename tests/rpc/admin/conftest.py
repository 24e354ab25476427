"""A running gateway without providers: real store, keys, ledger, server; providers are checked by a rule."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import pytest

from aigateway.v1.admin_service_pb2 import CheckProviderResponse
from aigateway.v1.admin_service_pb2_grpc import AdminServiceStub
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Tenant
from aigateway.v1.usage_service_pb2_grpc import UsageServiceStub
from gateway_server.auth.authenticator import Authenticator
from gateway_server.auth.keys import Pepper, Peppers, new_secret
from gateway_server.clock import SystemClock
from gateway_server.errors import invalid_request
from gateway_server.guardrails.book import ProfileBook
from gateway_server.limits.admission import Admission
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.limiter import RateLimiter
from gateway_server.limits.report_turns import ReportTurns
from gateway_server.metrics import Metrics
from gateway_server.pipeline.guarding import Guardrails
from gateway_server.pipeline.limit_usage import LimitUsageReader
from gateway_server.pipeline.try_out import try_guardrails
from gateway_server.rpc.admin.base import AdminDependencies
from gateway_server.rpc.admin.servicer import AdminServicer
from gateway_server.rpc.interceptors import Interceptors
from gateway_server.rpc.server import RpcServer
from gateway_server.rpc.usage import UsageServicer
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.audit import AuditRepository
from gateway_server.storage.budgets import BudgetRepository
from gateway_server.storage.changes import ChangeFeed
from gateway_server.storage.gateways import WHOLE
from gateway_server.storage.guardrail_profiles import GuardrailProfileRepository
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.providers import ProviderRepository
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.sealing import MasterKeys
from gateway_server.storage.tenants import TenantRepository
from gateway_server.storage.usage_records import UsageRepository
from gateway_server.storage.usage_sums import UsageSumRepository
from gateway_server.usage.ledger import Ledger
from tests.support.ledgers import new_ledger
from tests.support.statuses import Failure, read_failure
from tests.support.stores import fresh_store
from tests.support.text_models import WordModels

if TYPE_CHECKING:
    from aigateway.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

RequestT = TypeVar("RequestT")
T = TypeVar("T")


def validate_provider(provider: Provider) -> None:
    if provider.provider_type not in {"demo", "openai"}:
        raise invalid_request("provider.provider_type", "is not a type of provider")
    if provider.base_url == "nonsense":
        raise invalid_request("provider.base_url", "is not a URL")


async def check_provider(provider: Provider) -> CheckProviderResponse:
    if provider.base_url:
        return CheckProviderResponse(error_reason="UPSTREAM_UNAVAILABLE", error_message="it is not there")
    return CheckProviderResponse(healthy=True, provider_models=["demo-1"])


@dataclass
class Gateway:
    """The stubs of a running gateway, and the secrets of an administrator and of a plain key of ``acme``."""

    admin: AdminServiceAsyncStub
    usage: UsageServiceAsyncStub
    keys: ApiKeyRepository
    peppers: Peppers
    ledger: Ledger
    feed: ChangeFeed
    admin_secret: str
    user_secret: str = ""

    async def call(
        self, rpc: grpc.aio.UnaryUnaryMultiCallable[RequestT, T], request: RequestT, secret: str = ""
    ) -> T:
        """The answer to a call with the administrator's key, or with ``secret``."""
        metadata = (("authorization", f"Bearer {secret or self.admin_secret}"),)
        call: Awaitable[T] = rpc(request, metadata=metadata)
        return await call

    async def fails(
        self, rpc: grpc.aio.UnaryUnaryMultiCallable[RequestT, T], request: RequestT, secret: str = ""
    ) -> Failure:
        """How the call fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(rpc, request, secret)
        return read_failure(caught.value)

    async def key(self, tenant_id: str, *scopes: Scope.ValueType) -> str:
        """The secret of a new key."""
        secret = new_secret()
        await self.keys.create(
            tenant_id,
            f"k{secret[-8:].lower().replace('_', 'x').replace('-', 'x')}",
            ApiKey(scopes=scopes),
            secret=self.peppers.hashed(secret),
        )
        return secret


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(fresh_store("sqlite", tmp_path))
        clock, peppers = SystemClock(), Peppers(Pepper(1, b"a pepper of the tests"))
        master_keys = MasterKeys(base64.b64encode(bytes(32)).decode())
        keys, tenants, usage = (
            ApiKeyRepository(store, clock),
            TenantRepository(store, clock),
            UsageRepository(store),
        )
        profiles = GuardrailProfileRepository(store, clock)
        guardrails = Guardrails(ProfileBook(profiles.list_all, WordModels))
        stack.callback(guardrails.close)
        feed, ledger = ChangeFeed(store, clock, interval=3600), await new_ledger(store, tmp_path)
        feed.subscribe(guardrails.book.on_changes)
        authenticator = Authenticator(keys, peppers, feed, clock=clock)
        server = RpcServer(
            {
                "aigateway.v1.AdminService": AdminServicer(
                    AdminDependencies(
                        tenants=tenants,
                        api_keys=keys,
                        providers=ProviderRepository(store, clock),
                        models=ModelRepository(store, clock),
                        routes=RouteRepository(store, clock),
                        guardrail_profiles=profiles,
                        target_states=list,
                        audit=AuditRepository(store),
                        feed=feed,
                        peppers=peppers,
                        master_keys=master_keys,
                        clock=clock,
                        validate_provider=validate_provider,
                        check_provider=check_provider,
                        validate_guardrail_profile=guardrails.book.validate,
                        try_guardrails=partial(try_guardrails, guardrails),
                    )
                ),
                "aigateway.v1.UsageService": UsageServicer(
                    usage,
                    tenants,
                    ledger,
                    sums=UsageSumRepository(store, clock),
                    turns=ReportTurns(),
                    limit_usage=LimitUsageReader(
                        tenants=tenants,
                        api_keys=keys,
                        limiter=RateLimiter(clock=clock, metrics=Metrics(), shared=None, share=lambda: WHOLE),
                        budgets=BudgetBook(BudgetRepository(store), "tests", clock=clock, metrics=Metrics()),
                        clock=clock,
                    ).read,
                ),
            },
            Interceptors(
                authenticate=authenticator.authenticate,
                admission=Admission(100),
                metrics=Metrics(),
                clock=clock,
                default_timeout=20,
                max_timeout=20,
                stream_stall_timeout=20,
                record_refusal=lambda call, error: None,
            ),
            address="127.0.0.1:0",
            credentials=None,
            max_request_bytes=1 << 20,
            max_response_bytes=64 << 20,
        )
        for part in (feed, authenticator, ledger):
            await part.start()
            stack.push_async_callback(part.close)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))
        made = Gateway(
            AdminServiceStub(channel), UsageServiceStub(channel), keys, peppers, ledger, feed, admin_secret=""
        )
        await tenants.create("operators", Tenant())
        await tenants.create("acme", Tenant(allowed_models=["openai/*"]))
        made.admin_secret = await made.key("operators", Scope.SCOPE_ADMIN_WRITE)
        made.user_secret = await made.key("acme", Scope.SCOPE_INFERENCE, Scope.SCOPE_USAGE_READ)
        yield made
