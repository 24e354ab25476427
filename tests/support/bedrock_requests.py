"""Turns a request in Converse's format into ours: the reverse of what the gateway renders, for tests only."""

from base64 import b64encode
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest

JsonObject = dict[str, Any]

_KNOBS = {"maxTokens": "maxOutputTokens", "temperature": "temperature", "topP": "topP"}
_TTL = {"5m": "300s", "1h": "3600s"}
_DOCUMENT_TYPES = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "html": "text/html",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "txt": "text/plain",
    "md": "text/markdown",
}
_OPTIONS = ("guardrailConfig", "serviceTier", "performanceConfig", "requestMetadata")
_EFFORTS = {
    "low": "REASONING_EFFORT_LOW",
    "medium": "REASONING_EFFORT_MEDIUM",
    "high": "REASONING_EFFORT_HIGH",
}
_TASKS = {"search_query": "EMBEDDING_TASK_QUERY", "search_document": "EMBEDDING_TASK_DOCUMENT"}


def to_chat_request(body: JsonObject) -> CreateChatCompletionRequest:
    """The same request in the contract's words; what it has no word for goes into provider_options."""
    inference = body.get("inferenceConfig", {})
    fields: JsonObject = {
        "model": "any",
        "messages": _conversation(body),
        "generationConfig": {
            ours: inference[theirs] for theirs, ours in _KNOBS.items() if theirs in inference
        },
        "tools": _tools(body.get("toolConfig", {})),
    }
    if "stopSequences" in inference:
        fields["generationConfig"]["stopSequences"] = inference["stopSequences"]
    if choice := body.get("toolConfig", {}).get("toolChoice"):
        fields["toolChoice"] = _choice(choice)
    if "outputConfig" in body:
        fields["responseFormat"] = _response_format(body["outputConfig"]["textFormat"])
    options = {key: body[key] for key in _OPTIONS if key in body}
    model_fields = dict(body.get("additionalModelRequestFields", {}))
    _take_reasoning(model_fields, fields)
    if model_fields.get("inferenceConfig", {}).keys() == {"topK"}:
        fields["generationConfig"]["topK"] = model_fields.pop("inferenceConfig")["topK"]
    if model_fields:
        options["additionalModelRequestFields"] = model_fields
    if options:
        fields["providerOptions"] = {"bedrock": options}
    return ParseDict(fields, CreateChatCompletionRequest())


def to_count_request(body: JsonObject) -> CountTokensRequest:
    """The same count in the contract's words."""
    asked = body["input"]["converse"]
    fields: JsonObject = {"model": "any", "messages": _conversation(asked)}
    if "additionalModelRequestFields" in asked:
        extra = asked["additionalModelRequestFields"]
        fields["providerOptions"] = {"bedrock": {"additionalModelRequestFields": extra}}
    return ParseDict(fields, CountTokensRequest())


def to_embeddings_request(body: JsonObject) -> CreateEmbeddingsRequest:
    """The same texts in the contract's words."""
    texts = body["texts"] if "texts" in body else [body["inputText"]]
    fields: JsonObject = {"model": "any", "inputs": [{"text": text} for text in texts]}
    dimensions = body.get("output_dimension", body.get("dimensions"))
    if dimensions:
        fields["dimensions"] = dimensions
    if "input_type" in body:
        fields["task"] = _TASKS[body["input_type"]]
    options = {key: body[key] for key in ("truncate", "normalize") if key in body}
    if options:
        fields["providerOptions"] = {"bedrock": options}
    return ParseDict(fields, CreateEmbeddingsRequest())


def _take_reasoning(model_fields: JsonObject, fields: JsonObject) -> None:
    thinking = model_fields.get("thinking", {})
    if thinking.get("type") == "enabled":
        del model_fields["thinking"]
        fields["reasoning"] = {"budgetTokens": thinking["budget_tokens"]}
    elif "reasoningConfig" in model_fields:
        effort = model_fields.pop("reasoningConfig")["maxReasoningEffort"]
        fields["reasoning"] = {"effort": _EFFORTS[effort]}
    elif isinstance(model_fields.get("reasoning_config"), str):
        fields["reasoning"] = {"effort": _EFFORTS[model_fields.pop("reasoning_config")]}


