"""Tools and the choice among them."""

from collections.abc import Sequence
from typing import Final

from aigateway.v1 import chat_service_pb2
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest, FunctionTool, Tool, ToolChoice
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import json_object, json_object_text

#: The mode in which the model is free to call, but held to the schemas.
_VALIDATED: Final = "VALIDATED"
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
    functions = [tool.function for tool in request.tools if tool.HasField("function")]
    is_strict = any(function.strict for function in functions)
    if not request.HasField("tool_choice"):
        return {"functionCallingConfig": {"mode": _VALIDATED}} if is_strict else None
    choice = request.tool_choice
    calling = _render_choice(choice, {function.function_name for function in functions}, context)
    if calling["mode"] == "NONE":
        if len(request.tools) > len(functions):
            raise context.unsupported("forbidding tools that it runs itself")
    elif functions and choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
        raise context.unsupported("at most one tool call in a turn")
    elif calling["mode"] == "AUTO" and is_strict:
        calling["mode"] = _VALIDATED
    elif choice.mode == chat_service_pb2.TOOL_CHOICE_MODE_UNSPECIFIED:
        return None
    return {"functionCallingConfig": calling} if functions else None


def _render_choice(choice: ToolChoice, names: set[str], context: RenderContext) -> JsonObject:
    allowed = choice.allowed_tool_names
    # Values of the module, not of the enum: looking one up there costs half a microsecond.
    match choice.mode:
        case chat_service_pb2.TOOL_CHOICE_MODE_REQUIRED:
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
        case chat_service_pb2.TOOL_CHOICE_MODE_NONE:
            return {"mode": "NONE"}
        case chat_service_pb2.TOOL_CHOICE_MODE_AUTO | chat_service_pb2.TOOL_CHOICE_MODE_UNSPECIFIED:
            return {"mode": "AUTO"}
        case _:
            raise invalid_request("tool_choice.mode", "is not a mode")
