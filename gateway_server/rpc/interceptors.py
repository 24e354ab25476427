"""What happens around every RPC of the contract, in order: request id, metrics, error mapping, admission,
authentication, permission, validation, deadline.

They are composed once per method when the server is built, not per call: a chain of
``grpc.aio.ServerInterceptor`` objects costs several coroutines a call for the same result.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Never, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.routing_pb2 import GatewayOptions
from gateway_server.call import CallContext, Principal
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError, deadline_exceeded
from gateway_server.ids import new_id
from gateway_server.limits.admission import Admission
from gateway_server.limits.checks import describe_remaining
from gateway_server.metrics import Metrics, RpcObserver
from gateway_server.rpc.methods import Method
from gateway_server.rpc.requests import parse_request
from gateway_server.rpc.status import CallStatus, status_of

_BEARER: Final = "bearer "

T = TypeVar("T")

Emit = Callable[[Message], Awaitable[None]]
UnaryHandler = Callable[[Any, CallContext], Awaitable[Message]]
StreamHandler = Callable[[Any, CallContext, Emit], Awaitable[None]]
GrpcContext = grpc.aio.ServicerContext[Any, Any]


class Authenticate(Protocol):
    """Turns an API key into who calls; raises API_KEY_MISSING or API_KEY_INVALID."""

    async def __call__(self, secret: str) -> Principal:
        """The caller that ``secret`` belongs to. An empty secret means that none was sent."""
        ...


class Interceptors:
    """Wraps the handlers of the contract for grpc.aio; requests and responses travel as bytes."""

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        admission: Admission,
        metrics: Metrics,
        clock: Clock,
        default_timeout: float,
        max_timeout: float,
        stream_stall_timeout: float,
        record_refusal: Callable[[CallContext, GatewayError], None],
    ) -> None:
        """``record_refusal`` hears of model calls whose request is refused before the pipeline sees it."""
        self._record_refusal = record_refusal
        self._authenticate = authenticate
        self._admission = admission
        self._metrics = metrics
        self._clock = clock
        self._default_timeout = default_timeout
        self._max_timeout = max_timeout
        self._stall_timeout = stream_stall_timeout

    def unary(
        self, method: Method, handler: UnaryHandler
    ) -> Callable[[bytes, GrpcContext], Awaitable[bytes]]:
        """``handler`` as grpc.aio calls it."""
        observer = self._observer_of(method)

        async def run(data: bytes, context: GrpcContext) -> bytes:
            async def answer(request: Message, call: CallContext) -> bytes:
                response = await handler(request, call)
                return response.SerializeToString()

            return await self._serve(method, observer, data, context, answer)

        return run

    def stream(
        self, method: Method, handler: StreamHandler
    ) -> Callable[[bytes, GrpcContext], Awaitable[None]]:
        """``handler`` as grpc.aio calls it: a coroutine that writes, so that a write can time out."""
        observer = self._observer_of(method)

        async def run(data: bytes, context: GrpcContext) -> None:
            async def emit(message: Message) -> None:
                await self._write(context, message.SerializeToString())

            async def answer(request: Message, call: CallContext) -> None:
                await handler(request, call, emit)

            await self._serve(method, observer, data, context, answer)

        return run

    async def _serve(
        self,
        method: Method,
        observer: RpcObserver,
        data: bytes,
        context: GrpcContext,
        answer: Callable[[Message, CallContext], Awaitable[T]],
    ) -> T:
        request_id = new_id()
        started_at = self._clock.monotonic()
        code = "OK"
        call: CallContext | None = None
        observer.start()
        try:
            with self._admission:
                principal = await self._authenticate(_secret_of(context))
                _check_permission(method, principal)
                timeout = self._timeout_of(context)
                call = CallContext(
                    request_id=request_id,
                    method=method.name,
                    principal=principal,
                    clock=self._clock,
                    start_time=self._clock.now(),
                    started_at=started_at,
                    deadline_at=started_at + timeout,
                )
                request = self._read_request(method, data, call)
                if method.has_gateway_options:
                    timeout = _shorten(timeout, request)
                    call.deadline_at = started_at + timeout
                try:
                    async with asyncio.timeout(timeout):
                        result = await answer(request, call)
                except TimeoutError:
                    raise deadline_exceeded(timeout) from None
                if call.limits_left:  # costs a tenth of a call: only when there is something to say
                    context.set_trailing_metadata(tuple(describe_remaining(call.limits_left)))
                return result
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 -- gRPC would send the text of any exception to the caller
            status = status_of(error, request_id)
            code = status.code.name
            if context.done():
                raise asyncio.CancelledError from None  # the caller is gone; nobody is left to tell
            await self._abort(context, status, call.limits_left if call is not None else {})
        finally:
            observer.finish(code, self._clock.monotonic() - started_at)

    async def _write(self, context: GrpcContext, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_timeout):
                await context.write(data)
        except TimeoutError:
            raise GatewayError(
                ErrorReason.ERROR_REASON_SLOW_READER,
                f"nothing was read from the stream for {self._stall_timeout:g} s",
                metadata={"timeout_ms": str(round(self._stall_timeout * 1000))},
            ) from None

    async def _abort(
        self, context: GrpcContext, status: CallStatus, limits_left: Mapping[str, tuple[int, int]]
    ) -> Never:
        """Ends the call with a status, and with what is left of its limits. It goes behind what was written
        before, and who does not read that is not waited for any longer: the handler ends, gRPC keeps the
        status for as long as the caller stays.
        """
        try:
            async with asyncio.timeout(self._stall_timeout):
                trailing = (*status.trailing_metadata, *describe_remaining(limits_left))
                await context.abort(status.code, status.message, trailing)
        except TimeoutError:
            raise asyncio.CancelledError from None

    def _observer_of(self, method: Method) -> RpcObserver:
        return self._metrics.rpc(
            service=method.service, method=method.name, streaming=method.response_streaming
        )

    def _read_request(self, method: Method, data: bytes, call: CallContext) -> Message:
        """The valid request; a refusal of a call that asks a model is on record."""
        try:
            return parse_request(method, data)
        except GatewayError as error:
            if method.is_model_call:
                self._record_refusal(call, error)
            raise

    def _timeout_of(self, context: GrpcContext) -> float:
        """Seconds this call may take: the caller's deadline or the default, within the maximum."""
        timeout = cast("float | None", context.time_remaining())  # None without a deadline, against its stubs
        if timeout is None:
            timeout = self._default_timeout
        return min(timeout, self._max_timeout)


def _shorten(timeout: float, request: Message) -> float:
    """The timeout, or that of the request's own options when it is shorter; in seconds."""
    options: GatewayOptions = getattr(request, "gateway_options")  # noqa: B009 -- any request that has them
    if options.HasField("timeout"):
        return min(timeout, options.timeout.ToNanoseconds() / 1e9)
    return timeout


def _secret_of(context: GrpcContext) -> str:
    """The API key in the call's metadata; empty when there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else ""
    return ""


def _check_permission(method: Method, principal: Principal) -> None:
    if method.scopes.isdisjoint(principal.scopes):
        needed = ",".join(sorted(Scope.Name(scope) for scope in method.scopes))
        raise GatewayError(
            ErrorReason.ERROR_REASON_SCOPE_MISSING,
            f"the key may not call {method.name}; it needs one of these scopes: {needed or 'none is enough'}",
            metadata={"scopes": needed, "method": method.name},
        )
