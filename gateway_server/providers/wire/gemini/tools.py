"""Tools and the choice among them."""

from collections.abc import Sequence
from typing import Final

from aigateway.v1.chat_service_pb2 import (
    CreateChatCompletionRequest,
    FunctionTool,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import json_object, json_object_text

#: Tools that the provider runs. It takes both spellings of their names.
_PROVIDER_TOOLS: Final = {
    "codeExecution": "codeExecution",
    "code_execution": "codeExecution",
    "computerUse": "computerUse",
    "computer_use": "computerUse",
    "fileSearch": "fileSearch",
    "file_search": "fileSearch",
    "googleMaps": "googleMaps",
    "google_maps": "googleMaps",
    "googleSearch": "googleSearch",
    "google_search": "googleSearch",
    "googleSearchRetrieval": "googleSearchRetrieval",
    "google_search_retrieval": "googleSearchRetrieval",
    "urlContext": "urlContext",
    "url_context": "urlContext",
}


def render_tools(tools: Sequence[Tool], context: RenderContext) -> list[JsonObject]:
    """The tools in their order; all functions stand together where the first of them stood."""
    rendered: list[JsonObject] = []
    functions: list[JsonObject] = []
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function":
                if not functions:
                    rendered.append({"functionDeclarations": functions})
                functions.append(_render_function(tool.function, f"{path}.function"))
            case "provider":
                name = _PROVIDER_TOOLS.get(tool.provider.tool_type)
                if name is None:
                    raise context.unsupported(f"the provider-run tool {tool.provider.tool_type}")
                rendered.append({name: json_object(tool.provider.config, f"{path}.provider.config")})
            case "free_form":
                raise context.unsupported("free-form tools")
            case _:
                raise invalid_request(path, "has no kind")
    return rendered


def _render_function(function: FunctionTool, path: str) -> JsonObject:
    # The description is required, empty or not.
    rendered: JsonObject = {"name": function.function_name, "description": function.description}
    if function.parameters_json_schema:
        rendered["parametersJsonSchema"] = json_object_text(
            function.parameters_json_schema, f"{path}.parameters_json_schema"
        )
    return rendered


def render_tool_config(request: CreateChatCompletionRequest, context: RenderContext) -> JsonObject | None:
    """How functions may be called; None leaves it to the provider."""
    names = {tool.function.function_name for tool in request.tools if tool.HasField("function")}
    choice = request.tool_choice
    calling = _render_choice(choice, names, context)
    if calling["mode"] != "NONE":
        if names and choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
            raise context.unsupported("at most one tool call in a turn")
        if calling["mode"] == "AUTO" and any(tool.function.strict for tool in request.tools):
            # The mode in which the model is free to call, but held to the schemas.
            calling["mode"] = "VALIDATED"
    elif len(request.tools) > len(names):
        raise context.unsupported("forbidding tools that it runs itself")
    if not names or (
        calling["mode"] == "AUTO" and choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED
    ):
        return None
    return {"functionCallingConfig": calling}


def _render_choice(choice: ToolChoice, names: set[str], context: RenderContext) -> JsonObject:
    allowed = choice.allowed_tool_names
    match choice.mode:
        case ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED:
            if not names:
                raise context.unsupported("requiring a call of tools that are no functions")
            for index, name in enumerate(allowed):
                if name not in names:
                    raise invalid_request(
                        f"tool_choice.allowed_tool_names[{index}]", "names none of the functions"
                    )
            return {"mode": "ANY", **({"allowedFunctionNames": list(allowed)} if allowed else {})}
        case _ if allowed:
            raise invalid_request(
                "tool_choice.allowed_tool_names", "goes with TOOL_CHOICE_MODE_REQUIRED only"
            )
        case ToolChoiceMode.TOOL_CHOICE_MODE_NONE:
            return {"mode": "NONE"}
        case ToolChoiceMode.TOOL_CHOICE_MODE_AUTO | ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED:
            return {"mode": "AUTO"}
        case _:
            raise invalid_request("tool_choice.mode", "is not a mode")
