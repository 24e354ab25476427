"""Tools and the choice among them."""

from collections.abc import Sequence
from typing import Final

from aigateway.v1.chat_service_pb2 import FunctionTool, ProviderTool, Tool, ToolChoice, ToolChoiceMode
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.bedrock_converse.assistant import TOOL_NAME, to_tool_name
from gateway_server.providers.wire.bedrock_converse.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import json_object_text

#: What the provider wants also of tools without arguments.
_NO_ARGUMENTS: Final = {"type": "object", "properties": {}}


def render_tool_config(
    tools: Sequence[Tool], choice: ToolChoice | None, context: RenderContext
) -> JsonObject | None:
    """The body's ``toolConfig``; None where there is none.

    A conversation with calls or results needs it. The provider has no way to forbid calls but to leave the
    tools out.
    """
    rendered, names = _render_tools(tools, context)
    forbids_calls = choice is not None and choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_NONE
    if context.has_tool_turns and not names:
        raise context.unsupported("tool calls in earlier turns where the request has no tools")
    if context.has_tool_turns and forbids_calls:
        raise context.unsupported("a ban on tool calls after earlier ones")
    chosen = None if choice is None else _render_choice(choice, names, context)
    if not names or forbids_calls:
        return None
    config: JsonObject = {"tools": rendered}
    if chosen is not None:
        config["toolChoice"] = chosen
    return config


def _render_tools(tools: Sequence[Tool], context: RenderContext) -> tuple[list[JsonObject], list[str]]:
    """The tools, and their names without those of cache marks between them."""
    rendered: list[JsonObject] = []
    names: list[str] = []
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function":
                names.append(tool.function.function_name)
                rendered.append({"toolSpec": _render_function(tool.function, f"{path}.function", context)})
            case "provider":
                names.append(tool.provider.tool_type)
                rendered.append({"systemTool": _render_system_tool(tool.provider, context)})
            case "free_form":
                raise context.unsupported("free-form tools")
            case _:
                raise invalid_request(path, "has no kind")
        if tool.HasField("cache_control"):
            rendered.extend(context.render_cache_point(tool.cache_control, path))
    return rendered, names


def _render_function(function: FunctionTool, path: str, context: RenderContext) -> JsonObject:
    rendered: JsonObject = {"name": to_tool_name(function.function_name, context)}
    if function.description:
        rendered["description"] = function.description
    schema = function.parameters_json_schema
    at = f"{path}.parameters_json_schema"
    rendered["inputSchema"] = {"json": json_object_text(schema, at) if schema else _NO_ARGUMENTS}
    if function.HasField("strict"):
        rendered["strict"] = function.strict
    return rendered


def _render_system_tool(tool: ProviderTool, context: RenderContext) -> JsonObject:
    if not TOOL_NAME.fullmatch(tool.tool_type):
        raise context.unsupported(f"the provider-run tool {tool.tool_type}")
    if tool.config.fields:
        raise context.unsupported(f"settings of the provider-run tool {tool.tool_type}")
    return {"name": tool.tool_type}


def _render_choice(choice: ToolChoice, tools: Sequence[str], context: RenderContext) -> JsonObject | None:
    """The choice; None where the default says the same."""
    names = choice.allowed_tool_names
    if tools and choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
        raise context.unsupported("a ban on several tool calls in one turn")
    match choice.mode:
        case ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED:
            return _render_required(names, tools, context)
        case _ if names:
            raise invalid_request(
                "tool_choice.allowed_tool_names", "goes with TOOL_CHOICE_MODE_REQUIRED only"
            )
        case ToolChoiceMode.TOOL_CHOICE_MODE_AUTO:
            return {"auto": {}}
        case ToolChoiceMode.TOOL_CHOICE_MODE_NONE | ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED:
            return None
        case _:
            raise invalid_request("tool_choice.mode", "is not a mode")


def _render_required(names: Sequence[str], tools: Sequence[str], context: RenderContext) -> JsonObject:
    if not tools:
        raise invalid_request("tool_choice.mode", "demands a call of a tool, and there are no tools")
    for index, name in enumerate(names):
        if name not in tools:
            raise invalid_request(f"tool_choice.allowed_tool_names[{index}]", "names none of the tools")
    if not names:
        return {"any": {}}
    if len(names) > 1:
        raise context.unsupported("a choice limited to several tools")
    return {"tool": {"name": names[0]}}
