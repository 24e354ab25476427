"""What the transport takes besides an ``HttpCall``, and what it gives back."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits in seconds, each with an error of its own.

    ``pool`` bounds the wait for a free connection, ``connect`` name look-up to end of the TLS handshake,
    ``first_byte`` the time from sending to complete response headers, ``idle`` each pause within the
    body while somebody waits for it, ``total`` everything from the call to the end of the body.
    """

    connect: float
    first_byte: float
    idle: float
    total: float
    pool: float = 5.0


class Headers(Mapping[str, str]):
    """Response headers, found in any case, listed in lower case; equal names are joined by a comma."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[bytes, bytes]) -> None:
        """Takes names in lower case."""
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        return self._raw[name.lower().encode("latin-1", "replace")].decode("latin-1").rstrip()

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"  # names only: values may be secrets


class BodySource(Protocol):
    """The bytes of one body. Cancelling a wait closes the connection."""

    @property
    def is_ended(self) -> bool:
        """Whether the body has come to its proper end and all of it has been taken."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """Whether ``take`` can give anything: bytes are read while nobody waits for them."""
        ...

    def take(self) -> bytes:
        """What has arrived and not been taken, without waiting; empty when there is nothing."""
        ...

    async def next(self) -> bytes:
        """As ``take``, but waits for something; empty at the proper end only."""
        ...

    async def read_all(self) -> bytes:
        """The rest of the body."""
        ...

    async def aclose(self) -> None:
        """Lets go of the connection, closing it at once when the body has not come to its end."""
        ...


class HttpResponse:
    """A response whose headers have arrived. Whoever gets one closes it: ``async with`` or ``aclose()``."""

    __slots__ = ("_source", "headers", "status")

    def __init__(self, status: int, headers: Headers, source: BodySource) -> None:
        self.status = status
        self.headers = headers
        self._source = source

    @property
    def is_ended(self) -> bool:
        """Whether the body has come to its proper end and all of it has been given out.

        May still be False when only the end itself is left to be seen.
        """
        return self._source.is_ended

    @property
    def reads_ahead(self) -> bool:
        """Whether waiting lets more arrive, for ``take_available`` to give."""
        return self._source.reads_ahead

    async def read(self) -> bytes:
        """The rest of the body, decoded; raises TransportError when it is cut, late or too large."""
        return await self._source.read_all()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, decoded, as it arrives; what arrived since the last piece comes as one piece.

        Ends at the proper end of the body only; otherwise raises TransportError, after giving out the
        bytes that did arrive.
        """
        while data := await self._source.next():
            yield data

    def take_available(self) -> bytes:
        """What has arrived, decoded, without waiting; empty when there is nothing yet, or no more.

        For a reader that sends on together what is there but must not wait for more. Raises
        TransportError when the body failed.
        """
        return self._source.take()

    async def aclose(self) -> None:
        """Ends the exchange; when the body was not read to its end the connection is closed at once."""
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._source.aclose()
