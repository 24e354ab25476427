"""Tools and the choice among them."""

import re
from collections.abc import Sequence
from typing import Final

from aigateway.v1.chat_service_pb2 import FunctionTool, ProviderTool, Tool, ToolChoice, ToolChoiceMode
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.anthropic_messages.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import json_object, json_object_text

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
#: Tools of the provider carry the date of their version; these need none.
_PROVIDER_TOOL: Final = re.compile(r"(\w+)_\d{8}", re.ASCII)
_UNDATED: Final = frozenset({"custom", "mcp_toolset", "tool_search_tool_bm25", "tool_search_tool_regex"})
#: What the model calls tools that are not called as their type says.
_EDITORS: Final = {"text_editor_20241022": "str_replace_editor", "text_editor_20250124": "str_replace_editor"}
_EDITOR: Final = "str_replace_based_edit_tool"


def render_tools(tools: Sequence[Tool], context: RenderContext) -> list[JsonObject]:
    """The body's ``tools``."""
    rendered: list[JsonObject] = []
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function":
                block = _render_function(tool.function, f"{path}.function", context)
            case "provider":
                block = _render_provider_tool(tool.provider, f"{path}.provider", context)
            case "free_form":
                raise context.unsupported("free-form tools")
            case _:
                raise invalid_request(path, "has no kind")
        if tool.HasField("cache_control"):
            block["cache_control"] = context.render_cache_control(tool.cache_control, path)
        rendered.append(block)
    return rendered


def _render_function(function: FunctionTool, path: str, context: RenderContext) -> JsonObject:
    if not _NAME.fullmatch(function.function_name):
        raise context.unsupported("tool names of other characters than letters, digits, _ and -")
    rendered: JsonObject = {"name": function.function_name}
    if function.description:
        rendered["description"] = function.description
    if function.parameters_json_schema:
        at = f"{path}.parameters_json_schema"
        rendered["input_schema"] = json_object_text(function.parameters_json_schema, at)
    else:
        # The provider wants a schema also of tools without arguments.
        rendered["input_schema"] = {"type": "object", "properties": {}}
    if function.HasField("strict"):
        rendered["strict"] = function.strict
    return rendered


def _render_provider_tool(tool: ProviderTool, path: str, context: RenderContext) -> JsonObject:
    kind = tool.tool_type
    dated = _PROVIDER_TOOL.fullmatch(kind)
    if dated is None and kind not in _UNDATED:
        raise context.unsupported(f"the provider-run tool {kind}")
    rendered = {**json_object(tool.config, f"{path}.config"), "type": kind}
    if "name" not in rendered and not (dated or [kind, kind])[1].endswith("toolset"):
        rendered["name"] = _default_name(kind, dated[1] if dated else kind)
    return rendered


def _default_name(kind: str, undated: str) -> str:
    """The only name that the provider takes for a tool of its own."""
    return _EDITORS.get(kind, _EDITOR) if undated == "text_editor" else undated


def render_choice(
    choice: ToolChoice, tools: Sequence[JsonObject], context: RenderContext
) -> JsonObject | None:
    """The body's ``tool_choice``; None where the default says the same."""
    names = choice.allowed_tool_names
    forbids_parallel_calls = choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls
    rendered: JsonObject
    match choice.mode:
        case ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED:
            rendered = _render_required(names, tools, context)
        case _ if names:
            raise invalid_request(
                "tool_choice.allowed_tool_names", "goes with TOOL_CHOICE_MODE_REQUIRED only"
            )
        case ToolChoiceMode.TOOL_CHOICE_MODE_NONE:
            # The provider takes a choice only with tools; without them there is nothing to call.
            return {"type": "none"} if tools else None
        case ToolChoiceMode.TOOL_CHOICE_MODE_AUTO:
            rendered = {"type": "auto"}
        case ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED:
            if not forbids_parallel_calls:
                return None
            rendered = {"type": "auto"}
        case _:
            raise invalid_request("tool_choice.mode", "is not a mode")
    if not tools:
        return None
    if forbids_parallel_calls:
        rendered["disable_parallel_tool_use"] = True
    return rendered


def _render_required(names: Sequence[str], tools: Sequence[JsonObject], context: RenderContext) -> JsonObject:
    if not tools:
        raise invalid_request("tool_choice.mode", "demands a call of a tool, and there are no tools")
    known = {tool.get("name") for tool in tools}
    for index, name in enumerate(names):
        if name not in known:
            raise invalid_request(f"tool_choice.allowed_tool_names[{index}]", "names none of the tools")
    if not names:
        return {"type": "any"}
    if len(names) > 1:
        raise context.unsupported("a choice limited to several tools")
    return {"type": "tool", "name": names[0]}
