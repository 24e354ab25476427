"""The servers that are measured, each a process of its own: an empty RPC, a bare relay, the gateway."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
from aigateway.v1.tenant_pb2 import Tenant
from bench.bodies import FORMATS
from bench.cases import CASES, Case, delta_text
from bench.children import Child, start_module
from bench.gateways import FAR_BUDGET, FAR_LIMITS, administered, start_gateway
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


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server.

    The authorization is empty where none is needed; of several lines, connections take turns.
    """

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
        upstream, base_url = start_upstream(stack, speaks_all=speaks_all)
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


def start_upstream(stack: ExitStack, *, speaks_all: bool = False) -> tuple[Child, str]:
    """The upstream, and where providers find it."""
    upstream = stack.enter_context(
        start_module("bench.replay") if speaks_all else Child([str(build_program("upstream"))])
    )
    return upstream, f"http://127.0.0.1:{int(upstream.read_line())}/v1"


def check_answer(subject: Subject, case: Case) -> None:
    """Makes one call with gRPC's own client; raises AssertionError when the answer is not the upstream's."""
    metadata = tuple(("authorization", line) for line in subject.authorization.splitlines()[:1])
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
    """A gateway with one tenant that has one key."""
    gateway = start_gateway(stack, settings=stores, cpus=cpus)
    tenant, key = Tenant(display_name="Benchmark"), ApiKey()
    if not guarded:
        tenant.guardrail_profile = "guardrailProfiles/off"
    if limits:
        tenant.rate_limits.CopyFrom(FAR_LIMITS)
        tenant.budget.CopyFrom(FAR_BUDGET)
        key.rate_limits_override.CopyFrom(FAR_LIMITS)
        key.budget.CopyFrom(FAR_BUDGET)
    with administered(gateway) as admin:
        admin.add_provider(base_url, provider_type)
        authorization = admin.add_key(admin.add_tenant("bench", tenant), key)
    return Subject(name, gateway.pid, gateway.port, authorization)
