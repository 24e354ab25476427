"""A quick look that tells most chat requests valid, so that they need not pay for a full validation.

protovalidate takes some 8 us for each message of a conversation. This takes less than one, and knows only
the plainest rules: whatever it is not sure of goes to protovalidate. A property test holds it to that.
"""

from typing import Final

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest, GenerationConfig
from aigateway.v1.content_pb2 import ContentPart, Message, Role

_MAX_NAME: Final = 256
_ROLES: Final = frozenset(Role.values()) - {Role.ROLE_UNSPECIFIED}
#: Fields that are looked at here, or that have no rules.
_KNOWN_FIELDS: Final = frozenset({"model", "messages", "generation_config", "tool_choice", "end_user_id"})
_KNOWN_CONFIG_FIELDS: Final = frozenset({"max_output_tokens", "temperature", "top_p", "seed"})


def is_plainly_valid(request: CreateChatCompletionRequest) -> bool:
    """True only for requests that break no rule; False says nothing."""
    return (
        len(request.model) <= _MAX_NAME
        and len(request.end_user_id) <= _MAX_NAME
        and bool(request.messages)
        and all(field.name in _KNOWN_FIELDS for field, _ in request.ListFields())
        and all(_is_plain_turn(message) for message in request.messages)
        and (not request.HasField("generation_config") or _is_plain_config(request.generation_config))
    )


def _is_plain_turn(message: Message) -> bool:
    return (
        message.role in _ROLES
        and not message.author
        and bool(message.parts)
        and all(_is_plain_part(part) for part in message.parts)
    )


def _is_plain_part(part: ContentPart) -> bool:
    match part.WhichOneof("kind"):
        case "text" | "reasoning" | "refusal" | "tool_call":
            return True
        case "tool_result":
            result = part.tool_result
            return bool(result.tool_call_id) and all(_is_plain_part(each) for each in result.parts)
        case _:
            return False


def _is_plain_config(config: GenerationConfig) -> bool:
    return (
        all(field.name in _KNOWN_CONFIG_FIELDS for field, _ in config.ListFields())
        and (not config.HasField("max_output_tokens") or config.max_output_tokens > 0)
        and 0 <= config.temperature <= 2
        and 0 <= config.top_p <= 1
    )
