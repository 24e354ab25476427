"""A second, plain reading of Gemini's answers, to compare the adapter with: no protos, no cleverness."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice, FinishReason
from aigateway.v1.content_pb2 import ContentPart
from tests.support.completion_reading import read_usage

JsonObject = dict[str, Any]

#: Finish reasons in the contract's words where there are no calls.
_FINISH = {
    "STOP": "FINISH_REASON_STOP",
    "MAX_TOKENS": "FINISH_REASON_MAX_OUTPUT_TOKENS",
    "SAFETY": "FINISH_REASON_CONTENT_FILTER",
}


def read_whole(answer: JsonObject) -> JsonObject:
    """What an answer says."""
    return {
        "id": answer.get("responseId", ""),
        "model": answer["modelVersion"],
        "choices": [
            _choice([_part(part) for part in candidate["content"].get("parts", [])], candidate)
            for candidate in answer["candidates"]
        ],
        "usage": _usage(answer["usageMetadata"]),
    }


def read_stream(body: str) -> JsonObject:
    """What a stream says: neighbouring texts without a signature are one, and the last usage counts."""
    chunks = [json.loads(line[6:]) for line in body.split("\r\n") if line]
    parts: list[list[Any]] = []
    last: JsonObject = {}
    growing = False
    for chunk in chunks:
        [candidate] = chunk["candidates"]
        last |= {key: value for key, value in candidate.items() if value}
        for part in candidate.get("content", {}).get("parts", []):
            if growing:
                _grow(parts[-1], part["functionCall"])
                growing = "willContinue" in part["functionCall"]
                continue
            growing = "willContinue" in part.get("functionCall", {})
            read = _part(part)
            # A signature makes a part of its own, in which the text around it is not.
            goes_on = parts and parts[-1][0] == read[0] and parts[-1][-1] is None and read[-1] is None
            if goes_on and read[0] in {"text", "reasoning"}:
                parts[-1][1] += read[1]
            else:
                parts.append(read)
    return {
        "id": chunks[0].get("responseId", ""),
        "model": chunks[0]["modelVersion"],
        "choices": [_choice(parts, last)],
        "usage": _usage(chunks[-1]["usageMetadata"]),
    }


def read_completion(completion: ChatCompletion) -> JsonObject:
    """What a ChatCompletion says, in the words of the two above."""
    return {
        "id": completion.served_by.provider_response_id,
        "model": completion.served_by.provider_model,
        "choices": [_our_choice(choice) for choice in completion.choices],
        "usage": read_usage(completion.usage),
    }


def _part(part: JsonObject) -> list[Any]:
    signature = part.get("thoughtSignature")
    if "text" in part:
        return ["reasoning" if part.get("thought") else "text", part["text"], signature]
    if "functionCall" in part:
        call = part["functionCall"]
        arguments = "" if call.get("willContinue") else call.get("args", {})
        return ["call", call.get("id"), call.get("name"), arguments, signature]
    return ["block", part]


def _grow(call: list[Any], piece: JsonObject) -> None:
    """Joins the pieces of a call: here all are of texts at the top of its arguments."""
    for argument in piece.get("partialArgs", []):
        key = argument["jsonPath"].removeprefix("$.")
        start = call[-2] or f'{{"{key}": "'
        call[-2] = start + argument["stringValue"] + ("" if argument.get("willContinue") else '"}')
    if not piece.get("willContinue"):
        call[-2] = json.loads(call[-2])


def _choice(parts: list[list[Any]], candidate: JsonObject) -> JsonObject:
    finish = _FINISH[candidate["finishReason"]]
    if finish == "FINISH_REASON_STOP" and any(part[0] == "call" for part in parts):
        finish = "FINISH_REASON_TOOL_CALLS"
    known = {"content", "finishReason", "index"}
    return {
        "parts": [part for part in parts if part != ["text", "", None]],
        "finish": finish,
        "provider_reason": candidate["finishReason"],
        "more": {key: value for key, value in candidate.items() if key not in known and value},
    }


def _usage(usage: JsonObject) -> JsonObject:
    reasoning = usage.get("thoughtsTokenCount", 0)
    read = {
        "input": usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0),
        "output": usage.get("candidatesTokenCount", 0) + reasoning,
        "cached": usage.get("cachedContentTokenCount", 0),
        "reasoning": reasoning,
    }
    return {**read, "total": usage.get("totalTokenCount", read["input"] + read["output"])}


def _our_choice(choice: Choice) -> JsonObject:
    return {
        "parts": [_our_part(part) for part in choice.message.parts],
        "finish": FinishReason.Name(choice.finish.reason),
        "provider_reason": choice.finish.provider_reason,
        "more": MessageToDict(choice.provider_metadata),
    }


def _our_part(part: ContentPart) -> list[Any]:
    signature = part.provider_signature.decode().removeprefix("gemini:") or None
    match part.WhichOneof("kind"):
        case "text":
            return ["text", part.text.text, signature]
        case "reasoning":
            assert part.reasoning.is_summary
            return ["reasoning", part.reasoning.text, signature]
        case "tool_call":
            call = part.tool_call
            call_id = None if call.tool_call_id.startswith("aigw_") else call.tool_call_id
            return ["call", call_id, call.tool_name, json.loads(call.arguments), signature]
        case "provider":
            assert part.provider.provider_type == "google"
            return ["block", json.loads(part.provider.block_json)]
        case kind:
            raise AssertionError(f"no recording has {kind}")
