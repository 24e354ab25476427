"""What can be asked of a model, as keyword arguments, and the request made from them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from aigateway.messages import user
from aigateway.v1.chat_service_pb2 import (
    AudioOutput,
    CreateChatCompletionRequest,
    GenerationConfig,
    ReasoningConfig,
    ReasoningEffort,
    ResponseFormat,
    StorageOptions,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from aigateway.v1.content_pb2 import ContentPart, Message
from aigateway.v1.embeddings_service_pb2 import (
    CreateEmbeddingsRequest,
    EmbeddingContent,
    EmbeddingEncoding,
    EmbeddingInput,
    EmbeddingTask,
)
from aigateway.v1.routing_pb2 import GatewayOptions
from aigateway.v1.usage_pb2 import Modality

#: A conversation: messages, oldest first, or the text of one user turn.
Conversation = str | Message | Iterable[Message]
#: Options for single providers, by provider type.
ProviderOptions = Mapping[str, Mapping[str, Any]]
#: One thing to embed: text, a part of a conversation such as a picture, or an input as it travels.
EmbeddingSource = str | ContentPart | EmbeddingInput


class ChatOptions(TypedDict, total=False):
    """Keyword arguments of everything that asks a model. None means the same as leaving it out."""

    max_output_tokens: int | None
    """The most tokens to write, reasoning included."""
    temperature: float | None
    """Randomness, from 0 to 2."""
    top_p: float | None
    """Nucleus sampling, from 0 to 1."""
    top_k: int | None
    """Sample from this many likeliest tokens."""
    stop_sequences: Sequence[str] | None
    """Stop before any of these."""
    seed: int | None
    """For repeatable sampling, where the provider can."""
    frequency_penalty: float | None
    """Penalty on tokens by how often they occurred, from -2 to 2."""
    presence_penalty: float | None
    """Penalty on tokens that occurred, from -2 to 2."""
    choice_count: int | None
    """How many answers. Default 1."""
    logprobs: bool | None
    """Return log probabilities."""
    top_logprobs: int | None
    """How many likeliest tokens to return for each place."""
    logit_bias: Mapping[int, float] | None
    """Bias by token id."""
    response_modalities: "Sequence[Modality.ValueType] | None"
    """What the model should write. Default text."""
    audio_output: AudioOutput | None
    """Voice and format when the model speaks."""
    tools: Iterable[Tool] | None
    """Tools the model may call; see ``function_tool``."""
    tool_choice: ToolChoice | Literal["auto", "none", "required"] | None
    """Whether it may, must or must not call them."""
    response_format: ResponseFormat | None
    """The form the answer must have; see ``json_schema_format``."""
    reasoning: ReasoningConfig | Literal["none", "minimal", "low", "medium", "high", "max"] | None
    """How much the model should think. A word asks for the reasoning as well, where the provider tells it."""
    gateway_options: GatewayOptions | None
    """How the gateway should treat this request."""
    provider_options: ProviderOptions | None
    """Options for single providers, by provider type."""
    end_user_id: str | None
    """A stable, private id for the end user."""
    labels: Mapping[str, str] | None
    """Free labels, kept on the usage record."""
    storage_options: StorageOptions | None
    """What a provider may keep or reuse of the request."""


def chat_request(
    model: str, messages: Conversation, **options: Unpack[ChatOptions]
) -> CreateChatCompletionRequest:
    """The request that ``client.chat.create`` and ``client.chat.stream`` send."""
    unknown = options.keys() - ChatOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: no such option of a chat completion")
    return CreateChatCompletionRequest(
        model=model,
        messages=list_messages(messages),
        generation_config=_generation_config(options),
        tools=options.get("tools"),
        tool_choice=_tool_choice(options.get("tool_choice")),
        response_format=options.get("response_format"),
        reasoning=_reasoning(options.get("reasoning")),
        gateway_options=options.get("gateway_options"),
        provider_options=provider_structs(options.get("provider_options")),
        end_user_id=options.get("end_user_id") or "",
        labels=options.get("labels"),
        storage_options=options.get("storage_options"),
    )


def embeddings_request(
    model: str,
    inputs: EmbeddingSource | Iterable[EmbeddingSource],
    *,
    dimensions: int | None = None,
    task: "EmbeddingTask.ValueType" = EmbeddingTask.EMBEDDING_TASK_UNSPECIFIED,
    encoding: "EmbeddingEncoding.ValueType" = EmbeddingEncoding.EMBEDDING_ENCODING_UNSPECIFIED,
    gateway_options: GatewayOptions | None = None,
    provider_options: ProviderOptions | None = None,
    end_user_id: str = "",
    labels: Mapping[str, str] | None = None,
) -> CreateEmbeddingsRequest:
    """The request that ``client.embeddings.create`` sends."""
    if isinstance(inputs, str | ContentPart | EmbeddingInput):
        inputs = [inputs]
    return CreateEmbeddingsRequest(
        model=model,
        inputs=map(_embedding_input, inputs),
        dimensions=dimensions,
        task=task,
        encoding=encoding,
        gateway_options=gateway_options,
        provider_options=provider_structs(provider_options),
        end_user_id=end_user_id,
        labels=labels,
    )


def list_messages(messages: Conversation) -> list[Message]:
    """A conversation as messages."""
    if isinstance(messages, str):
        return [user(messages)]
    return [messages] if isinstance(messages, Message) else list(messages)


def provider_structs(options: ProviderOptions | None) -> dict[str, Struct] | None:
    """Provider options as they travel."""
    if options is None:
        return None
    structs = {}
    for provider_type, values in options.items():
        structs[provider_type] = Struct()
        structs[provider_type].update(dict(values))
    return structs


def timestamp(time: datetime | None) -> Timestamp | None:
    """A time as it travels; raises ValueError for one without a time zone, which could mean any."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _generation_config(options: ChatOptions) -> GenerationConfig | None:
    config = GenerationConfig(
        max_output_tokens=options.get("max_output_tokens"),
        temperature=options.get("temperature"),
        top_p=options.get("top_p"),
        top_k=options.get("top_k"),
        stop_sequences=options.get("stop_sequences"),
        seed=options.get("seed"),
        frequency_penalty=options.get("frequency_penalty"),
        presence_penalty=options.get("presence_penalty"),
        choice_count=options.get("choice_count"),
        logprobs=options.get("logprobs") or False,
        top_logprobs=options.get("top_logprobs"),
        logit_bias=options.get("logit_bias"),
        response_modalities=options.get("response_modalities"),
        audio_output=options.get("audio_output"),
    )
    return config if config.ListFields() else None


def _tool_choice(choice: ToolChoice | str | None) -> ToolChoice | None:
    if isinstance(choice, str):
        return ToolChoice(mode=ToolChoiceMode.Value(f"TOOL_CHOICE_MODE_{choice.upper()}"))
    return choice


def _reasoning(reasoning: ReasoningConfig | str | None) -> ReasoningConfig | None:
    if isinstance(reasoning, str):
        effort = ReasoningEffort.Value(f"REASONING_EFFORT_{reasoning.upper()}")
        return ReasoningConfig(
            effort=effort, include_reasoning=effort != ReasoningEffort.REASONING_EFFORT_NONE
        )
    return reasoning


def _embedding_input(source: EmbeddingSource) -> EmbeddingInput:
    match source:
        case str():
            return EmbeddingInput(text=source)
        case ContentPart():
            return EmbeddingInput(content=EmbeddingContent(parts=[source]))
        case EmbeddingInput():
            return source
    raise TypeError(f"{type(source).__name__} cannot be embedded")
