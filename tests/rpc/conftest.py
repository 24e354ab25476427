"""A real gRPC server on a free port around servicers that a test writes, with one valid key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import pytest

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.permission_pb2 import Scope
from gateway_server.call import Principal
from gateway_server.clock import SystemClock
from gateway_server.errors import GatewayError
from gateway_server.limits.admission import Admission
from gateway_server.metrics import Metrics
from gateway_server.rpc.interceptors import Interceptors
from gateway_server.rpc.server import RpcServer, Servicers

if TYPE_CHECKING:
    from aigateway.v1.chat_service_pb2_grpc import ChatServiceAsyncStub

KEY = "sk-gw-test"
KEY_METADATA = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Served:
    """A running server and what it is made of."""

    server: RpcServer
    channel: grpc.aio.Channel
    admission: Admission
    metrics: Metrics
    scopes: set[Scope.ValueType] = field(default_factory=set)
    refusals: list[tuple[str, GatewayError]] = field(default_factory=list)

    @property
    def chat(self) -> ChatServiceAsyncStub:
        """The chat service as this server has it."""
        return ChatServiceStub(self.channel)

    def handled(self, method: str, code: str) -> float:
        """How many calls of a method ended with a code."""
        for metric in self.metrics.registry.collect():
            for sample in metric.samples:
                wanted = {"grpc_method": method, "grpc_code": code}
                if sample.name == "grpc_server_handled_total" and wanted.items() <= sample.labels.items():
                    return sample.value
        return 0


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers for a test and stops them after it."""
    async with AsyncExitStack() as stack:

        async def start(
            servicers: Servicers,
            *,
            default_timeout: float = 20,
            max_timeout: float = 20,
            stall_timeout: float = 20,
            max_concurrent_calls: int = 100,
            max_request_bytes: int = 1 << 20,
            address: str = "127.0.0.1:0",
            credentials: grpc.ServerCredentials | None = None,
        ) -> Served:
            scopes = set(Scope.values()) - {Scope.SCOPE_UNSPECIFIED}

            async def authenticate(secret: str) -> Principal:
                if not secret:
                    raise GatewayError(ErrorReason.ERROR_REASON_API_KEY_MISSING, "no API key was sent")
                if secret != KEY:
                    raise GatewayError(ErrorReason.ERROR_REASON_API_KEY_INVALID, "the API key is not valid")
                return Principal("acme", "test", frozenset(scopes))

            refusals: list[tuple[str, GatewayError]] = []
            admission, metrics = Admission(max_concurrent_calls), Metrics()
            server = RpcServer(
                servicers,
                Interceptors(
                    authenticate=authenticate,
                    admission=admission,
                    metrics=metrics,
                    clock=SystemClock(),
                    default_timeout=default_timeout,
                    max_timeout=max_timeout,
                    stream_stall_timeout=stall_timeout,
                    record_refusal=lambda call, error: refusals.append((call.request_id, error)),
                ),
                address=address,
                credentials=credentials,
                max_request_bytes=max_request_bytes,
                max_response_bytes=64 << 20,
            )
            await server.start()
            stack.push_async_callback(server.stop, 0)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            stack.push_async_callback(channel.close)
            return Served(server, channel, admission, metrics, scopes, refusals)

        yield start


def chat_request(model: str = "test") -> CreateChatCompletionRequest:
    """The smallest valid request."""
    return CreateChatCompletionRequest(
        model=model,
        messages=[Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text="hello"))])],
    )
