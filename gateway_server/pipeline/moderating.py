"""Providers that judge for guardrails whether texts are harmful, asked as calls ask theirs."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.metrics import Metrics
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.providers.base import (
    Endpoint,
    ModerationEndpoint,
    ModerationFormat,
    ModerationVerdict,
    Target,
)
from gateway_server.providers.check import OpenEndpoint
from gateway_server.providers.failures import error_of_transport
from gateway_server.providers.transport import TransportError
from gateway_server.resource_names import parse_provider
from gateway_server.router.router import Router

#: How much one request asks about: texts, and bytes of them together.
_MOST_TEXTS: Final = 32
_MOST_BYTES: Final = 100_000
#: How much may be said of each text, in bytes: OpenAI says about 2 kB. It is parsed on the event loop.
_MOST_BYTES_SAID: Final = 16_384


class ProviderModerator:
    """Asks the providers of the catalog; implements guardrails.detectors.Moderator."""

    def __init__(
        self,
        router: Router,
        upstream: Upstream,
        metrics: Metrics,
        *,
        get_provider: Callable[[str], Awaitable[Provider]],
        open_endpoint: OpenEndpoint,
    ) -> None:
        """``get_provider`` gives the provider with an id as it is stored, or raises RESOURCE_NOT_FOUND."""
        self._router = router
        self._upstream = upstream
        self._metrics = metrics
        self._get_provider = get_provider
        self._open_endpoint = open_endpoint

    async def moderate(
        self, texts: Sequence[str], *, provider: str, provider_model: str, timeout: float
    ) -> Sequence[ModerationVerdict]:
        """As in Moderator; many texts in several requests, one after another."""
        endpoint, provider_type = self._router.catalog.endpoints.get(provider, (None, ""))
        moderating = _moderating(endpoint)
        if moderating is None:
            raise GatewayError(
                ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND,
                f"{provider} is not there, switched off, or of a type that judges no texts",
                metadata={"name": provider},
            )
        target = Target(provider.partition("/")[2], provider_type, provider_model, Model())
        ends_at = time.monotonic() + timeout
        verdicts: list[ModerationVerdict] = []
        for portion in _portions(texts):
            outcome = "cancelled"
            try:
                verdicts += await self._ask(moderating, target, portion, ends_at - time.monotonic())
                outcome = "ok"
            except GatewayError as error:
                outcome = error.reason_name.lower()
                if error.reason == ErrorReason.ERROR_REASON_UPSTREAM_TIMEOUT:
                    raise TimeoutError from None
                raise
            finally:
                self._metrics.count_moderation_request(provider, outcome)
        return verdicts

    async def require(self, provider: str, field: str) -> None:
        """As in Moderator."""
        try:
            found = await self._get_provider(parse_provider(provider, field))
        except GatewayError as error:
            if error.reason != ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND:
                raise
            raise invalid_request(field, f"{provider} does not exist") from None
        if _moderating(await self._open_endpoint(found)) is None:
            raise invalid_request(field, f"is of the type {found.provider_type}, which judges no texts")

    async def _ask(
        self, moderating: "_Moderating", target: Target, texts: Sequence[str], seconds: float
    ) -> list[ModerationVerdict]:
        """What is said of each text; raises GatewayError."""
        endpoint, moderation_format = moderating
        call = endpoint.moderation_call(target, moderation_format.render_moderation(texts, target))
        try:
            most_bytes = len(texts) * _MOST_BYTES_SAID
            async with await self._upstream.send_within(call, seconds, most_bytes=most_bytes) as response:
                if response.status != 200:
                    data = await read_error_body(response)
                    raise moderation_format.parse_error(response.status, response.headers, data, target)
                data = await response.read()
        except TransportError as error:
            raise error_of_transport(error, target) from None
        return moderation_format.parse_moderation(data, len(texts), target)


_Moderating = tuple[ModerationEndpoint, ModerationFormat]


def _moderating(endpoint: Endpoint | None) -> _Moderating | None:
    """The endpoint with its format, if its provider judges texts."""
    if not isinstance(endpoint, ModerationEndpoint) or endpoint.moderation_format is None:
        return None
    return endpoint, endpoint.moderation_format


def _portions(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts for one request after another; unpaired surrogates, which cannot be sent, are replaced."""
    portion: list[str] = []
    size = 0
    for text in texts:
        encoded = text.encode(errors="replace")
        if portion and (len(portion) == _MOST_TEXTS or size + len(encoded) > _MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(encoded.decode())
        size += len(encoded)
    if portion:
        yield portion
