"""A chat request as the body that is sent."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import (
    AudioOutput,
    CountTokensRequest,
    CreateChatCompletionRequest,
    GenerationConfig,
    ResponseFormat,
)
from aigateway.v1.usage_pb2 import Modality
from gateway_server.errors import invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.gemini.models import resource_name, traits_of
from gateway_server.providers.wire.gemini.reasoning import render_reasoning
from gateway_server.providers.wire.gemini.tools import render_tool_config, render_tools
from gateway_server.providers.wire.gemini.turns import render_turns
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.rendering import dump_body, json_number, json_object_text

_MAX_STOP_SEQUENCES: Final = 5
_JSON: Final = "application/json"
#: Raw samples, the one form in which the provider speaks.
_AUDIO_TYPES: Final = frozenset({"", "audio/l16", "audio/pcm"})

#: What provider_options may not set, and the field that does. The provider takes names in both spellings.
_RESERVED: Final = {
    "model": "model",
    "contents": "messages",
    "systemInstruction": "messages",
    "system_instruction": "messages",
    "generation_config": "generationConfig",
    "tool_config": "toolConfig",
    "generationConfig.candidateCount": "generation_config.choice_count",
    "generationConfig.candidate_count": "generation_config.choice_count",
    "generationConfig.maxOutputTokens": "generation_config.max_output_tokens",
    "generationConfig.max_output_tokens": "generation_config.max_output_tokens",
}
_KEYS: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_MODALITIES: Final = {
    Modality.MODALITY_TEXT: "TEXT",
    Modality.MODALITY_IMAGE: "IMAGE",
    Modality.MODALITY_AUDIO: "AUDIO",
}


def render_chat(request: CreateChatCompletionRequest, target: Target) -> bytes:
    """The body to send; raises FEATURE_NOT_SUPPORTED or INVALID_REQUEST before anything is."""
    context = RenderContext(target, traits_of(target.provider_model))
    body = render_turns(request.messages, context)
    if request.tools:
        body["tools"] = render_tools(request.tools, context)
    if (request.tools or request.HasField("tool_choice")) and (
        tool_config := render_tool_config(request, context)
    ):
        body["toolConfig"] = tool_config
    generation: JsonObject = {}
    if request.HasField("generation_config"):
        generation |= _render_generation(request.generation_config, context)
    if request.HasField("response_format"):
        generation |= _render_response_format(request.response_format)
    if request.HasField("reasoning") and (thinking := render_reasoning(request.reasoning, context)):
        generation["thinkingConfig"] = thinking
    if generation:
        body["generationConfig"] = generation
    _merge_options(body, request.provider_options, target)
    return dump_body(body)


def render_count(request: CountTokensRequest, target: Target) -> bytes:
    """The body that asks how many tokens a conversation has, tools and instructions included."""
    context = RenderContext(target, traits_of(target.provider_model))
    body: JsonObject = {"model": resource_name(target.provider_model)}
    body |= render_turns(request.messages, context)
    if request.tools:
        body["tools"] = render_tools(request.tools, context)
    _merge_options(body, request.provider_options, target)
    return dump_body({"generateContentRequest": body})


def _merge_options(body: JsonObject, options: Mapping[str, Struct], target: Target) -> None:
    merge_options(body, options, provider_type=target.provider_type, reserved=_RESERVED)


def _render_generation(config: GenerationConfig, context: RenderContext) -> JsonObject:
    rendered: JsonObject = {}
    if config.HasField("max_output_tokens"):
        rendered["maxOutputTokens"] = config.max_output_tokens
    for field in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        if config.HasField(field):
            rendered[_KEYS[field]] = json_number(getattr(config, field), f"generation_config.{field}")
    if config.HasField("top_k"):
        rendered["topK"] = config.top_k
    if config.HasField("choice_count"):
        rendered["candidateCount"] = config.choice_count
    if len(config.stop_sequences) > _MAX_STOP_SEQUENCES:
        raise context.unsupported(f"more than {_MAX_STOP_SEQUENCES} stop sequences")
    if config.stop_sequences:
        rendered["stopSequences"] = list(config.stop_sequences)
    if config.HasField("seed"):
        # A seed has 32 bits here; the same of ours is always the same of theirs.
        rendered["seed"] = (config.seed + 2**31) % 2**32 - 2**31
    if config.logprobs or config.HasField("top_logprobs"):
        rendered["responseLogprobs"] = True
    if config.HasField("top_logprobs"):
        rendered["logprobs"] = config.top_logprobs
    return rendered | _render_modalities(config, context)


def _render_modalities(config: GenerationConfig, context: RenderContext) -> JsonObject:
    rendered: JsonObject = {}
    if config.response_modalities:
        rendered["responseModalities"] = _name_modalities(config, context)
    if config.HasField("audio_output"):
        rendered["speechConfig"] = _render_speech(config.audio_output, context)
    return rendered


def _name_modalities(config: GenerationConfig, context: RenderContext) -> list[str]:
    names: list[str] = []
    for modality in config.response_modalities:
        if modality in _MODALITIES:
            names.append(_MODALITIES[modality])
        elif modality in Modality.values():
            name = Modality.Name(modality).removeprefix("MODALITY_").lower()
            raise context.unsupported(f"answers in {name}")
        else:
            raise invalid_request("generation_config.response_modalities", "holds an unknown modality")
    return names


def _render_speech(audio: AudioOutput, context: RenderContext) -> JsonObject:
    if audio.mime_type.partition(";")[0].strip().lower() not in _AUDIO_TYPES:
        raise context.unsupported(f"audio as {audio.mime_type}")
    if not audio.voice:
        return {}
    return {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": audio.voice}}}


def _render_response_format(response_format: ResponseFormat) -> JsonObject:
    match response_format.WhichOneof("kind"):
        case "text":
            return {}
        case "json_object":
            return {"responseMimeType": _JSON}
        case "json_schema":
            path = "response_format.json_schema.json_schema"
            schema = json_object_text(response_format.json_schema.json_schema, path)
            return {"responseMimeType": _JSON, "responseJsonSchema": schema}
        case _:
            raise invalid_request("response_format", "has no kind")
