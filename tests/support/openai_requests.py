"""Turns a request in OpenAI's format into ours: the reverse of what the gateway renders, for tests only."""

from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest

JsonObject = dict[str, Any]

_ROLES = {
    "system": "ROLE_SYSTEM",
    "developer": "ROLE_DEVELOPER",
    "user": "ROLE_USER",
    "assistant": "ROLE_ASSISTANT",
    "tool": "ROLE_TOOL",
}
_KNOBS = {
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "n": "choiceCount",
    "logprobs": "logprobs",
    "top_logprobs": "topLogprobs",
}
_READ = {
    *_KNOBS,
    "model",
    "messages",
    "stop",
    "stream",
    "stream_options",
    "tools",
    "functions",
    "tool_choice",
} | {
    "parallel_tool_calls",
    "response_format",
    "web_search_options",
}


def to_chat_request(body: JsonObject, provider_type: str) -> CreateChatCompletionRequest:
    """The same request in the contract's words; what it has no word for goes into provider_options."""
    body = {key: value for key, value in body.items() if value is not None}
    fields: JsonObject = {
        "model": body["model"],
        "messages": [_message(message) for message in body["messages"]],
        "generationConfig": {ours: body[theirs] for theirs, ours in _KNOBS.items() if theirs in body},
    }
    if "stop" in body:
        stop = body["stop"]
        fields["generationConfig"]["stopSequences"] = [stop] if isinstance(stop, str) else stop
    tools = [_tool(tool) for tool in body.get("tools", [])]
    tools += [_tool({"type": "function", "function": function}) for function in body.get("functions", [])]
    if "web_search_options" in body:
        tools.append({"provider": {"toolType": "web_search", "config": body["web_search_options"]}})
    fields["tools"] = tools
    if "tool_choice" in body or "parallel_tool_calls" in body:
        fields["toolChoice"] = _choice(body.get("tool_choice"))
        if "parallel_tool_calls" in body:
            fields["toolChoice"]["parallelToolCalls"] = body["parallel_tool_calls"]
    if "response_format" in body:
        fields["responseFormat"] = _response_format(body["response_format"])
    options = {key: value for key, value in body.items() if key not in _READ}
    stream_options = {
        key: value for key, value in body.get("stream_options", {}).items() if key != "include_usage"
    }
    if stream_options:
        options["stream_options"] = stream_options
    if options:
        fields["providerOptions"] = {provider_type: options}
    return ParseDict(fields, CreateChatCompletionRequest())


def to_embeddings_request(body: JsonObject) -> CreateEmbeddingsRequest:
    """The same request in the contract's words."""
    inputs = body["input"]
    if isinstance(inputs, str) or isinstance(inputs[0], int):
        inputs = [inputs]
    fields: JsonObject = {
        "model": body["model"],
        "inputs": [
            {"text": item} if isinstance(item, str) else {"tokenIds": {"values": item}} for item in inputs
        ],
    }
    if body.get("dimensions") is not None:
        fields["dimensions"] = body["dimensions"]
    return ParseDict(fields, CreateEmbeddingsRequest())


def _message(message: JsonObject) -> JsonObject:
    parts = _parts(message.get("content"))
    if message["role"] == "tool":
        parts = [{"toolResult": {"toolCallId": message["tool_call_id"], "parts": parts}}]
    if message.get("refusal"):
        parts.append({"refusal": {"text": message["refusal"]}})
    parts += [_call(call) for call in message.get("tool_calls") or []]
    return {"role": _ROLES[message["role"]], "author": message.get("name", ""), "parts": parts}


def _parts(content: Any) -> list[JsonObject]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": {"text": content}}]
    return [_part(block) for block in content]


def _part(block: JsonObject) -> JsonObject:
    match block["type"]:
        case "text":
            return {"text": {"text": block["text"]}}
        case "image_url":
            detail = block["image_url"].get("detail")
            source = _source(block["image_url"]["url"])
            return {
                "image": {
                    "source": source,
                    **({"detail": f"IMAGE_DETAIL_{detail.upper()}"} if detail else {}),
                }
            }
        case "input_audio":
            audio = block["input_audio"]
            mime_type = {"mp3": "audio/mpeg", "wav": "audio/wav"}[audio["format"]]
            return {"audio": {"source": {"inlineData": audio["data"], "mimeType": mime_type}}}
        case "file":
            file = block["file"]
            if "file_id" in file:
                return {"document": {"source": {"providerFileId": file["file_id"]}}}
            return {"document": {"source": {**_source(file["file_data"]), "filename": file["filename"]}}}
        case kind:
            raise ValueError(f"no part for {kind}")


def _source(url: str) -> JsonObject:
    if not url.startswith("data:"):
        return {"uri": url}
    mime_type, _, data = url.removeprefix("data:").partition(";base64,")
    return {"inlineData": data, "mimeType": mime_type}


def _call(call: JsonObject) -> JsonObject:
    function = call["function"]
    return {
        "toolCall": {
            "toolCallId": call["id"],
            "toolName": function["name"],
            "arguments": function["arguments"],
        }
    }


def _tool(tool: JsonObject) -> JsonObject:
    function = tool["function"]
    ours: JsonObject = {"functionName": function["name"], "description": function.get("description", "")}
    if "parameters" in function:
        ours["parametersJsonSchema"] = orjson.dumps(function["parameters"]).decode()
    if "strict" in function:
        ours["strict"] = function["strict"]
    return {"function": ours}


def _choice(choice: Any) -> JsonObject:
    if choice is None:
        return {}
    if isinstance(choice, str):
        return {"mode": f"TOOL_CHOICE_MODE_{choice.upper()}"}
    return {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": [choice["function"]["name"]]}


def _response_format(wanted: JsonObject) -> JsonObject:
    match wanted["type"]:
        case "text":
            return {"text": {}}
        case "json_object":
            return {"jsonObject": {}}
        case "json_schema":
            schema = wanted["json_schema"]
            ours = {"schemaName": schema["name"], "jsonSchema": orjson.dumps(schema["schema"]).decode()}
            for key in ("description", "strict"):
                if key in schema:
                    ours[key] = schema[key]
            return {"jsonSchema": ours}
        case kind:
            raise ValueError(f"no response format for {kind}")
