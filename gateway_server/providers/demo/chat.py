"""Chat answers of the demo provider: an echo, values that fit a schema, tool calls."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import orjson

from gateway_server.providers.demo.bodies import Said, count_usage, render_chunks, render_whole
from gateway_server.providers.demo.commands import (
    HINT,
    LABEL,
    Commands,
    DemoFailureError,
    JsonObject,
    read_commands,
    read_request,
)
from gateway_server.providers.demo.schema import make_value
from gateway_server.providers.demo.text import split_tokens, text_of

_MAX_ECHO: Final = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole and in chunks, and how it is to be sent."""

    whole: JsonObject
    chunks: list[JsonObject]
    stream: bool
    commands: Commands


def answer_chat(body: bytes) -> Answer:
    """The answer to a chat request; raises DemoFailureError where it is an HTTP error."""
    request = read_request(body)
    messages = _read_messages(request)
    if request.get("logprobs"):
        raise DemoFailureError(400, "unsupported_parameter", "The demo provider has no log probabilities.")
    prompt = _last_user_text(messages)
    commands = read_commands(request["model"], prompt)
    said = [
        _say(request, messages, prompt, tool_count=commands.tools, number=number)
        for number in range(_read_choice_count(request))
    ]
    head: JsonObject = {
        "id": f"chatcmpl-demo-{sha256(body).hexdigest()[:24]}",
        "created": 0,
        "model": request["model"],
        "system_fingerprint": "demo",
    }
    usage = count_usage(request, said)
    options = request.get("stream_options")
    usage_wanted = isinstance(options, dict) and bool(options.get("include_usage"))
    return Answer(
        whole=render_whole(head, said, usage),
        chunks=list(render_chunks(head, said, usage if usage_wanted else None)),
        stream=bool(request.get("stream")),
        commands=commands,
    )


def _read_messages(request: JsonObject) -> list[JsonObject]:
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise DemoFailureError(400, "invalid_value", "messages is not a list of messages.")
    if not messages:
        raise DemoFailureError(400, "empty_array", "messages is empty.")
    return messages


def _read_choice_count(request: JsonObject) -> int:
    count = request.get("n", 1)
    if type(count) is not int or not 1 <= count <= 128:
        raise DemoFailureError(400, "invalid_value", "n is not between 1 and 128.")
    return count


def _last_user_text(messages: list[JsonObject]) -> str:
    users = (message for message in reversed(messages) if message.get("role") == "user")
    return next((text_of(message.get("content")) for message in users), "")


def _say(
    request: JsonObject, messages: list[JsonObject], prompt: str, *, tool_count: int, number: int
) -> Said:
    tools = _choose_tools(request, tool_count, answered=messages[-1].get("role") == "tool")
    if tools:
        calls = [_call(tool, f"call_demo_{number}_{index}") for index, tool in enumerate(tools)]
        return Said(calls=calls, finish_reason="tool_calls")
    text = _compose(request, messages, prompt)
    if number:
        text = f"{text} (answer {number + 1})"
    for stop in _read_stops(request):
        text = text.partition(stop)[0]
    tokens = split_tokens(text)
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    if type(limit) is int and 0 <= limit < len(tokens):
        return Said(tokens=tokens[:limit], finish_reason="length")
    return Said(tokens=tokens)


def _compose(request: JsonObject, messages: list[JsonObject], prompt: str) -> str:
    response_format = request.get("response_format")
    response_format = response_format if isinstance(response_format, dict) else {}
    echo = _shorten(prompt)
    if response_format.get("type") == "json_object":
        return orjson.dumps({"note": LABEL, "you_wrote": echo}).decode()
    if response_format.get("type") == "json_schema":
        wanted = response_format.get("json_schema")
        return orjson.dumps(make_value(wanted.get("schema") if isinstance(wanted, dict) else None)).decode()
    if messages[-1].get("role") == "tool":
        return f"{LABEL} The tool returned: {_shorten(text_of(messages[-1].get('content')))}"
    return f"{LABEL} You wrote: {echo}\n{HINT}" if echo else f"{LABEL} {HINT}"


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_ECHO else f"{text[:_MAX_ECHO]}..."


def _read_stops(request: JsonObject) -> list[str]:
    stop = request.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    return [item for item in stops if isinstance(item, str) and item]


def _choose_tools(request: JsonObject, count: int, *, answered: bool) -> list[JsonObject]:
    """The tools to call: as many as were asked for, or one where the request insists."""
    tools = request.get("tools")
    tools = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    choice = request.get("tool_choice")
    if choice == "none":
        return []
    if choice == "required" or isinstance(choice, dict):
        count = max(count, 1)
    elif answered:
        return []
    if isinstance(choice, dict):
        tools = [tool for tool in tools if _name_of(tool) in _chosen_names(choice)]
    if request.get("parallel_tool_calls") is False:
        count = min(count, 1)
    return tools[:count]


def _name_of(tool: JsonObject) -> str:
    inner = tool.get("custom" if tool.get("type") == "custom" else "function")
    return str(inner.get("name", "")) if isinstance(inner, dict) else ""


def _chosen_names(choice: JsonObject) -> set[str]:
    allowed = choice.get("allowed_tools")
    tools = allowed.get("tools") if isinstance(allowed, dict) else [choice]
    return {_name_of(tool) for tool in tools or [] if isinstance(tool, dict)}


def _call(tool: JsonObject, call_id: str) -> JsonObject:
    if tool.get("type") == "custom":
        return {"id": call_id, "type": "custom", "custom": {"name": _name_of(tool), "input": "demo input"}}
    function = tool.get("function")
    schema = function.get("parameters") if isinstance(function, dict) else None
    arguments = orjson.dumps(make_value(schema) if schema else {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": _name_of(tool), "arguments": arguments}}
