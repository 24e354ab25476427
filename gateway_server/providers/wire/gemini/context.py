"""For whom a request is rendered."""

from dataclasses import dataclass

from gateway_server.errors import GatewayError, feature_not_supported
from gateway_server.providers.base import Target
from gateway_server.providers.wire.gemini.models import ModelTraits


@dataclass(frozen=True, slots=True)
class RenderContext:
    """The model that is asked, and what it takes."""

    target: Target
    traits: ModelTraits

    def unsupported(self, feature: str) -> GatewayError:
        """The error for what this target cannot be asked."""
        return feature_not_supported(feature, model=self.target.label)
