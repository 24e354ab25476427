"""A look whether a provider can be used: address, TLS, credential, and which models it offers."""

import asyncio
import time
from typing import Final

from aigateway.v1.admin_service_pb2 import CheckProviderResponse
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError
from gateway_server.providers.base import BuildEndpoint, Target
from gateway_server.providers.failures import error_of_transport
from gateway_server.providers.transport import Timeouts, Transport, TransportError

_TIMEOUTS: Final = Timeouts(connect=5, first_byte=10, idle=10, total=15)
_MAX_RESPONSE_BYTES: Final = 8 * 2**20
_MAX_MODELS: Final = 1000


class ProviderChecker:
    """Asks providers for their list of models, the cheapest call that needs the credential."""

    def __init__(self, transport: Transport, build_endpoint: BuildEndpoint) -> None:
        self._transport = transport
        self._build_endpoint = build_endpoint

    async def check(self, provider: Provider) -> CheckProviderResponse:
        """What came of it; a provider that cannot be used is an answer, not an exception."""
        started_at = time.monotonic()
        response = CheckProviderResponse()
        try:
            models = await self._list_models(provider)
        except GatewayError as error:
            response.error_reason = error.reason_name
            response.error_message = error.message
        else:
            response.healthy = True
            response.provider_models.extend(models[:_MAX_MODELS])
        response.latency.FromNanoseconds(round((time.monotonic() - started_at) * 1e9))
        return response

    async def _list_models(self, provider: Provider) -> list[str]:
        provider_id = provider.name.rpartition("/")[2]
        target = Target(
            provider_id=provider_id, provider_type=provider.provider_type, provider_model="", model=Model()
        )
        # In a thread: the credential may be in a file.
        endpoint = await asyncio.to_thread(self._build_endpoint, provider)
        try:
            response = await self._transport.send(
                endpoint.check_call(), timeouts=_TIMEOUTS, max_response_bytes=_MAX_RESPONSE_BYTES
            )
            async with response:
                data = await response.read()
        except TransportError as error:
            raise error_of_transport(error, target) from None
        if response.status != 200:
            wire_format = endpoint.chat_format or endpoint.embeddings_format
            if wire_format is None:
                raise RuntimeError(f"{provider.provider_type} speaks no format")
            raise wire_format.parse_error(response.status, response.headers, data, target)
        return endpoint.parse_check(data)