def _conversation(body: JsonObject) -> list[JsonObject]:
    turns: list[JsonObject] = []
    if body.get("system"):
        turns.append({"role": "ROLE_SYSTEM", "parts": _parts(body["system"])})
    for message in body["messages"]:
        if message["role"] == "assistant":
            turns.append({"role": "ROLE_ASSISTANT", "parts": _parts(message["content"], is_assistant=True)})
            continue
        parts = _parts(message["content"])
        results = [part for part in parts if "toolResult" in part]
        others = [part for part in parts if "toolResult" not in part]
        assert parts == [*results, *others]
        turns += [{"role": "ROLE_TOOL", "parts": results}] if results else []
        turns += [{"role": "ROLE_USER", "parts": others}] if others else []
    return turns


def _parts(blocks: list[JsonObject], *, is_assistant: bool = False) -> list[JsonObject]:
    parts: list[JsonObject] = []
    for block in blocks:
        if "cachePoint" in block:
            ttl = block["cachePoint"].get("ttl")
            parts[-1]["cacheControl"] = {"ttl": _TTL[ttl]} if ttl else {}
        else:
            parts.append(_part(block, is_assistant=is_assistant))
    return parts


def _part(block: JsonObject, *, is_assistant: bool) -> JsonObject:
    [(kind, value)] = block.items()
    match kind:
        case "text":
            return {"text": {"text": value}}
        case "image" | "video":
            return {kind: {"source": _source(value["source"], f"{kind}/{value['format']}")}}
        case "document":
            source = _source(value["source"], _DOCUMENT_TYPES[value["format"]])
            document = {"source": source, "title": value["name"]}
            if "citations" in value:
                document["citationsEnabled"] = value["citations"]["enabled"]
            return {"document": document}
        case "toolUse" if value.get("type") != "server_tool_use":
            arguments = orjson.dumps(value["input"]).decode()
            call = {"toolCallId": value["toolUseId"], "toolName": value["name"], "arguments": arguments}
            return {"toolCall": call}
        case "toolResult" if not is_assistant:
            result: JsonObject = {"toolCallId": value["toolUseId"], "parts": _parts(value["content"])}
            if value.get("status") == "error":
                result["isError"] = True
            return {"toolResult": result}
        case "reasoningContent":
            thought = value["reasoningText"]
            signature = b64encode(b"anthropic:" + thought["signature"].encode()).decode()
            return {"reasoning": {"text": thought["text"]}, "providerSignature": signature}
        case _:
            unread = {"providerType": "bedrock", "blockType": kind, "blockJson": orjson.dumps(block).decode()}
            return {"provider": unread}


def _source(source: JsonObject, mime_type: str) -> JsonObject:
    if "text" in source:
        return {"inlineText": source["text"]}
    if "s3Location" in source:
        return {"uri": source["s3Location"]["uri"], "mimeType": mime_type}
    return {"inlineData": source["bytes"], "mimeType": mime_type}


def _tools(config: JsonObject) -> list[JsonObject]:
    tools: list[JsonObject] = []
    for tool in config.get("tools", []):
        if "cachePoint" in tool:
            tools[-1]["cacheControl"] = {}
        elif "systemTool" in tool:
            tools.append({"provider": {"toolType": tool["systemTool"]["name"]}})
        else:
            tools.append({"function": _function(tool["toolSpec"])})
    return tools


def _function(spec: JsonObject) -> JsonObject:
    ours: JsonObject = {
        "functionName": spec["name"],
        "description": spec.get("description", ""),
        "parametersJsonSchema": orjson.dumps(spec["inputSchema"]["json"]).decode(),
    }
    if "strict" in spec:
        ours["strict"] = spec["strict"]
    return ours


def _choice(choice: JsonObject) -> JsonObject:
    [(kind, value)] = choice.items()
    if kind == "auto":
        return {"mode": "TOOL_CHOICE_MODE_AUTO"}
    names = [value["name"]] if kind == "tool" else []
    return {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": names}


def _response_format(text_format: JsonObject) -> JsonObject:
    wanted = text_format["structure"]["jsonSchema"]
    named = {"schemaName": wanted.get("name", ""), "description": wanted.get("description", "")}
    return {"jsonSchema": {**named, "jsonSchema": wanted["schema"]}}
