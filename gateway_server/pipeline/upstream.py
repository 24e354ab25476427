"""What every kind of call needs to reach a provider."""

from dataclasses import dataclass

from gateway_server.call import CallContext
from gateway_server.providers.base import HttpCall
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

    async def send(self, request: HttpCall, call: CallContext) -> HttpResponse:
        """Opens the exchange; whoever calls closes the response. Raises TransportError."""
        limits = self._limits
        return await self._transport.send(
            request,
            timeouts=Timeouts(
                connect=limits.connect,
                first_byte=limits.first_byte,
                idle=limits.idle,
                total=max(call.remaining(), 0.0),
            ),
            max_response_bytes=limits.max_response_bytes,
        )


async def read_error_body(response: HttpResponse) -> bytes:
    """The body of a response that is an error; empty when it cannot be read, since the status says more."""
    try:
        return await response.read()
    except TransportError:
        return b""
