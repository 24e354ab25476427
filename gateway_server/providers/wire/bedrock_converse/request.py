"""A chat request as the body that is sent, and as the body of a count."""

from typing import Final

from aigateway.v1.chat_service_pb2 import (
    CountTokensRequest,
    CreateChatCompletionRequest,
    GenerationConfig,
    ResponseFormat,
)
from gateway_server.errors import invalid_request
from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages.context import RenderContext as ClaudeContext
from gateway_server.providers.wire.anthropic_messages.request import render_sampling as render_claude_sampling
from gateway_server.providers.wire.bedrock_converse.context import PROVIDER_TYPE, RenderContext
from gateway_server.providers.wire.bedrock_converse.models import traits_of
from gateway_server.providers.wire.bedrock_converse.reasoning import NO_THINKING, Thinking, render_reasoning
from gateway_server.providers.wire.bedrock_converse.tools import render_tool_config
from gateway_server.providers.wire.bedrock_converse.turns import render_turns
from gateway_server.providers.wire.conversation import require_one_text
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.provider_options import merge_options
from gateway_server.providers.wire.rendering import dump_body, json_number, json_object_text

_FIELDS: Final = "additionalModelRequestFields"
_LIMIT: Final = "generation_config.max_output_tokens"

#: What provider_options may not set, and the field that does. Limits have many names among models' fields.
_RESERVED: Final = {
    "modelId": "model",
    "messages": "messages",
    "system": "messages",
    "inferenceConfig.maxTokens": _LIMIT,
    f"{_FIELDS}.max_tokens": _LIMIT,
    f"{_FIELDS}.max_tokens_to_sample": _LIMIT,
    f"{_FIELDS}.max_completion_tokens": _LIMIT,
    f"{_FIELDS}.max_gen_len": _LIMIT,
    f"{_FIELDS}.maxTokens": _LIMIT,
    f"{_FIELDS}.inferenceConfig.maxTokens": _LIMIT,
    f"{_FIELDS}.inferenceConfig.max_new_tokens": _LIMIT,
    f"{_FIELDS}.textGenerationConfig": "generation_config",
}
#: What a count takes of a request; it refuses the rest.
_COUNTED: Final = frozenset({"messages", "system", "toolConfig", _FIELDS})


def render_chat(request: CreateChatCompletionRequest, target: Target) -> bytes:
    """The body to send; raises FEATURE_NOT_SUPPORTED or INVALID_REQUEST before anything is."""
    context = RenderContext(target, traits_of(target.provider_model))
    body = render_turns(request.messages, context)
    config = request.generation_config
    thinking = NO_THINKING
    if request.HasField("reasoning"):
        limit = config.max_output_tokens or target.model.max_output_tokens or None
        thinking = render_reasoning(request.reasoning, limit, context)
    fields = dict(thinking.fields)
    if request.HasField("generation_config"):
        inference = _render_generation(config, thinking, fields, context)
        if inference:
            body["inferenceConfig"] = inference
    choice = request.tool_choice if request.HasField("tool_choice") else None
    tool_config = render_tool_config(request.tools, choice, context)
    if tool_config is not None:
        if thinking.claude.budget and tool_config.get("toolChoice", {}).keys() & {"any", "tool"}:
            raise context.unsupported("a tool call that is demanded, together with a reasoning budget")
        body["toolConfig"] = tool_config
    if output_config := _render_output_config(request, thinking, context):
        body["outputConfig"] = output_config
    if fields:
        body[_FIELDS] = fields
    merge_options(body, request.provider_options, provider_type=PROVIDER_TYPE, reserved=_RESERVED)
    return dump_body(body)


def render_count(request: CountTokensRequest, target: Target) -> bytes:
    """The body of a count; raises as render_chat does."""
    context = RenderContext(target, traits_of(target.provider_model))
    if not context.traits.counts:
        raise context.unsupported("counting tokens")
    body = render_turns(request.messages, context)
    tool_config = render_tool_config(request.tools, None, context)
    if tool_config is not None:
        body["toolConfig"] = tool_config
    merge_options(body, request.provider_options, provider_type=PROVIDER_TYPE, reserved=_RESERVED)
    counted = {key: value for key, value in body.items() if key in _COUNTED}
    return dump_body({"input": {"converse": counted}})


def _render_generation(
    config: GenerationConfig, thinking: Thinking, fields: JsonObject, context: RenderContext
) -> JsonObject:
    """Converse's own knobs; those of the model go into ``fields``.

    Seed, penalties and biases have no place and are left out; they only steer the sampling.
    """
    require_one_text(config, context.unsupported)
    rendered: JsonObject = {}
    if config.HasField("max_output_tokens"):
        rendered["maxTokens"] = config.max_output_tokens
    sampling = _render_sampling(config, thinking, context)
    if "temperature" in sampling:
        rendered["temperature"] = sampling["temperature"]
    if "top_p" in sampling:
        rendered["topP"] = sampling["top_p"]
    if "top_k" in sampling:
        _put(fields, context.traits.top_k, sampling["top_k"])
    if config.stop_sequences:
        rendered["stopSequences"] = list(config.stop_sequences)
    return rendered


def _render_sampling(config: GenerationConfig, thinking: Thinking, context: RenderContext) -> JsonObject:
    claude = context.traits.claude
    if claude is not None:
        return render_claude_sampling(config, thinking.claude, ClaudeContext(context.target, claude))
    rendered: JsonObject = {}
    if config.HasField("temperature"):
        if config.temperature > 1:
            raise context.unsupported("a temperature above 1")
        rendered["temperature"] = json_number(config.temperature, "generation_config.temperature")
    if config.HasField("top_p"):
        rendered["top_p"] = json_number(config.top_p, "generation_config.top_p")
    if config.HasField("top_k") and context.traits.top_k:
        rendered["top_k"] = config.top_k
    return rendered


def _put(fields: JsonObject, path: tuple[str, ...], value: int) -> None:
    for key in path[:-1]:
        fields = fields.setdefault(key, {})
    fields[path[-1]] = value


def _render_output_config(
    request: CreateChatCompletionRequest, thinking: Thinking, context: RenderContext
) -> JsonObject:
    rendered: JsonObject = {}
    if request.HasField("response_format"):
        wanted = _render_response_format(request.response_format, context)
        if wanted is not None:
            rendered["textFormat"] = wanted
    if thinking.effort is not None:
        rendered["effort"] = thinking.effort
    return rendered


def _render_response_format(wanted: ResponseFormat, context: RenderContext) -> JsonObject | None:
    """The form. The provider holds every model to the schema, so ``strict`` has nothing to say."""
    match wanted.WhichOneof("kind"):
        case "text":
            return None
        case "json_object":
            raise context.unsupported("JSON answers without a schema")
        case "json_schema":
            named = wanted.json_schema
            json_object_text(named.json_schema, "response_format.json_schema.json_schema")
            schema = {"schema": named.json_schema}
            if named.schema_name:
                schema["name"] = named.schema_name
            if named.description:
                schema["description"] = named.description
            return {"type": "json_schema", "structure": {"jsonSchema": schema}}
        case _:
            raise invalid_request("response_format", "has no kind")
