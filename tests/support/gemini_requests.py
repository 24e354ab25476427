"""Turns a request in Gemini's format into ours: the reverse of what the gateway renders, for tests only."""

from base64 import b64encode, urlsafe_b64decode
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from tests.support.gemini_meaning import plain_request, to_json_schema

JsonObject = dict[str, Any]

_KNOBS = {
    "temperature": "temperature",
    "topP": "topP",
    "topK": "topK",
    "maxOutputTokens": "maxOutputTokens",
    "stopSequences": "stopSequences",
    "seed": "seed",
    "candidateCount": "choiceCount",
    "presencePenalty": "presencePenalty",
    "frequencyPenalty": "frequencyPenalty",
    "responseLogprobs": "logprobs",
    "logprobs": "topLogprobs",
}
_GENERATION_READ = {
    *_KNOBS,
    "responseModalities",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "thinkingConfig",
}
_READ = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
_MODES = {"AUTO": "AUTO", "ANY": "REQUIRED", "NONE": "NONE", "VALIDATED": "AUTO"}
_EFFORTS = {"MINIMAL": "MINIMAL", "LOW": "LOW", "MEDIUM": "MEDIUM", "HIGH": "HIGH"}
_TASKS = {"RETRIEVAL_QUERY": "EMBEDDING_TASK_QUERY", "RETRIEVAL_DOCUMENT": "EMBEDDING_TASK_DOCUMENT"}


def to_chat_request(body: JsonObject, model: str) -> CreateChatCompletionRequest:
    """The same request in the contract's words; what it has no word for goes into provider_options."""
    body = plain_request(body)
    generation = body.get("generationConfig", {})
    fields: JsonObject = {
        "model": model,
        "messages": _messages(body),
        "generationConfig": {
            ours: generation[theirs] for theirs, ours in _KNOBS.items() if theirs in generation
        },
    }
    if "responseModalities" in generation:
        fields["generationConfig"]["responseModalities"] = [
            f"MODALITY_{name}" for name in generation["responseModalities"]
        ]
    if "responseMimeType" in generation:
        fields["responseFormat"] = _response_format(generation)
    if "thinkingConfig" in generation:
        fields["reasoning"] = _reasoning(generation["thinkingConfig"])
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    fields["tools"] = _tools(body.get("tools", []), strict=calling.get("mode") == "VALIDATED")
    if calling:
        fields["toolChoice"] = {
            "mode": f"TOOL_CHOICE_MODE_{_MODES[calling['mode']]}",
            "allowedToolNames": calling.get("allowedFunctionNames", []),
        }
    options = {key: value for key, value in body.items() if key not in _READ}
    extra_generation = {key: value for key, value in generation.items() if key not in _GENERATION_READ}
    if extra_generation:
        options["generationConfig"] = extra_generation
    tool_config = {
        key: value for key, value in body.get("toolConfig", {}).items() if key != "functionCallingConfig"
    }
    if tool_config:
        options["toolConfig"] = tool_config
    if options:
        fields["providerOptions"] = {"google": options}
    return ParseDict(fields, CreateChatCompletionRequest())


def to_count_request(body: JsonObject, model: str) -> CountTokensRequest:
    """The same count in the contract's words."""
    body = plain_request(body.get("generateContentRequest", body))
    return ParseDict({"model": model, "messages": _messages(body)}, CountTokensRequest())


def to_embeddings_request(body: JsonObject, model: str) -> CreateEmbeddingsRequest:
    """The same batch in the contract's words: its requests differ in nothing but their content."""
    first = body["requests"][0]
    fields: JsonObject = {
        "model": model,
        "inputs": [_embedding_input(request["content"]["parts"]) for request in body["requests"]],
    }
    if "outputDimensionality" in first:
        fields["dimensions"] = first["outputDimensionality"]
    if "taskType" in first:
        fields["task"] = _TASKS[first["taskType"]]
    return ParseDict(fields, CreateEmbeddingsRequest())


def _embedding_input(parts: list[JsonObject]) -> JsonObject:
    if len(parts) == 1:
        return {"text": parts[0]["text"]}
    return {"content": {"parts": [{"text": {"text": part["text"]}} for part in parts]}}


