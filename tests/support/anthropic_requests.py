"""Turns a request in Anthropic's format into ours: the reverse of what the gateway renders, for tests."""

from base64 import b64encode
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest

JsonObject = dict[str, Any]

_KNOBS = {"max_tokens": "maxOutputTokens", "temperature": "temperature", "top_p": "topP", "top_k": "topK"}
_READ = {
    *_KNOBS,
    "model",
    "messages",
    "system",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "metadata",
}
_TTL = {"5m": "300s", "1h": "3600s"}
_FUNCTION_KEYS = {"name", "description", "input_schema", "strict", "cache_control", "type"}
_UNITS = {
    "char_location": ("LOCATION_UNIT_CHARACTER", "start_char_index", "end_char_index"),
    "page_location": ("LOCATION_UNIT_PAGE", "start_page_number", "end_page_number"),
    "content_block_location": ("LOCATION_UNIT_BLOCK", "start_block_index", "end_block_index"),
}


def to_chat_request(body: JsonObject) -> CreateChatCompletionRequest:
    """The same request in the contract's words; what it has no word for goes into provider_options."""
    fields: JsonObject = {
        **_conversation(body),
        "generationConfig": {ours: body[theirs] for theirs, ours in _KNOBS.items() if theirs in body},
    }
    if "stop_sequences" in body:
        fields["generationConfig"]["stopSequences"] = body["stop_sequences"]
    if "tool_choice" in body:
        fields["toolChoice"] = _choice(body["tool_choice"])
    if "user_id" in body.get("metadata", {}):
        fields["endUserId"] = body["metadata"]["user_id"]
    options = {key: value for key, value in body.items() if key not in _READ}
    thinking = options.get("thinking", {})
    output_config = dict(options.pop("output_config", {}))
    if "budget_tokens" in thinking:
        del options["thinking"]
        fields["reasoning"] = {"budgetTokens": thinking["budget_tokens"]}
    elif thinking.get("type") == "disabled":
        del options["thinking"]
        fields["reasoning"] = {"effort": "REASONING_EFFORT_NONE"}
    elif thinking.get("type") == "adaptive" and "effort" in output_config:
        del options["thinking"]
        fields["reasoning"] = {
            "effort": f"REASONING_EFFORT_{output_config.pop('effort').upper()}",
            "includeReasoning": "display" in thinking,
        }
    if "format" in output_config:
        schema = orjson.dumps(output_config.pop("format")["schema"]).decode()
        fields["responseFormat"] = {"jsonSchema": {"jsonSchema": schema}}
    if output_config:
        options["output_config"] = output_config
    if options:
        fields["providerOptions"] = {"anthropic": options}
    return ParseDict(fields, CreateChatCompletionRequest())


def to_count_request(body: JsonObject) -> CountTokensRequest:
    """The same count in the contract's words."""
    return ParseDict(_conversation(body), CountTokensRequest())


def _conversation(body: JsonObject) -> JsonObject:
    messages: list[JsonObject] = []
    if body.get("system"):
        messages.append({"role": "ROLE_SYSTEM", "parts": _parts(body["system"])})
    for message in body["messages"]:
        messages += _turns(message)
    tools = [_tool(tool) for tool in body.get("tools", [])]
    return {"model": body["model"], "messages": messages, "tools": tools}


def _turns(message: JsonObject) -> list[JsonObject]:
    """One message of theirs: tool results are a turn of their own here."""
    if message["role"] != "user":
        return [{"role": f"ROLE_{message['role'].upper()}", "parts": _parts(message["content"])}]
    turns: list[JsonObject] = []
    for part in _parts(message["content"]):
        role = "ROLE_TOOL" if "toolResult" in part else "ROLE_USER"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "parts": []})
        turns[-1]["parts"].append(part)
    return turns


def _parts(content: Any) -> list[JsonObject]:
    if isinstance(content, str):
        return [{"text": {"text": content}}]
    return [_part(block) for block in content]


def _part(block: JsonObject) -> JsonObject:
    part = _kind(block)
    if "cache_control" in block and "provider" not in part:
        ttl = block["cache_control"].get("ttl")
        part["cacheControl"] = {"ttl": _TTL[ttl]} if ttl else {}
    return part


