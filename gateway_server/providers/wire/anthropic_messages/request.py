"""A chat request as the body that is sent, and as the body of a count."""

from collections.abc import Mapping
from typing import Final

import orjson
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import (
    CountTokensRequest,
    CreateChatCompletionRequest,
    GenerationConfig,
    JsonSchemaFormat,
    ResponseFormat,
)
from gateway_server.errors import invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE, RenderContext
from gateway_server.providers.wire.anthropic_messages.models import traits_of
from gateway_server.providers.wire.anthropic_messages.reasoning import NO_THINKING, Thinking, render_reasoning
from gateway_server.providers.wire.anthropic_messages.tools import render_choice, render_tools
from gateway_server.providers.wire.anthropic_messages.turns import render_turns
from gateway_server.providers.wire.conversation import require_one_text
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.rendering import dump_body, json_number, json_object_text

#: The limit of the output, which the provider requires, where neither the request nor the model tells one.
DEFAULT_MAX_TOKENS: Final = 4096

_MIN_TOP_P_OF_THINKING: Final = 0.95

#: Key of provider_options that goes into a header.
BETAS: Final = "betas"

#: What provider_options may not set, and the field that does.
_RESERVED: Final = {
    "model": "model",
    "messages": "messages",
    "system": "messages",
    "stream": "StreamChatCompletion",
    "max_tokens": "generation_config.max_output_tokens",
}
#: What a count takes of a request; it refuses the rest.
_COUNTED: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "cache_control",
        "context_management",
        "mcp_servers",
        "speed",
    }
)


def render_chat(request: CreateChatCompletionRequest, target: Target, *, stream: bool) -> bytes:
    """The body to send; raises FEATURE_NOT_SUPPORTED or INVALID_REQUEST before anything is."""
    context = RenderContext(target, traits_of(target.provider_model))
    limit = _find_limit(request.generation_config, target)
    thinking = NO_THINKING
    if request.HasField("reasoning"):
        thinking = render_reasoning(request.reasoning, limit, context)
    body: JsonObject = {
        "model": target.provider_model,
        "max_tokens": DEFAULT_MAX_TOKENS + thinking.budget if limit is None else limit,
        **render_turns(request.messages, context),
    }
    if request.HasField("generation_config"):
        body |= _render_generation(request.generation_config, thinking, context)
    if request.tools or request.HasField("tool_choice"):
        body |= _render_tools(request, thinking, context)
    if thinking.thinking is not None:
        body["thinking"] = thinking.thinking
    if thinking.effort is not None or request.HasField("response_format"):
        body |= _render_output_config(request, thinking, context)
    if request.end_user_id:
        body["metadata"] = {"user_id": request.end_user_id}
    if stream:
        body["stream"] = True
    _merge_options(body, request.provider_options)
    return dump_body(body)


def render_count(request: CountTokensRequest, target: Target) -> bytes:
    """The body of a count; raises as render_chat does."""
    context = RenderContext(target, traits_of(target.provider_model))
    body: JsonObject = {"model": target.provider_model, **render_turns(request.messages, context)}
    if request.tools:
        body["tools"] = render_tools(request.tools, context)
    _merge_options(body, request.provider_options)
    return dump_body({key: value for key, value in body.items() if key in _COUNTED})


def _merge_options(body: JsonObject, options: Mapping[str, Struct]) -> None:
    merge_options(body, options, provider_type=PROVIDER_TYPE, reserved=_RESERVED, headers=(BETAS,))


def _find_limit(config: GenerationConfig, target: Target) -> int | None:
    if config.HasField("max_output_tokens"):
        return config.max_output_tokens
    return target.model.max_output_tokens or None


def _render_generation(config: GenerationConfig, thinking: Thinking, context: RenderContext) -> JsonObject:
    """Seed, penalties and biases have no place here and are left out; they only steer the sampling."""
    require_one_text(config, context.unsupported)
    rendered = render_sampling(config, thinking, context)
    if config.stop_sequences:
        if not all(map(str.strip, config.stop_sequences)):
            raise context.unsupported("stop sequences of white space")
        rendered["stop_sequences"] = list(config.stop_sequences)
    return rendered


def render_sampling(config: GenerationConfig, thinking: Thinking, context: RenderContext) -> JsonObject:
    """The knobs that the model takes; while it thinks, nearly all of them are fixed."""
    rendered: JsonObject = {}
    traits = context.traits
    if config.HasField("temperature"):
        if config.temperature > 1:
            raise context.unsupported("a temperature above 1")
        temperature = json_number(config.temperature, "generation_config.temperature")
        if traits.sampling and (not thinking.is_on or temperature == 1):
            rendered["temperature"] = temperature
    if config.HasField("top_p"):
        top_p = json_number(config.top_p, "generation_config.top_p")
        is_taken = "temperature" not in rendered or traits.temperature_and_top_p
        if traits.sampling and is_taken and (not thinking.is_on or top_p >= _MIN_TOP_P_OF_THINKING):
            rendered["top_p"] = top_p
    if config.HasField("top_k") and traits.sampling and not thinking.is_on:
        rendered["top_k"] = config.top_k
    return rendered


def _render_tools(
    request: CreateChatCompletionRequest, thinking: Thinking, context: RenderContext
) -> JsonObject:
    rendered: JsonObject = {}
    tools = render_tools(request.tools, context)
    if tools:
        rendered["tools"] = tools
    if request.HasField("tool_choice"):
        choice = render_choice(request.tool_choice, tools, context)
        if choice is not None:
            if thinking.budget and choice["type"] in {"any", "tool"}:
                raise context.unsupported("a tool call that is demanded, together with a reasoning budget")
            rendered["tool_choice"] = choice
    return rendered


def _render_output_config(
    request: CreateChatCompletionRequest, thinking: Thinking, context: RenderContext
) -> JsonObject:
    rendered: JsonObject = {}
    if thinking.effort is not None:
        rendered["effort"] = thinking.effort
    if request.HasField("response_format"):
        wanted = _render_response_format(request.response_format, context)
        if wanted is not None:
            rendered["format"] = wanted
    return {"output_config": rendered} if rendered else {}


def _render_response_format(wanted: ResponseFormat, context: RenderContext) -> JsonObject | None:
    match wanted.WhichOneof("kind"):
        case "text":
            return None
        case "json_object":
            raise context.unsupported("JSON answers without a schema")
        case "json_schema":
            return {"type": "json_schema", "schema": _render_schema(wanted.json_schema)}
        case _:
            raise invalid_request("response_format", "has no kind")


def _render_schema(wanted: JsonSchemaFormat) -> JsonObject | orjson.Fragment:
    """The schema as it stands. It has no name here; its description goes into it where it has none."""
    path = "response_format.json_schema.json_schema"
    fragment = json_object_text(wanted.json_schema, path)
    if not wanted.description:
        return fragment
    schema: JsonObject = orjson.loads(wanted.json_schema)
    return fragment if "description" in schema else {"description": wanted.description, **schema}
