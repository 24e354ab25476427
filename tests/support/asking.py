"""As much of the gateway as stands between a request and a provider's answer: format, endpoint, transport."""

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent, CreateChatCompletionRequest
from gateway_server.providers.base import Endpoint, HttpCall, Target
from gateway_server.providers.transport import Timeouts, Transport

_TIMEOUTS = Timeouts(connect=5, first_byte=5, idle=5, total=30)
_MAX_RESPONSE_BYTES = 10_000_000


async def ask_chat(
    request: CreateChatCompletionRequest,
    target: Target,
    *,
    stream: bool,
    endpoint: Endpoint,
    transport: Transport,
) -> ChatCompletion:
    """The answer; raises what the format makes of a failure, or TransportError."""
    wire_format = endpoint.chat_format
    assert wire_format is not None
    body = wire_format.render_chat(request, target, stream=stream)
    call = endpoint.chat_call(target, body, stream=stream, options=request.provider_options)
    response = await transport.send(call, timeouts=_TIMEOUTS, max_response_bytes=_MAX_RESPONSE_BYTES)
    async with response:
        if response.status != 200:
            data = await response.read()
            raise wire_format.parse_error(response.status, response.headers, data, target)
        if not stream:
            return wire_format.parse_chat(await response.read(), target)
        parser = wire_format.chat_stream(target)
        events: list[ChatEvent] = []
        async for data in response.chunks():
            events += parser.feed(data)
    return fold_events([*events, *parser.close()])


async def fetch(call: HttpCall, transport: Transport) -> tuple[int, bytes]:
    """Status and body of a response."""
    response = await transport.send(call, timeouts=_TIMEOUTS, max_response_bytes=_MAX_RESPONSE_BYTES)
    async with response:
        return response.status, await response.read()
