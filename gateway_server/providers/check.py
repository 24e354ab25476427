"""A look whether a provider can be used: address, TLS, credential, and which models it offers."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from aigateway.v1.admin_service_pb2 import CheckProviderResponse
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError
from gateway_server.providers.base import Endpoint, HttpCall, Target
from gateway_server.providers.diagnosis import explain_answer, explain_exchange, explain_status
from gateway_server.providers.failures import error_of_transport
from gateway_server.providers.transport import Timeouts, Transport, TransportError

_TIMEOUTS: Final = Timeouts(connect=5, first_byte=10, idle=10, total=15)
_MAX_RESPONSE_BYTES: Final = 8 * 2**20
_MAX_MODELS: Final = 1000

#: Makes the endpoint of a provider, its credential included; raises GatewayError as BuildEndpoint does.
OpenEndpoint = Callable[[Provider], Awaitable[Endpoint]]


class ProviderChecker:
    """Asks providers for their list of models, the cheapest call that needs the credential."""

    def __init__(
        self, transport: Transport, open_endpoint: OpenEndpoint, *, timeouts: Timeouts = _TIMEOUTS
    ) -> None:
        self._transport = transport
        self._open_endpoint = open_endpoint
        self._timeouts = timeouts

    async def check(self, provider: Provider) -> CheckProviderResponse:
        """What came of it; a provider that cannot be used is an answer, not an exception."""
        started_at = time.monotonic()
        response = CheckProviderResponse()
        try:
            endpoint = await self._open_endpoint(provider)
            models = await self._list_models(provider, endpoint, endpoint.check_call())
        except GatewayError as error:
            response.error_reason = error.reason_name
            named = provider.name in error.message
            response.error_message = error.message if named else f"{provider.name}: {error.message}"
        else:
            response.healthy = True
            response.provider_models.extend(models[:_MAX_MODELS])
        response.latency.FromNanoseconds(round((time.monotonic() - started_at) * 1e9))
        return response

    async def _list_models(self, provider: Provider, endpoint: Endpoint, call: HttpCall) -> list[str]:
        """The models; raises GatewayError with a message for whoever set the provider up."""
        target = Target(
            provider_id=provider.name.rpartition("/")[2],
            provider_type=provider.provider_type,
            provider_model="",
            model=Model(),
        )
        try:
            response = await self._transport.send(
                call, timeouts=self._timeouts, max_response_bytes=_MAX_RESPONSE_BYTES
            )
            async with response:
                data = await response.read()
        except TransportError as error:
            failure = error_of_transport(error, target)
            failure.message = explain_exchange(error, provider, call.url, self._timeouts)
            raise failure from None
        if response.status != 200:
            wire_format = endpoint.chat_format or endpoint.embeddings_format
            if wire_format is None:
                raise RuntimeError(f"{provider.provider_type} speaks no format")
            failure = wire_format.parse_error(response.status, response.headers, data, target)
            failure.message = explain_status(failure, response.status, provider, call.url)
            raise failure
        try:
            return endpoint.parse_check(data)
        except GatewayError as error:
            error.message = explain_answer(error, provider, call.url)
            raise
