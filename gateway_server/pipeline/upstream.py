"""What every kind of call needs to reach a provider."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.call import CallContext
from gateway_server.errors import GatewayError
from gateway_server.providers.base import HttpCall, Target
from gateway_server.providers.transport import HttpResponse, Timeouts, Transport, TransportError


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """How long a provider may take, in seconds, and how much it may send, in bytes."""

    connect: float
    first_byte: float
    idle: float
    max_response_bytes: int


class Upstream:
    """Sends calls to providers within what remains of the caller's deadline."""

    def __init__(self, transport: Transport, limits: UpstreamLimits) -> None:
        self._transport = transport
        self._limits = limits

    async def send(
        self, request: HttpCall, call: CallContext, *, within: float | None = None
    ) -> HttpResponse:
        """Opens the exchange, which may take ``within`` seconds in all, or as long as the call has left.

        Whoever calls closes the response. Raises TransportError.
        """
        remaining = max(call.remaining(), 0.0)
        return await self.send_within(request, remaining if within is None else min(within, remaining))

    async def send_within(
        self, request: HttpCall, seconds: float, *, most_bytes: int | None = None
    ) -> HttpResponse:
        """As ``send``, for what is no attempt of a call; ``most_bytes`` bounds its answer further."""
        limits = self._limits
        max_bytes = limits.max_response_bytes
        return await self._transport.send(
            request,
            timeouts=Timeouts(
                connect=limits.connect,
                first_byte=limits.first_byte,
                idle=limits.idle,
                total=seconds,
            ),
            max_response_bytes=max_bytes if most_bytes is None else min(max_bytes, most_bytes),
        )


@asynccontextmanager
async def first_token_within(seconds: float | None, target: Target) -> AsyncIterator[Callable[[], None]]:
    """Raises UPSTREAM_TIMEOUT unless what it gives is called in time: the first content is there."""
    try:
        async with asyncio.timeout(seconds) as timeout:
            yield lambda: timeout.reschedule(None)
    except TimeoutError:
        raise GatewayError(
            ErrorReason.ERROR_REASON_UPSTREAM_TIMEOUT,
            f"{target.provider} sent no content in {seconds:g} s",
            metadata={"provider": target.provider, "phase": "first_token"},
            retryable=True,
        ) from None


async def read_error_body(response: HttpResponse) -> bytes:
    """The body of a response that is an error; empty when it cannot be read, since the status says more."""
    try:
        return await response.read()
    except TransportError:
        return b""
