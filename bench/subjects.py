"""The servers that are measured, each a process of its own: an empty RPC, a bare relay, the gateway."""

import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from aigateway.v1.admin_service_pb2 import (
    CreateApiKeyRequest,
    CreateModelRequest,
    CreateProviderRequest,
    CreateTenantRequest,
)
from aigateway.v1.admin_service_pb2_grpc import AdminServiceStub
from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.tenant_pb2 import Budget, RateLimits
from bench.bodies import CONFIG, FORMATS
from bench.cases import CASES, Case, delta_text
from bench.children import Child, start_module
from bench.programs import build_program
from tests.support.services import SERVICES

EMPTY: Final = "empty"
RELAY: Final = "relay"
GATEWAY: Final = "gateway"
#: The gateway with every limit and budget on tenant and key; by itself, and on PostgreSQL and Redis.
#: The gateway with guardrails that check nothing.
UNGUARDED: Final = "unguarded"
LIMITED: Final = "limited"
SHARED: Final = "shared"
NAMES: Final = (EMPTY, RELAY, GATEWAY)

_START_SECONDS: Final = 60.0
#: Taken for keys where requests are signed, for a word elsewhere.
_CREDENTIAL: Final = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#: Types of providers whose paths do not stand below ``/v1``.
_OWN_PATHS: Final = ("bedrock", "google")


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server. The authorization is empty where none is needed."""

    name: str
    pid: int
    port: int
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that runs."""

    upstream_pid: int
    subjects: tuple[Subject, ...]


@contextmanager
def running(names: Sequence[str], *, pin: bool = False, speaks_all: bool = False) -> Iterator[Bench]:
    """Starts the upstream and the named servers, each checked to answer rightly, and ends them.

    A gateway may be named by the type of its provider, if the upstream ``speaks_all`` formats.

    Pinned, the servers have the last CPU for themselves, and all else of the benchmark has the others.
    """
    with ExitStack() as stack:
        cpus = _split_cpus(stack) if pin else frozenset()
        upstream = stack.enter_context(
            start_module("bench.replay") if speaks_all else Child([str(build_program("upstream"))])
        )
        base_url = f"http://127.0.0.1:{int(upstream.read_line())}/v1"
        subjects = []
        for name in names:
            match name:
                case "empty":
                    subjects.append(_start_reference(stack, EMPTY, "bench.empty", cpus=cpus))
                case "relay":
                    subjects.append(_start_reference(stack, RELAY, "bench.relay", base_url, cpus=cpus))
                case "gateway":
                    subjects.append(_start_gateway(stack, base_url, cpus=cpus))
                case "unguarded":
                    subjects.append(_start_gateway(stack, base_url, cpus=cpus, name=UNGUARDED, guarded=False))
                case "limited":
                    subjects.append(_start_gateway(stack, base_url, cpus=cpus, name=LIMITED, limits=True))
                case "shared":
                    stores = _start_stores(stack)
                    subjects.append(
                        _start_gateway(stack, base_url, cpus=cpus, name=SHARED, limits=True, stores=stores)
                    )
                case _ if name in FORMATS.values():
                    subjects.append(_start_gateway(stack, base_url, cpus=cpus, name=name, provider_type=name))
                case _:
                    raise ValueError(f"nobody is named {name}")
        for subject in subjects:
            for case in CASES:
                check_answer(subject, case)
        yield Bench(upstream.pid, tuple(subjects))


def check_answer(subject: Subject, case: Case) -> None:
    """Makes one call with gRPC's own client; raises AssertionError when the answer is not the upstream's."""
    metadata = (("authorization", subject.authorization),) if subject.authorization else ()
    with grpc.insecure_channel(f"127.0.0.1:{subject.port}") as channel:
        stub = ChatServiceStub(channel)
        if case.is_stream:
            stream = stub.StreamChatCompletion(case.request(), metadata=metadata, timeout=30)
            text = "".join(event.part_delta.text for chunk in stream for event in chunk.events)
            expected = "".join(map(delta_text, range(case.deltas)))
            if text != expected:
                raise AssertionError(f"{subject.name}, {case.name}: expected {expected!r}, got {text!r}")
        else:
            answer = stub.CreateChatCompletion(case.request(), metadata=metadata, timeout=30)
            text = answer.choices[0].message.parts[0].text.text
            if case.token not in text or not answer.usage.output_tokens:
                raise AssertionError(f"{subject.name}, {case.name}: got {answer}")


