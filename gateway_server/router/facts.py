"""What routing has to know of a request: what it needs of a model, how long it is, how it is to be sent."""

from collections.abc import Iterator
from functools import cached_property
from typing import Final, Protocol

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest, ReasoningEffort
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.model_pb2 import ModelCapability
from aigateway.v1.routing_pb2 import GatewayOptions
from aigateway.v1.usage_pb2 import Modality, UsageState
from gateway_server.usage.estimate import estimate_embeddings_usage, estimate_input_tokens

Capabilities = frozenset[ModelCapability.ValueType]
Modalities = frozenset[Modality.ValueType]

_MODALITY_BY_PART: Final = {
    "image": Modality.MODALITY_IMAGE,
    "audio": Modality.MODALITY_AUDIO,
    "video": Modality.MODALITY_VIDEO,
    "document": Modality.MODALITY_DOCUMENT,
}
_NO_OPTIONS: Final = GatewayOptions()

_Request = CreateChatCompletionRequest | CountTokensRequest | CreateEmbeddingsRequest


class RequestFacts(Protocol):
    """What routing asks of a request. Properties that take work are worked out when they are asked for."""

    model: str
    options: GatewayOptions
    end_user_id: str
    streams: bool
    #: Tokens of output that the request allows for each answer; 0 when it does not tell.
    max_output_tokens: int
    #: How many answers it wants.
    choices: int
    #: Whether another model could stand in: vectors of different models cannot be compared.
    any_model_will_do: bool

    @property
    def capability(self) -> ModelCapability.ValueType:
        """The kind of service."""
        ...

    @property
    def needs(self) -> Capabilities:
        """What the model must be able to do, ``capability`` among it."""
        ...

    @property
    def modalities(self) -> Modalities:
        """What it must read, besides text."""
        ...

    @property
    def input_tokens(self) -> int:
        """About how much it has to read."""
        ...


class ChatFacts:
    """The facts of a conversation."""

    any_model_will_do = True
    capability: ModelCapability.ValueType = ModelCapability.MODEL_CAPABILITY_CHAT

    def __init__(self, request: CreateChatCompletionRequest, *, streams: bool) -> None:
        self._request = request
        self.model = request.model
        self.end_user_id = request.end_user_id
        self.options = _options_of(request)
        self.streams = streams
        self.max_output_tokens = request.generation_config.max_output_tokens
        self.choices = max(request.generation_config.choice_count, 1)

    @cached_property
    def needs(self) -> Capabilities:
        """What it needs of a model."""
        return frozenset(self._needs())

    @cached_property
    def modalities(self) -> Modalities:
        """What the model must read, besides text."""
        kinds = {part.WhichOneof("kind") for message in self._request.messages for part in message.parts}
        return frozenset(_MODALITY_BY_PART[kind] for kind in kinds if kind in _MODALITY_BY_PART)

    @cached_property
    def input_tokens(self) -> int:
        """About how much there is to read."""
        return estimate_input_tokens(self._request.messages, self._request.tools)

    def _needs(self) -> Iterator[ModelCapability.ValueType]:
        request, config = self._request, self._request.generation_config
        yield self.capability
        if request.tools:
            yield ModelCapability.MODEL_CAPABILITY_TOOLS
        if request.response_format.HasField("json_schema"):
            yield ModelCapability.MODEL_CAPABILITY_JSON_SCHEMA
        if _wants_reasoning(request):
            yield ModelCapability.MODEL_CAPABILITY_REASONING
        if config.logprobs or config.HasField("top_logprobs"):
            yield ModelCapability.MODEL_CAPABILITY_LOGPROBS
        if self.choices > 1:
            yield ModelCapability.MODEL_CAPABILITY_MULTIPLE_CHOICES


class CountFacts:
    """The facts of a conversation whose tokens are to be counted; whatever counts them will do."""

    any_model_will_do = False
    capability: ModelCapability.ValueType = ModelCapability.MODEL_CAPABILITY_CHAT
    needs: Capabilities = frozenset({ModelCapability.MODEL_CAPABILITY_CHAT})
    modalities: Modalities = frozenset()
    end_user_id = ""
    streams = False
    max_output_tokens = 0
    choices = 1

    def __init__(self, request: CountTokensRequest) -> None:
        self._request = request
        self.model = request.model
        self.options = _options_of(request)

    @cached_property
    def input_tokens(self) -> int:
        """About how much there is to read."""
        return estimate_input_tokens(self._request.messages, self._request.tools)


class EmbeddingsFacts:
    """The facts of texts to embed."""

    any_model_will_do = False
    capability: ModelCapability.ValueType = ModelCapability.MODEL_CAPABILITY_EMBEDDINGS
    needs: Capabilities = frozenset({ModelCapability.MODEL_CAPABILITY_EMBEDDINGS})
    modalities: Modalities = frozenset()
    streams = False
    max_output_tokens = 0
    choices = 1

    def __init__(self, request: CreateEmbeddingsRequest) -> None:
        self._request = request
        self.model = request.model
        self.end_user_id = request.end_user_id
        self.options = _options_of(request)

    @cached_property
    def input_tokens(self) -> int:
        """About how much there is to read."""
        return estimate_embeddings_usage(self._request, UsageState.USAGE_STATE_ESTIMATED).input_tokens


def _options_of(request: _Request) -> GatewayOptions:
    return request.gateway_options if request.HasField("gateway_options") else _NO_OPTIONS


def _wants_reasoning(request: CreateChatCompletionRequest) -> bool:
    match request.reasoning.WhichOneof("control"):
        case "effort":
            return request.reasoning.effort not in (
                ReasoningEffort.REASONING_EFFORT_UNSPECIFIED,
                ReasoningEffort.REASONING_EFFORT_NONE,
            )
        case "budget_tokens":
            return request.reasoning.budget_tokens > 0
        case _:
            return False
