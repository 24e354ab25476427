"""Marks at the end of a prefix to cache, as Claude's makers and those who run its models take them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from aigateway.v1.content_pb2 import CacheControl
from gateway_server.errors import GatewayError, invalid_request

_MAX_MARKS: Final = 4
_FIVE_MINUTES: Final = 300
_ONE_HOUR: Final = 3600


@dataclass(slots=True)
class CacheMarks:
    """Counts the marks of one request."""

    count: int = field(default=0, init=False)

    def take(
        self, control: CacheControl, path: str, unsupported: Callable[[str], GatewayError]
    ) -> Literal["5m", "1h"] | None:
        """The lifetime of one more mark, None for the default. The shorter that is long enough is taken."""
        self.count += 1
        if self.count > _MAX_MARKS:
            raise unsupported(f"more than {_MAX_MARKS} cache marks")
        if not control.HasField("ttl"):
            return None
        seconds = control.ttl.seconds + control.ttl.nanos / 1e9
        if seconds <= 0:
            raise invalid_request(f"{path}.cache_control.ttl", "is not a positive duration")
        if seconds > _ONE_HOUR:
            raise unsupported("caches that live longer than an hour")
        return "5m" if seconds <= _FIVE_MINUTES else "1h"