def _split_cpus(stack: ExitStack) -> frozenset[int]:
    """Leaves the last CPU, which it gives; whatever this process starts inherits the others."""
    allowed = os.sched_getaffinity(0)
    last = max(allowed)
    if len(allowed) == 1:
        raise RuntimeError("pinning needs two CPUs")
    os.sched_setaffinity(0, allowed - {last})
    stack.callback(os.sched_setaffinity, 0, allowed)
    return frozenset({last})


def _start_reference(
    stack: ExitStack, name: str, module: str, *arguments: str, cpus: frozenset[int]
) -> Subject:
    child = stack.enter_context(start_module(module, *arguments, cpus=cpus))
    return Subject(name, child.pid, int(child.read_line()))


def _start_stores(stack: ExitStack) -> dict[str, str]:
    """A PostgreSQL and a Redis of the benchmark's own, as settings."""
    stack.callback(SERVICES.close)
    return {
        "AIGW_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{SERVICES.postgresql().port}/postgres",
        "AIGW_REDIS_URL": f"redis://127.0.0.1:{SERVICES.redis().port}",
    }


def _start_gateway(
    stack: ExitStack,
    base_url: str,
    *,
    cpus: frozenset[int],
    name: str = GATEWAY,
    limits: bool = False,
    guarded: bool = True,
    provider_type: str = "vllm",
    stores: Mapping[str, str] | None = None,
) -> Subject:
    """The gateway as an operator runs it, with auth, ledger and metrics, set up through its own API."""
    state_dir = Path(tempfile.mkdtemp(prefix="aigw-bench-"))
    stack.callback(shutil.rmtree, state_dir)
    port, admin_key = _free_port(), f"sk-gw-{secrets.token_urlsafe(32)}"
    settings = {
        "AIGW_LISTEN": f"127.0.0.1:{port}",
        "AIGW_METRICS_LISTEN": f"127.0.0.1:{_free_port()}",
        "AIGW_STATE_DIR": str(state_dir),
        "AIGW_ADMIN_KEY": admin_key,
        "AIGW_LOG_LEVEL": "warning",
        "AIGW_DEMO": "false",
        **(stores or {}),
    }
    if taken := sorted(name for name in os.environ if name.startswith("AIGW_")):
        raise RuntimeError(f"the gateway is measured with its own settings: unset {', '.join(taken)}")
    command = [str(Path(sys.executable).with_name("ai-gateway")), "serve"]
    child = stack.enter_context(Child(command, env=settings, cpus=cpus))
    _wait_until_serving(child, port)
    secret = _set_up(port, admin_key, base_url, limits=limits, guarded=guarded, provider_type=provider_type)
    return Subject(name, child.pid, port, f"Bearer {secret}")


def _set_up(
    port: int, admin_key: str, base_url: str, *, limits: bool, guarded: bool, provider_type: str
) -> str:
    """A provider with its models, with prices, and a tenant with a key: gives the key."""
    metadata = (("authorization", f"Bearer {admin_key}"),)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        admin = AdminServiceStub(channel)
        provider = CreateProviderRequest(provider_id="bench")
        provider.provider.provider_type = provider_type
        provider.provider.base_url = base_url
        if provider_type in FORMATS.values():
            provider.provider.credential = _CREDENTIAL
            provider.provider.config.update(CONFIG.get(provider_type, {}))
            if provider_type in _OWN_PATHS:
                provider.provider.base_url = base_url.removesuffix("/v1")
        parent = admin.CreateProvider(provider, metadata=metadata, timeout=10).name
        for case in CASES:
            model = CreateModelRequest(parent=parent, model_id=case.model)
            model.model.provider_model = case.model
            model.model.price.input_nanos_per_million = 150_000_000
            model.model.price.output_nanos_per_million = 600_000_000
            admin.CreateModel(model, metadata=metadata, timeout=10)
        tenant = CreateTenantRequest(tenant_id="bench")
        tenant.tenant.display_name = "Benchmark"
        if not guarded:
            tenant.tenant.guardrail_profile = "guardrailProfiles/off"
        if limits:
            _limit(tenant.tenant.rate_limits, tenant.tenant.budget)
        key = CreateApiKeyRequest(
            parent=admin.CreateTenant(tenant, metadata=metadata, timeout=10).name, api_key_id="bench"
        )
        key.api_key.scopes.append(Scope.SCOPE_INFERENCE)
        if limits:
            _limit(key.api_key.rate_limits_override, key.api_key.budget)
        return admin.CreateApiKey(key, metadata=metadata, timeout=10).secret


def _limit(rates: RateLimits, budget: Budget) -> None:
    """Sets every limit, far away."""
    rates.requests_per_minute = 10_000_000
    rates.tokens_per_minute = 10_000_000_000
    rates.max_concurrent_requests = 1_000
    budget.daily_nanos = budget.monthly_nanos = 10**15


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
