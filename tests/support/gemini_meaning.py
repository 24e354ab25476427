"""What a request in Gemini's format means: two that differ only in spelling are equal here.

Each difference that is taken away is counted under its name, so that a test can say how often it occurred.
"""

from collections import Counter
from typing import Any

JsonObject = dict[str, Any]

#: The differences, and why they change nothing.
DIFFERENCES = {
    "snake_case": "the server takes both spellings of a name; we send the one that its answers have",
    "a thing for a list of one": "the server takes it; we send the list",
    "role of the instruction": "has no meaning",
    "neighbouring contents of one role": "mean one content, as far as anybody can tell; we join only results",
    "description null": "is taken as none; the description of the API wants it, so we send it empty",
    "schema in OpenAPI's words": "is the same as JSON Schema with types in lower case, as which we send it",
    "lower-case mode": "is taken as the upper-case one",
    "empty generationConfig": "is as none",
    "base64 for addresses": "is taken as the usual one",
    "contents beside a request": "a count takes either; only the request has room for instructions and tools",
    "model in a count": "repeats the model of the address",
}

#: Names of the format in the spelling that its answers have; what is below is not of the format.
_FOREIGN = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}
_SCHEMAS = {"parameters", "responseSchema"}


def chat_meaning(body: JsonObject, notes: Counter[str] | None = None) -> JsonObject:
    """The meaning of a request."""
    notes = Counter() if notes is None else notes
    meaning = plain_request(body, notes)
    contents: list[JsonObject] = []
    for content in meaning["contents"]:
        parts = [_part(part, notes) for part in content["parts"]]
        if contents and contents[-1]["role"] == content["role"]:
            notes["neighbouring contents of one role"] += 1
            contents[-1]["parts"] += parts
        else:
            contents.append({**content, "parts": parts})
    meaning["contents"] = contents
    if "tools" in meaning:
        meaning["tools"] = [_tool(tool, notes) for tool in meaning["tools"]]
    generation = dict(meaning.get("generationConfig", {}))
    if "responseSchema" in generation:
        notes["schema in OpenAPI's words"] += 1
        generation["responseJsonSchema"] = to_json_schema(generation.pop("responseSchema"))
    meaning.pop("generationConfig", None)
    if generation:
        meaning["generationConfig"] = generation
    elif "generationConfig" in body:
        notes["empty generationConfig"] += 1
    return meaning


def count_meaning(body: JsonObject, notes: Counter[str] | None = None) -> JsonObject:
    """The meaning of a count."""
    notes = Counter() if notes is None else notes
    request = body.get("generateContentRequest")
    if request is None:
        notes["contents beside a request"] += 1
        request = body
    elif "model" in request:
        notes["model in a count"] += 1
        request = {key: value for key, value in request.items() if key != "model"}
    return chat_meaning(request, notes)


def plain_request(body: JsonObject, notes: Counter[str] | None = None) -> JsonObject:
    """The request with names in one spelling and lists where there are lists."""
    notes = Counter() if notes is None else notes
    plain: JsonObject = _rename(body, notes)
    instruction = plain.get("systemInstruction")
    if instruction is not None:
        if "role" in instruction:
            notes["role of the instruction"] += 1
        plain["systemInstruction"] = {"parts": _as_list(instruction["parts"], notes)}
    plain["contents"] = [
        {"role": content.get("role", "user"), "parts": _as_list(content["parts"], notes)}
        for content in plain["contents"]
    ]
    if "tools" in plain:
        plain["tools"] = _as_list(plain["tools"], notes)
    calling = plain.get("toolConfig", {}).get("functionCallingConfig")
    if calling and not calling["mode"].isupper():
        notes["lower-case mode"] += 1
        calling["mode"] = calling["mode"].upper()
    return plain


def to_json_schema(schema: Any) -> Any:
    """A schema in OpenAPI's words as JSON Schema."""
    if isinstance(schema, dict):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else to_json_schema(value)
            for key, value in schema.items()
        }
    return [to_json_schema(item) for item in schema] if isinstance(schema, list) else schema


def _rename(value: Any, notes: Counter[str]) -> Any:
    if isinstance(value, list):
        return [_rename(item, notes) for item in value]
    if not isinstance(value, dict):
        return value
    renamed: JsonObject = {}
    for key, item in value.items():
        head, *rest = key.split("_")
        name = head + "".join(word.capitalize() for word in rest)
        notes["snake_case"] += name != key
        renamed[name] = item if name in _FOREIGN | _SCHEMAS else _rename(item, notes)
    return renamed


def _as_list(value: Any, notes: Counter[str]) -> list[Any]:
    if isinstance(value, list):
        return value
    notes["a thing for a list of one"] += 1
    return [value]


def _part(part: JsonObject, notes: Counter[str]) -> JsonObject:
    meaning = dict(part)
    if "inlineData" in part:
        blob = part["inlineData"]
        meaning["inlineData"] = {**blob, "data": _usual(blob["data"], notes)}
    if "thoughtSignature" in part:
        meaning["thoughtSignature"] = _usual(part["thoughtSignature"], notes)
    if "parts" in part.get("functionResponse", {}):
        response = part["functionResponse"]
        media = [_part(medium, notes) for medium in response["parts"]]
        meaning["functionResponse"] = {**response, "parts": media}
    return meaning


def _usual(data: str, notes: Counter[str]) -> str:
    usual = data.replace("-", "+").replace("_", "/")
    notes["base64 for addresses"] += usual != data
    return usual


def _tool(tool: JsonObject, notes: Counter[str]) -> JsonObject:
    if "functionDeclarations" not in tool:
        return tool
    return {"functionDeclarations": [_function(function, notes) for function in tool["functionDeclarations"]]}


def _function(function: JsonObject, notes: Counter[str]) -> JsonObject:
    meaning = dict(function)
    if meaning["description"] is None:
        notes["description null"] += 1
        meaning["description"] = ""
    if "parameters" in meaning:
        notes["schema in OpenAPI's words"] += 1
        meaning["parametersJsonSchema"] = to_json_schema(meaning.pop("parameters"))
    return meaning