def _kind(block: JsonObject) -> JsonObject:
    match block["type"]:
        case "text":
            citations = [to_citation(cited) for cited in block.get("citations") or []]
            return {"text": {"text": block["text"], "citations": citations}}
        case "image":
            return {"image": {"source": _source(block["source"])}}
        case "document":
            return {
                "document": {
                    "source": _source(block["source"]),
                    "title": block.get("title", ""),
                    "context": block.get("context", ""),
                    "citationsEnabled": block.get("citations", {}).get("enabled", False),
                }
            }
        case "thinking":
            signature = _bytes("anthropic:" + block["signature"])
            return {"reasoning": {"text": block["thinking"]}, "providerSignature": signature}
        case "redacted_thinking":
            return {"reasoning": {"redactedData": _bytes("anthropic:" + block["data"])}}
        case "tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            call = {"toolCallId": block["id"], "toolName": block["name"], "arguments": arguments}
            return {"toolCall": call}
        case "tool_result":
            result = {"toolCallId": block["tool_use_id"], "isError": block.get("is_error", False)}
            return {"toolResult": {**result, "parts": _parts(block.get("content", []))}}
        case kind:
            text = orjson.dumps(block).decode()
            return {"provider": {"providerType": "anthropic", "blockType": kind, "blockJson": text}}


def to_citation(cited: JsonObject) -> JsonObject:
    """A citation as JSON of the contract."""
    kind = cited["type"]
    if kind in _UNITS:
        unit, start, end = _UNITS[kind]
        place = {"documentIndex": cited["document_index"], "unit": unit}
        return {
            "citedText": cited["cited_text"],
            "title": cited["document_title"] or "",
            "document": {**place, "start": cited[start], "end": cited[end]},
        }
    address = {"web_search_result_location": "url", "search_result_location": "source"}[kind]
    rest = {key: cited[key] for key in cited if key not in {address, "title", "cited_text"}}
    return {
        "citedText": cited["cited_text"],
        "title": cited["title"] or "",
        "uri": cited[address],
        "providerSignature": _bytes(orjson.dumps(rest).decode()),
    }


def _bytes(text: str) -> str:
    return b64encode(text.encode()).decode()


def _source(source: JsonObject) -> JsonObject:
    match source["type"]:
        case "base64":
            return {"inlineData": source["data"], "mimeType": source["media_type"]}
        case "text":
            return {"inlineText": source["data"]}
        case "url":
            return {"uri": source["url"]}
        case "file":
            return {"providerFileId": source["file_id"]}
        case kind:
            raise ValueError(f"no source for {kind}")


def _tool(tool: JsonObject) -> JsonObject:
    ours: JsonObject
    if tool.get("type", "custom") == "custom" and tool.keys() <= _FUNCTION_KEYS:
        ours = {
            "function": {
                "functionName": tool["name"],
                "description": tool.get("description", ""),
                "parametersJsonSchema": orjson.dumps(tool["input_schema"]).decode(),
                **({"strict": tool["strict"]} if "strict" in tool else {}),
            }
        }
    else:
        config = {key: value for key, value in tool.items() if key not in {"type", "cache_control"}}
        ours = {"provider": {"toolType": tool.get("type", "custom"), "config": config}}
    if "cache_control" in tool:
        ttl = tool["cache_control"].get("ttl")
        ours["cacheControl"] = {"ttl": _TTL[ttl]} if ttl else {}
    return ours


def _choice(choice: JsonObject) -> JsonObject:
    ours: JsonObject = {}
    match choice["type"]:
        case "auto" | "none" as mode:
            ours = {"mode": f"TOOL_CHOICE_MODE_{mode.upper()}"}
        case "any":
            ours = {"mode": "TOOL_CHOICE_MODE_REQUIRED"}
        case "tool":
            ours = {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": [choice["name"]]}
        case kind:
            raise ValueError(f"no choice for {kind}")
    if "disable_parallel_tool_use" in choice:
        ours["parallelToolCalls"] = not choice["disable_parallel_tool_use"]
    return ours
