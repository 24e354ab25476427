"""The most tokens that a call can use, and the most that those can cost."""

from dataclasses import dataclass
from typing import Final

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.model_pb2 import Model
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.usage.estimate import estimate_embeddings_usage, estimate_input_tokens


@dataclass(frozen=True, slots=True)
class TokenCeiling:
    """The most that an attempt can read, and write unless it is limited further; in tokens."""

    input_tokens: int
    output_tokens: int


NOTHING: Final = TokenCeiling(0, 0)


def chat_ceiling(request: CreateChatCompletionRequest, model: Model) -> TokenCeiling:
    """The ceiling of one attempt at a conversation."""
    return TokenCeiling(
        estimate_input_tokens(request.messages, request.tools),
        request.generation_config.max_output_tokens or model.max_output_tokens,
    )


def embeddings_ceiling(request: CreateEmbeddingsRequest, model: Model) -> TokenCeiling:
    """The ceiling of one attempt at embeddings."""
    tokens = estimate_embeddings_usage(request, UsageState.USAGE_STATE_ESTIMATED).input_tokens
    return TokenCeiling(min(tokens, model.context_window_tokens or tokens), 0)
