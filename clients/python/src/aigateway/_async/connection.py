"""One channel and what every call on it has in common: key, deadline, errors, pages."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import cached_property
from typing import Final, Protocol, TypeVar

import grpc
import grpc.aio

from aigateway._async.stubs import AsyncStubs
from aigateway.channel import ChannelConfig
from aigateway.errors import GatewayError, error_of

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)
ItemT = TypeVar("ItemT")

AUTHORIZATION: Final = "authorization"


class AsyncStreamCall(Protocol[ResponseT_co]):
    """A streaming RPC under way."""

    def cancel(self) -> bool:
        """Ends it; returns whether it was still under way."""
        ...

    def __aiter__(self) -> AsyncIterator[ResponseT_co]: ...


class PageRequest(Protocol):
    """A request of a List method."""

    page_token: str


class PageResponse(Protocol):
    """An answer of a List method."""

    @property
    def next_page_token(self) -> str:
        """For the next page; empty on the last."""
        ...


PageRequestT = TypeVar("PageRequestT", bound=PageRequest)
PageResponseT = TypeVar("PageResponseT", bound=PageResponse)


class AsyncConnection:
    """Owns the channel, which is opened by the first call, so that a client can be made anywhere."""

    def __init__(
        self, config: ChannelConfig, *, api_key: str, timeout: float | None, metadata: Mapping[str, str]
    ) -> None:
        self._config = config
        self._closed = False
        self._timeout = timeout
        self._metadata = tuple(metadata.items())
        if api_key:
            self._metadata = ((AUTHORIZATION, f"Bearer {api_key}"), *self._metadata)

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """The channel; closed with the client."""
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._config.credentials is None:
            return grpc.aio.insecure_channel(self._config.target, options=self._config.options)
        return grpc.aio.secure_channel(
            self._config.target, self._config.credentials, options=self._config.options
        )

    @cached_property
    def stubs(self) -> AsyncStubs:
        """The generated stubs, on the channel."""
        return AsyncStubs(self.channel)

    async def close(self) -> None:
        """Ends calls under way and closes the channel, if there is one."""
        self._closed = True
        self.__dict__.pop("stubs", None)
        channel = self.__dict__.pop("channel", None)
        if channel is not None:
            await channel.close()

    def metadata(self, extra: Mapping[str, str] | None = None) -> tuple[tuple[str, str], ...]:
        """The metadata of a call: the key, what the client adds to every call, and ``extra``."""
        return (*self._metadata, *extra.items()) if extra else self._metadata

    def timeout(self, timeout: float | None) -> float | None:
        """The deadline of a call in seconds: its own, else the client's."""
        return self._timeout if timeout is None else timeout

    def error(self, failure: grpc.RpcError) -> GatewayError:
        """The exception for a failed call."""
        return error_of(failure, target=self._config.target)

    async def call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ResponseT:
        """Calls a unary RPC; raises GatewayError."""
        try:
            return await method(request, timeout=self.timeout(timeout), metadata=self.metadata(metadata))
        except grpc.RpcError as failure:
            raise self.error(failure) from None

    def stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncStreamCall[ResponseT]:
        """Starts a streaming RPC."""
        return method(request, timeout=self.timeout(timeout), metadata=self.metadata(metadata))

    async def pages(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[PageRequestT, PageResponseT]",
        request: PageRequestT,
        items: Callable[[PageResponseT], Iterable[ItemT]],
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[ItemT]:
        """Calls a List method again and again; ``items`` takes them out of one answer."""
        while True:
            response = await self.call(method, request, timeout=timeout)
            for item in items(response):
                yield item
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token
