"""For whom a request is rendered, and what is counted over all of it."""

from dataclasses import dataclass, field
from typing import Final

from aigateway.v1.content_pb2 import CacheControl
from gateway_server.errors import GatewayError, feature_not_supported
from gateway_server.providers.base import Target
from gateway_server.providers.wire.bedrock_converse.models import ModelTraits
from gateway_server.providers.wire.cache_marks import CacheMarks
from gateway_server.providers.wire.json_values import JsonObject

#: Key of provider_options and of provider parts.
PROVIDER_TYPE: Final = "bedrock"


@dataclass(slots=True)
class RenderContext:
    """The model that is asked, and the names of documents and the cache marks used so far."""

    target: Target
    traits: ModelTraits
    cache_marks: CacheMarks = field(default_factory=CacheMarks, init=False)
    document_names: set[str] = field(default_factory=set, init=False)
    #: Whether a turn holds a call of a tool or its result; known once the turns have been rendered.
    has_tool_turns: bool = field(default=False, init=False)

    def unsupported(self, feature: str) -> GatewayError:
        """The error for what this target cannot be asked."""
        return feature_not_supported(feature, model=self.target.label)

    def render_cache_point(self, control: CacheControl, path: str) -> list[JsonObject]:
        """A block that marks the end of a prefix; none for a model that has no cache to mark for."""
        if not self.traits.cache_points:
            return []
        lifetime = self.cache_marks.take(control, path, self.unsupported)
        return [{"cachePoint": {"type": "default", **({"ttl": lifetime} if lifetime else {})}}]