def _messages(body: JsonObject) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if "systemInstruction" in body:
        texts = [{"text": {"text": part["text"]}} for part in body["systemInstruction"]["parts"]]
        messages.append({"role": "ROLE_SYSTEM", "parts": texts})
    open_calls: list[tuple[str, str]] = []
    for turn, content in enumerate(body["contents"]):
        if content["role"] == "model":
            open_calls.clear()
            parts = [
                _answer_part(part, turn, number, open_calls) for number, part in enumerate(content["parts"])
            ]
            messages.append({"role": "ROLE_ASSISTANT", "parts": parts})
            continue
        for part in content["parts"]:
            role, ours = _asked_part(part, open_calls)
            if messages and messages[-1]["role"] == role:
                messages[-1]["parts"].append(ours)
            else:
                messages.append({"role": role, "parts": [ours]})
    return messages


def _answer_part(part: JsonObject, turn: int, number: int, open_calls: list[tuple[str, str]]) -> JsonObject:
    ours: JsonObject
    if "functionCall" in part:
        call = part["functionCall"]
        # One that the provider gave no id has one of ours.
        call_id = call.get("id") or f"aigw_turn{turn}_0_{number}"
        open_calls.append((call_id, call["name"]))
        arguments = orjson.dumps(call.get("args", {})).decode()
        ours = {"toolCall": {"toolCallId": call_id, "toolName": call["name"], "arguments": arguments}}
    elif part.get("thought"):
        ours = {"reasoning": {"text": part["text"], "isSummary": True}}
    elif "text" in part:
        ours = {"text": {"text": part["text"]}}
    else:
        raise ValueError(f"no part for {list(part)}")
    if "thoughtSignature" in part:
        ours["providerSignature"] = b64encode(b"gemini:" + part["thoughtSignature"].encode()).decode()
    return ours


def _asked_part(part: JsonObject, open_calls: list[tuple[str, str]]) -> tuple[str, JsonObject]:
    if "functionResponse" not in part:
        return "ROLE_USER", _input_part(part)
    result = part["functionResponse"]
    call_id = result.get("id")
    if call_id is None:
        # Matched by name and order.
        place = next(place for place, (_, name) in enumerate(open_calls) if name == result["name"])
        call_id, _ = open_calls.pop(place)
    parts = [_input_part(medium) for medium in result.get("parts", [])]
    if result["response"] or not parts:
        parts.insert(0, {"text": {"text": orjson.dumps(result["response"]).decode()}})
    return "ROLE_TOOL", {"toolResult": {"toolCallId": call_id, "parts": parts}}


def _input_part(part: JsonObject) -> JsonObject:
    if "text" in part:
        return {"text": {"text": part["text"]}}
    if "inlineData" in part:
        source = {
            "inlineData": b64encode(urlsafe_b64decode(_url_safe(part["inlineData"]["data"]))).decode(),
            "mimeType": part["inlineData"]["mimeType"],
        }
    else:
        source = {"uri": part["fileData"]["fileUri"], "mimeType": part["fileData"]["mimeType"]}
    kind = source["mimeType"].partition("/")[0]
    return {kind if kind in {"image", "audio", "video"} else "document": {"source": source}}


def _url_safe(data: str) -> str:
    return data.replace("+", "-").replace("/", "_")


def _response_format(generation: JsonObject) -> JsonObject:
    schema = generation.get("responseJsonSchema", generation.get("responseSchema"))
    if schema is None:
        return {"jsonObject": {}}
    return {"jsonSchema": {"jsonSchema": orjson.dumps(to_json_schema(schema)).decode()}}


def _reasoning(thinking: JsonObject) -> JsonObject:
    ours: JsonObject = {"includeReasoning": thinking.get("includeThoughts", False)}
    if "thinkingBudget" in thinking:
        ours["budgetTokens"] = thinking["thinkingBudget"]
    if "thinkingLevel" in thinking:
        ours["effort"] = f"REASONING_EFFORT_{_EFFORTS[thinking['thinkingLevel']]}"
    return ours


def _tools(tools: list[JsonObject], *, strict: bool) -> list[JsonObject]:
    ours: list[JsonObject] = []
    for tool in tools:
        for name, value in tool.items():
            if name == "functionDeclarations":
                ours += [{"function": _function(function, strict=strict)} for function in value]
            else:
                ours.append({"provider": {"toolType": name, "config": value}})
    return ours


def _function(function: JsonObject, *, strict: bool) -> JsonObject:
    ours: JsonObject = {"functionName": function["name"], "description": function["description"] or ""}
    schema = function.get("parametersJsonSchema", function.get("parameters"))
    if schema is not None:
        ours["parametersJsonSchema"] = orjson.dumps(to_json_schema(schema)).decode()
    if strict:
        ours["strict"] = True
    return ours
