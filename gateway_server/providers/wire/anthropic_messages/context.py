"""For whom a request is rendered, and what is counted over all of it."""

from dataclasses import dataclass, field
from typing import Final

from aigateway.v1.content_pb2 import CacheControl
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages.models import ModelTraits
from gateway_server.providers.wire.json_values import JsonObject

#: Key of provider_options and of provider parts.
PROVIDER_TYPE: Final = "anthropic"

_MAX_CACHE_MARKS: Final = 4
_FIVE_MINUTES: Final = 300
_ONE_HOUR: Final = 3600


@dataclass(slots=True)
class RenderContext:
    """The model that is asked, and the cache marks used so far."""

    target: Target
    traits: ModelTraits
    cache_marks: int = field(default=0, init=False)

    def unsupported(self, feature: str) -> GatewayError:
        """The error for what this target cannot be asked."""
        return feature_not_supported(feature, model=self.target.label)

    def render_cache_control(self, control: CacheControl, path: str) -> JsonObject:
        """A cache mark. There are two lifetimes; the shorter that is long enough is asked for."""
        self.cache_marks += 1
        if self.cache_marks > _MAX_CACHE_MARKS:
            raise self.unsupported(f"more than {_MAX_CACHE_MARKS} cache marks")
        if not control.HasField("ttl"):
            return {"type": "ephemeral"}
        seconds = control.ttl.seconds + control.ttl.nanos / 1e9
        if seconds <= 0:
            raise invalid_request(f"{path}.cache_control.ttl", "is not a positive duration")
        if seconds > _ONE_HOUR:
            raise self.unsupported("caches that live longer than an hour")
        return {"type": "ephemeral", "ttl": "5m" if seconds <= _FIVE_MINUTES else "1h"}
