# Made from _async by tools/make_sync.py: edit there, then run it.
"""The client itself."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import grpc

from aigateway._sync.admin import Admin
from aigateway._sync.chat import Chat
from aigateway._sync.connection import Connection
from aigateway._sync.embeddings import Embeddings
from aigateway._sync.stubs import Stubs
from aigateway._sync.usage import Usage
from aigateway.channel import DEFAULT_TIMEOUT, Tls, configure_channel, resolve_api_key


class Client:
    """A connection to a gateway, for as many calls at a time as you like.

    ``target`` is host:port; default AIGW_TARGET, else localhost:50051. ``api_key`` is by default
    AIGW_API_KEY. The connection is in plain text when the target is on this machine, and secured by TLS
    when it is not; ``tls`` says how, and ``insecure=True`` asks for plain text all the same: the key then
    travels unprotected. ``timeout`` in seconds bounds every call that has none of its own; None: not at
    all. ``max_attempts``, 1 to 5, bounds how often a read or a question to a model is sent when the
    gateway is unavailable; anything else is sent once. ``metadata`` is sent with every call.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        max_attempts: int = 4,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        config = configure_channel(target, tls=tls, insecure=insecure, max_attempts=max_attempts)
        self._connection = Connection(
            config, api_key=resolve_api_key(api_key), timeout=timeout, metadata=metadata or {}
        )
        self.chat = Chat(self._connection)
        self.embeddings = Embeddings(self._connection)
        self.admin = Admin(self._connection)
        self.usage = Usage(self._connection)

    @property
    def channel(self) -> grpc.Channel:
        """The gRPC channel, opened by the first use."""
        return self._connection.channel

    @property
    def stubs(self) -> Stubs:
        """The generated stubs. Pass ``metadata=client.metadata``: it holds the key."""
        return self._connection.stubs

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call, the key included."""
        return self._connection.metadata()

    def close(self) -> None:
        """Closes the connection. Calls under way end with an error."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
