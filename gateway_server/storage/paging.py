"""Pages of a list, newest first, and the tokens that continue it.

A token holds the place where the last page ended, so pages stay whole while rows come and go. It is bound
to the list it came from: with another parent or filter it is refused. It is checked, not signed, because it
carries no right: the next query is limited to what its caller may see, whatever the token says.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import orjson

from gateway_server.errors import GatewayError, invalid_request

T = TypeVar("T")

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000

_VERSION: Final = b"\x01"
_CHECK_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted, as the request says it. ``page_size`` 0 means the default."""

    page_size: int = 0
    page_token: str = ""

    @property
    def limit(self) -> int:
        """How many items the page may hold; raises INVALID_REQUEST."""
        if self.page_size < 0:
            raise invalid_request("page_size", "must not be negative")
        return min(self.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items and where to go on; the token is empty on the last page."""

    items: tuple[T, ...]
    next_page_token: str = ""


#: A place in an ordered list: the values of what it is ordered by.
Cursor = tuple[str | int, ...]


def encode_page_token(cursor: Cursor, query: Cursor) -> str:
    """A token for what comes after ``cursor`` in the list that ``query`` stands for."""
    place = orjson.dumps(cursor)
    return base64.urlsafe_b64encode(_VERSION + _check(place, query) + place).rstrip(b"=").decode()


def decode_page_token(token: str, query: Cursor, shape: tuple[type, ...]) -> Cursor | None:
    """The place where the page before ended, None for the first page; raises INVALID_REQUEST.

    ``shape`` are the types that the place must have.
    """
    if not token:
        return None
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise _refused() from None
    version, check, place = raw[:1], raw[1 : 1 + _CHECK_BYTES], raw[1 + _CHECK_BYTES :]
    if version != _VERSION or check != _check(place, query):
        raise _refused()
    try:
        cursor = orjson.loads(place)
    except orjson.JSONDecodeError:
        raise _refused() from None
    if not isinstance(cursor, list) or tuple(map(type, cursor)) != shape or not all(map(_is_kept, cursor)):
        raise _refused()
    return tuple(cursor)


def _is_kept(value: str | int) -> bool:
    """Whether every database can hold such a value: PostgreSQL has no NUL, and no column has more bits."""
    return "\0" not in value if isinstance(value, str) else -(2**63) <= value < 2**63


def _check(place: bytes, query: Cursor) -> bytes:
    return hashlib.sha256(_VERSION + orjson.dumps(query) + b"\0" + place).digest()[:_CHECK_BYTES]


def _refused() -> GatewayError:
    return invalid_request(
        "page_token", "is not one that this list gave out, or another field of the request has changed since"
    )
