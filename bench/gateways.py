"""Gateways as an operator runs them, with auth, ledger and metrics, set up through their own API."""

import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2

from aigateway.v1.admin_service_pb2 import (
    CreateApiKeyRequest,
    CreateModelRequest,
    CreateProviderRequest,
    CreateTenantRequest,
    UpdateTenantRequest,
)
from aigateway.v1.admin_service_pb2_grpc import AdminServiceStub
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.tenant_pb2 import Budget, RateLimits, Tenant
from bench.bodies import CONFIG, FORMATS
from bench.cases import CASES
from bench.children import Child

#: Every limit and budget, so far away that no call comes near it.
FAR_LIMITS: Final = RateLimits(
    requests_per_minute=10_000_000, tokens_per_minute=10_000_000_000, max_concurrent_requests=1_000
)
FAR_BUDGET: Final = Budget(daily_nanos=10**15, monthly_nanos=10**15)

_START_SECONDS: Final = 60.0
_RPC_SECONDS: Final = 30.0
#: Taken for keys where requests are signed, for a word elsewhere.
_CREDENTIAL: Final = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#: Types of providers whose paths do not stand below ``/v1``.
_OWN_PATHS: Final = ("bedrock", "google")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves."""

    pid: int
    port: int
    admin_key: str


def start_gateway(
    stack: ExitStack, *, settings: Mapping[str, str] | None = None, cpus: frozenset[int] = frozenset()
) -> Gateway:
    """Starts one with a folder of its own, until the stack is closed, and waits until it serves."""
    state_dir = Path(tempfile.mkdtemp(prefix="aigw-bench-"))
    stack.callback(shutil.rmtree, state_dir)
    port = _free_port()
    variables = {
        "AIGW_LISTEN": f"127.0.0.1:{port}",
        "AIGW_METRICS_LISTEN": f"127.0.0.1:{_free_port()}",
        "AIGW_STATE_DIR": str(state_dir),
        "AIGW_ADMIN_KEY": new_admin_key(),
        "AIGW_LOG_LEVEL": "warning",
        "AIGW_DEMO": "false",
        **(settings or {}),
    }
    if taken := sorted(name for name in os.environ if name.startswith("AIGW_")):
        raise RuntimeError(f"the gateway is measured with its own settings: unset {', '.join(taken)}")
    command = [str(Path(sys.executable).with_name("ai-gateway")), "serve"]
    child = stack.enter_context(Child(command, env=variables, cpus=cpus))
    _wait_until_serving(child, port)
    return Gateway(child.pid, port, variables["AIGW_ADMIN_KEY"])


def new_admin_key() -> str:
    """A secret for ``AIGW_ADMIN_KEY``."""
    return f"sk-gw-{secrets.token_urlsafe(32)}"


class Admin:
    """What is made through a gateway's API before it is measured."""

    def __init__(self, channel: grpc.Channel, admin_key: str) -> None:
        self._stub = AdminServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {admin_key}"),)

    def add_provider(self, base_url: str, provider_type: str = "vllm") -> None:
        """A provider with a model, with prices, for each case."""
        request = CreateProviderRequest(provider_id="bench")
        request.provider.provider_type = provider_type
        request.provider.base_url = base_url
        if provider_type in FORMATS.values():
            request.provider.credential = _CREDENTIAL
            request.provider.config.update(CONFIG.get(provider_type, {}))
            if provider_type in _OWN_PATHS:
                request.provider.base_url = base_url.removesuffix("/v1")
        parent = self._stub.CreateProvider(request, metadata=self._metadata, timeout=_RPC_SECONDS).name
        for case in CASES:
            model = CreateModelRequest(parent=parent, model_id=case.model)
            model.model.provider_model = case.model
            model.model.price.input_nanos_per_million = 150_000_000
            model.model.price.output_nanos_per_million = 600_000_000
            self._stub.CreateModel(model, metadata=self._metadata, timeout=_RPC_SECONDS)

    def add_tenant(self, tenant_id: str, tenant: Tenant) -> str:
        """The name of a new tenant."""
        request = CreateTenantRequest(tenant_id=tenant_id, tenant=tenant)
        made: Tenant = self._stub.CreateTenant(request, metadata=self._metadata, timeout=_RPC_SECONDS)
        return made.name

    def limit_tenant(self, name: str, rate_limits: RateLimits, budget: Budget) -> None:
        """Gives limits to a tenant that is there."""
        request = UpdateTenantRequest(
            tenant=Tenant(name=name, rate_limits=rate_limits, budget=budget),
            update_mask=FieldMask(paths=["rate_limits", "budget"]),
        )
        self._stub.UpdateTenant(request, metadata=self._metadata, timeout=_RPC_SECONDS)

    def add_key(self, tenant: str, api_key: ApiKey) -> str:
        """What a caller with a new key of a tenant sends as its authorization."""
        request = CreateApiKeyRequest(parent=tenant, api_key_id="bench", api_key=api_key)
        request.api_key.scopes.append(Scope.SCOPE_INFERENCE)
        made = self._stub.CreateApiKey(request, metadata=self._metadata, timeout=_RPC_SECONDS)
        return f"Bearer {made.secret}"


@contextmanager
def administered(gateway: Gateway) -> Iterator[Admin]:
    """The gateway's API for administrators."""
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield Admin(channel, gateway.admin_key)


def _wait_until_serving(child: Child, port: int) -> None:
    give_up = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            try:
                answer = health(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                if child.exited or time.monotonic() > give_up:
                    raise
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
