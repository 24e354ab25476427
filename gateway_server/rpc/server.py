"""The gRPC server: the services of the contract, health and reflection, on one listener."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from gateway_server.errors import not_implemented
from gateway_server.rpc.interceptors import Interceptors, StreamHandler, UnaryHandler
from gateway_server.rpc.methods import Method, methods_of, service_descriptors
from gateway_server.rpc.reflection import add_reflection

_HEALTH_SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

#: By full service name: an object with a method for each RPC, named like it. A unary one takes the
#: request and the call, a streaming one also what it emits messages with.
Servicers = Mapping[str, object]


def read_credentials(cert: Path, key: Path, client_ca: Path | None = None) -> grpc.ServerCredentials:
    """The listener's TLS from PEM files. With a client CA, callers must show a certificate that it signed.

    Reads files: call it in a thread. Raises OSError.
    """
    pair = (key.read_bytes(), cert.read_bytes())
    if client_ca is None:
        return grpc.ssl_server_credentials([pair])
    return grpc.ssl_server_credentials([pair], client_ca.read_bytes(), require_client_auth=True)


class RpcServer:
    """The listener and its health. Every RPC of the contract is served: those without a handler say that
    they are not implemented.
    """

    def __init__(
        self,
        servicers: Servicers,
        interceptors: Interceptors,
        *,
        address: str,
        credentials: grpc.ServerCredentials | None,
        max_request_bytes: int,
        max_response_bytes: int,
    ) -> None:
        self._server = grpc.aio.server(
            options=(
                # Without this a second server on the port binds in silence and takes half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.max_send_message_length", max_response_bytes),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                # Errors carry details in trailers; the default of 8 KiB is what status.py fits them into.
                ("grpc.max_metadata_size", 16 * 1024),
            )
        )
        services = service_descriptors()
        self._server.add_generic_rpc_handlers(
            tuple(
                _service_handler(service, servicers.get(service.full_name), interceptors)
                for service in services
            )
        )
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._service_names = tuple(service.full_name for service in services)
        add_reflection(self._server, (*self._service_names, _HEALTH_SERVICE))
        self._address = address
        self.port = self._bind(address, credentials)

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """The port that is listened on; raises OSError when the address cannot be had."""
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise OSError(f"cannot listen on {address}: is another server running there?") from None

    async def start(self) -> None:
        """Begins to serve."""
        await self.set_serving(serving=True)
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Tells health checks whether calls can be served."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", *self._service_names):
            await self._health.set(name, status)

    async def set_part(self, name: str, *, serving: bool) -> None:
        """Tells health checks of something that calls can be served without."""
        response = health_pb2.HealthCheckResponse
        await self._health.set(name, response.SERVING if serving else response.NOT_SERVING)

    async def announce_stop(self) -> None:
        """Health checks say from now on that calls are not served; they are still answered."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Closes the listener, waits for calls under way, health watches too, and cancels what is left."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


def _service_handler(
    service: ServiceDescriptor, servicer: object, interceptors: Interceptors
) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {
            name: _method_handler(method, servicer, interceptors)
            for name, method in methods_of(service).items()
        },
    )


def _method_handler(
    method: Method, servicer: object, interceptors: Interceptors
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    if method.response_streaming:
        stream: StreamHandler = getattr(servicer, method.name, None) or _unimplemented(method)
        return grpc.unary_stream_rpc_method_handler(interceptors.stream(method, stream))
    unary: UnaryHandler = getattr(servicer, method.name, None) or _unimplemented(method)
    return grpc.unary_unary_rpc_method_handler(interceptors.unary(method, unary))


def _unimplemented(method: Method) -> Callable[..., Awaitable[NoReturn]]:
    async def refuse(*_: object) -> NoReturn:
        raise not_implemented(method.name)

    return refuse
