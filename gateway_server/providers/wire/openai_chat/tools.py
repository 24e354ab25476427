"""Tools, the choice among them, and the form of the answer."""

from collections.abc import Sequence
from typing import Final

from aigateway.v1.chat_service_pb2 import (
    CreateChatCompletionRequest,
    FreeFormTool,
    FunctionTool,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.context import RenderContext
from gateway_server.providers.wire.rendering import json_object, json_object_text

_WEB_SEARCH: Final = "web_search"
_DEFAULT_SCHEMA_NAME: Final = "response"


def render_tools(request: CreateChatCompletionRequest, context: RenderContext) -> JsonObject:
    """The keys of the body that tools and the choice among them need."""
    rendered: JsonObject = {}
    tools: list[JsonObject] = []
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function":
                tools.append({"type": "function", "function": _render_function(tool.function, path)})
            case "free_form":
                if not context.dialect.free_form_tools:
                    raise context.unsupported("free-form tools")
                tools.append({"type": "custom", "custom": _render_free_form(tool.free_form)})
            case "provider":
                if tool.provider.tool_type != _WEB_SEARCH or not context.dialect.web_search:
                    raise context.unsupported(f"the provider-run tool {tool.provider.tool_type}")
                rendered["web_search_options"] = json_object(tool.provider.config, f"{path}.provider.config")
            case _:
                raise invalid_request(path, "has no kind")
    if tools:
        rendered["tools"] = tools
    if request.HasField("tool_choice"):
        rendered |= _render_choice(request.tool_choice, request.tools, context)
    return rendered


def _render_function(function: FunctionTool, path: str) -> JsonObject:
    rendered: JsonObject = {"name": function.function_name}
    if function.description:
        rendered["description"] = function.description
    if function.parameters_json_schema:
        at = f"{path}.function.parameters_json_schema"
        rendered["parameters"] = json_object_text(function.parameters_json_schema, at)
    if function.HasField("strict"):
        rendered["strict"] = function.strict
    return rendered


def _render_free_form(tool: FreeFormTool) -> JsonObject:
    rendered: JsonObject = {"name": tool.tool_name}
    if tool.description:
        rendered["description"] = tool.description
    if tool.HasField("grammar"):
        grammar = {"syntax": tool.grammar.syntax, "definition": tool.grammar.definition}
        rendered["format"] = {"type": "grammar", "grammar": grammar}
    return rendered


def _render_choice(choice: ToolChoice, tools: Sequence[Tool], context: RenderContext) -> JsonObject:
    rendered: JsonObject = {}
    if choice.HasField("parallel_tool_calls"):
        rendered["parallel_tool_calls"] = choice.parallel_tool_calls
    names = choice.allowed_tool_names
    match choice.mode:
        case ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED:
            rendered["tool_choice"] = _render_named(names, tools, context) if names else "required"
        case _ if names:
            raise invalid_request(
                "tool_choice.allowed_tool_names", "goes with TOOL_CHOICE_MODE_REQUIRED only"
            )
        case ToolChoiceMode.TOOL_CHOICE_MODE_AUTO:
            rendered["tool_choice"] = "auto"
        case ToolChoiceMode.TOOL_CHOICE_MODE_NONE:
            rendered["tool_choice"] = "none"
        case ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED:
            pass
        case _:
            raise invalid_request("tool_choice.mode", "is not a mode")
    return rendered


def _render_named(names: Sequence[str], tools: Sequence[Tool], context: RenderContext) -> JsonObject:
    named = {tool.function.function_name: "function" for tool in tools if tool.HasField("function")}
    named |= {tool.free_form.tool_name: "custom" for tool in tools if tool.HasField("free_form")}
    for index, name in enumerate(names):
        if name not in named:
            raise invalid_request(f"tool_choice.allowed_tool_names[{index}]", "names none of the tools")
    allowed = [{"type": named[name], named[name]: {"name": name}} for name in names]
    if len(allowed) == 1:
        return allowed[0]
    if not context.dialect.allowed_tools:
        raise context.unsupported("a choice limited to several tools")
    return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": allowed}}


def render_response_format(response_format: ResponseFormat) -> JsonObject:
    """The body's ``response_format``."""
    match response_format.WhichOneof("kind"):
        case "text":
            return {"type": "text"}
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            wanted = response_format.json_schema
            schema: JsonObject = {"name": wanted.schema_name or _DEFAULT_SCHEMA_NAME}
            if wanted.description:
                schema["description"] = wanted.description
            schema["schema"] = json_object_text(wanted.json_schema, "response_format.json_schema.json_schema")
            if wanted.HasField("strict"):
                schema["strict"] = wanted.strict
            return {"type": "json_schema", "json_schema": schema}
        case _:
            raise invalid_request("response_format", "has no kind")
