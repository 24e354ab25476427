"""A chat request as the body that is sent."""

from hashlib import sha256
from typing import Final

import orjson

from aigateway.v1.chat_service_pb2 import (
    AudioOutput,
    CreateChatCompletionRequest,
    GenerationConfig,
    ReasoningConfig,
    ReasoningEffort,
)
from aigateway.v1.usage_pb2 import Modality
from gateway_server.errors import invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.context import RenderContext
from gateway_server.providers.wire.openai_chat.dialect import Dialect
from gateway_server.providers.wire.openai_chat.messages import render_messages
from gateway_server.providers.wire.openai_chat.tools import render_response_format, render_tools
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.rendering import json_number

_MAX_SAFETY_IDENTIFIER: Final = 64

#: What provider_options may not set, and the field that does.
_RESERVED: Final = {
    "model": "model",
    "messages": "messages",
    "stream": "StreamChatCompletion",
    "stream_options.include_usage": "StreamChatCompletion, which always asks for usage",
    "n": "generation_config.choice_count",
    "max_tokens": "generation_config.max_output_tokens",
    "max_completion_tokens": "generation_config.max_output_tokens",
}
_EFFORTS: Final = {
    ReasoningEffort.REASONING_EFFORT_NONE: "none",
    ReasoningEffort.REASONING_EFFORT_MINIMAL: "minimal",
    ReasoningEffort.REASONING_EFFORT_LOW: "low",
    ReasoningEffort.REASONING_EFFORT_MEDIUM: "medium",
    ReasoningEffort.REASONING_EFFORT_HIGH: "high",
    ReasoningEffort.REASONING_EFFORT_MAX: "max",
}
_AUDIO_FORMATS: Final = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/flac": "flac",
    "audio/aac": "aac",
    "audio/opus": "opus",
    "audio/ogg": "opus",
    "audio/pcm": "pcm16",
    "audio/l16": "pcm16",
}


def render_chat(
    request: CreateChatCompletionRequest, target: Target, *, dialect: Dialect, stream: bool
) -> bytes:
    """The body to send; raises FEATURE_NOT_SUPPORTED or INVALID_REQUEST before anything is."""
    context = RenderContext(target, dialect)
    body: JsonObject = {
        "model": target.provider_model,
        "messages": render_messages(request.messages, context),
    }
    if request.HasField("generation_config"):
        body |= _render_generation(request.generation_config, context)
    if request.tools or request.HasField("tool_choice"):
        body |= render_tools(request, context)
    if request.HasField("response_format"):
        body["response_format"] = render_response_format(request.response_format)
    if request.HasField("reasoning"):
        body |= _render_reasoning(request.reasoning, context)
    if request.end_user_id:
        body[dialect.end_user_key] = _render_end_user(request.end_user_id, dialect)
    if dialect.storage and request.HasField("storage_options"):
        if request.storage_options.HasField("store"):
            body["store"] = request.storage_options.store
        if request.storage_options.prompt_cache_key:
            body["prompt_cache_key"] = request.storage_options.prompt_cache_key
    if stream:
        body["stream"] = True
        if dialect.stream_options:
            body["stream_options"] = {"include_usage": True}
    merge_options(body, request.provider_options, provider_type=dialect.provider_type, reserved=_RESERVED)
    return orjson.dumps(body)


def _render_generation(config: GenerationConfig, context: RenderContext) -> JsonObject:
    dialect = context.dialect
    rendered: JsonObject = {}
    if config.HasField("max_output_tokens"):
        rendered[dialect.output_limit_key] = config.max_output_tokens
    for field in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        if config.HasField(field):
            rendered[field] = json_number(getattr(config, field), f"generation_config.{field}")
    if config.HasField("top_k") and dialect.top_k:
        rendered["top_k"] = config.top_k
    if config.stop_sequences:
        if dialect.max_stop_sequences is not None and len(config.stop_sequences) > dialect.max_stop_sequences:
            raise context.unsupported(f"more than {dialect.max_stop_sequences} stop sequences")
        rendered["stop"] = list(config.stop_sequences)
    if config.HasField("seed"):
        rendered["seed"] = config.seed
    if config.HasField("choice_count"):
        rendered["n"] = config.choice_count
    if config.logprobs or config.HasField("top_logprobs"):
        rendered["logprobs"] = True
    if config.HasField("top_logprobs"):
        rendered["top_logprobs"] = config.top_logprobs
    if config.logit_bias:
        rendered["logit_bias"] = {
            str(token): json_number(bias, f"generation_config.logit_bias[{token}]")
            for token, bias in config.logit_bias.items()
        }
    return rendered | _render_modalities(config, context)


def _render_modalities(config: GenerationConfig, context: RenderContext) -> JsonObject:
    rendered: JsonObject = {}
    names: list[str] = []
    for modality in config.response_modalities:
        if modality == Modality.MODALITY_TEXT:
            names.append("text")
        elif modality == Modality.MODALITY_AUDIO and context.dialect.audio_output:
            names.append("audio")
        elif modality in Modality.values():
            raise context.unsupported(
                f"answers in {Modality.Name(modality).removeprefix('MODALITY_').lower()}"
            )
        else:
            raise invalid_request("generation_config.response_modalities", "holds an unknown modality")
    # Text alone is what every model writes; servers without sound do not know the key.
    if names and context.dialect.audio_output:
        rendered["modalities"] = names
    if config.HasField("audio_output"):
        rendered["audio"] = _render_audio_output(config.audio_output, context)
    return rendered


def _render_audio_output(audio: AudioOutput, context: RenderContext) -> JsonObject:
    if not context.dialect.audio_output:
        raise context.unsupported("answers in audio")
    mime_type = audio.mime_type.partition(";")[0].strip().lower()
    if mime_type not in _AUDIO_FORMATS:
        raise context.unsupported(f"audio as {audio.mime_type or 'a type that is not named'}")
    return {"voice": audio.voice, "format": _AUDIO_FORMATS[mime_type]}


def _render_reasoning(reasoning: ReasoningConfig, context: RenderContext) -> JsonObject:
    """Whether the thought comes back is the server's choice: the format has no key to ask for it."""
    match reasoning.WhichOneof("control"):
        case "effort":
            if reasoning.effort == ReasoningEffort.REASONING_EFFORT_UNSPECIFIED:
                return {}
            if reasoning.effort not in _EFFORTS:
                raise invalid_request("reasoning.effort", "is not an effort")
            return {"reasoning_effort": _EFFORTS[reasoning.effort]}
        case "budget_tokens":
            if reasoning.budget_tokens == 0:
                return {"reasoning_effort": "none"}
            raise context.unsupported("a reasoning budget in tokens")
        case _:
            return {}


def _render_end_user(end_user_id: str, dialect: Dialect) -> str:
    """Ids too long for OpenAI's field go as their SHA-256: as stable, and as private as it asks for."""
    if dialect.end_user_key == "safety_identifier" and len(end_user_id) > _MAX_SAFETY_IDENTIFIER:
        return sha256(end_user_id.encode()).hexdigest()
    return end_user_id
