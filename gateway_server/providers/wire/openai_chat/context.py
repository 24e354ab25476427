"""For whom a request is rendered, and JSON text that goes into it as it stands."""

from dataclasses import dataclass

import orjson

from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.dialect import Dialect

#: One block of content: made here, or written by somebody else.
Block = JsonObject | orjson.Fragment


@dataclass(frozen=True, slots=True)
class RenderContext:
    """The model that is asked and the server that runs it."""

    target: Target
    dialect: Dialect

    def unsupported(self, feature: str) -> GatewayError:
        """The error for what this target cannot be asked."""
        return feature_not_supported(feature, model=self.target.label)


def json_object_text(text: str, path: str) -> orjson.Fragment:
    """JSON text that somebody else wrote, put into the body as it stands once it has been checked."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid_request(path, f"is not JSON: {error.msg} at position {error.pos}") from error
    if not isinstance(value, dict):
        raise invalid_request(path, "is not a JSON object")
    return orjson.Fragment(text)
