"""A second, plain reading of Anthropic's answers, to compare the adapter with: no cleverness.

``read_whole`` and ``read_stream`` read what the provider said; ``read_completion`` says what we made of it.
"""

import json
from typing import Any

from aigateway.v1.chat_service_pb2 import ChatCompletion, FinishReason
from aigateway.v1.content_pb2 import Citation, ContentPart, LocationUnit

JsonObject = dict[str, Any]

_FINISH = {
    "end_turn": "FINISH_REASON_STOP",
    "max_tokens": "FINISH_REASON_MAX_OUTPUT_TOKENS",
    "stop_sequence": "FINISH_REASON_STOP_SEQUENCE",
    "tool_use": "FINISH_REASON_TOOL_CALLS",
    "refusal": "FINISH_REASON_REFUSAL",
    "pause_turn": "FINISH_REASON_PAUSE",
    "model_context_window_exceeded": "FINISH_REASON_CONTEXT_WINDOW",
}
_PLACES = {
    "char_location": ("LOCATION_UNIT_CHARACTER", "start_char_index", "end_char_index"),
    "page_location": ("LOCATION_UNIT_PAGE", "start_page_number", "end_page_number"),
    "content_block_location": ("LOCATION_UNIT_BLOCK", "start_block_index", "end_block_index"),
}


def read_whole(answer: JsonObject) -> JsonObject:
    """What an answer says."""
    parts = [_read_block(block) for block in answer["content"]]
    details = answer.get("stop_details")
    if details:
        parts.append(["refusal", details["explanation"], details["category"]])
    return {
        "id": answer["id"],
        "model": answer["model"],
        "parts": parts,
        "finish": (_FINISH[answer["stop_reason"]], answer["stop_reason"], answer["stop_sequence"] or ""),
        "usage": _read_usage(answer["usage"]),
    }


def read_stream(body: str) -> JsonObject:
    """What a stream says, put together as its whole answer first."""
    answer: JsonObject = {}
    for line in body.split("\n"):
        if not line.startswith("data: "):
            continue
        event = json.loads(line[6:])
        match event["type"]:
            case "message_start":
                answer = event["message"]
            case "content_block_start":
                answer["content"].append(event["content_block"])
            case "content_block_delta":
                _grow(answer["content"][event["index"]], event["delta"])
            case "message_delta":
                answer |= event["delta"]
                for key, value in event["usage"].items():
                    if value is not None:
                        answer["usage"][key] = value
    for block in answer["content"]:
        if "pieces" in block:
            block["input"] = json.loads(block.pop("pieces") or "{}")
    return read_whole(answer)


def _grow(block: JsonObject, delta: JsonObject) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "input_json_delta":
            block["pieces"] = block.get("pieces", "") + delta["partial_json"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        case kind:
            raise ValueError(f"no reading for {kind}")


def _read_block(block: JsonObject) -> list[Any]:
    match block["type"]:
        case "text":
            return ["text", block["text"], [_read_cited(cited) for cited in block.get("citations") or []]]
        case "thinking":
            return ["thought", block["thinking"], block["signature"]]
        case "redacted_thinking":
            return ["sealed", block["data"]]
        case "tool_use":
            return ["call", block["id"], block["name"], block["input"]]
        case kind:
            return ["block", kind, block]


def _read_cited(cited: JsonObject) -> list[Any]:
    if cited["type"] in _PLACES:
        unit, start, end = _PLACES[cited["type"]]
        place = [unit, cited["document_index"], cited[start], cited[end]]
        return [cited["cited_text"], cited["document_title"] or "", place]
    return [cited["cited_text"], cited["title"] or "", cited.get("url") or cited["source"]]


def _read_usage(usage: JsonObject) -> dict[str, int]:
    fresh, read = usage["input_tokens"], usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    return {
        "input": fresh + read + written,
        "output": usage["output_tokens"],
        "total": fresh + read + written + usage["output_tokens"],
        "cached": read,
        "written": written,
        "written_long": (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0),
        "reasoning": (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
    }


def read_completion(completion: ChatCompletion) -> JsonObject:
    """What a completion says, in the same words."""
    (choice,) = completion.choices
    usage = completion.usage
    return {
        "id": completion.served_by.provider_response_id,
        "model": completion.served_by.provider_model,
        "parts": [_read_part(part) for part in choice.message.parts],
        "finish": (
            FinishReason.Name(choice.finish.reason),
            choice.finish.provider_reason,
            choice.finish.stop_sequence,
        ),
        "usage": {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "total": usage.total_tokens,
            "cached": usage.cache_read_input_tokens,
            "written": usage.cache_write_input_tokens,
            "written_long": usage.cache_write_long_input_tokens,
            "reasoning": usage.reasoning_output_tokens,
        },
    }


def _unseal(kept: bytes) -> str:
    """What was sealed, without the mark by which the gateway knows whose it is."""
    assert not kept or kept.startswith(b"anthropic:")
    return kept.removeprefix(b"anthropic:").decode()


def _read_part(part: ContentPart) -> list[Any]:
    match part.WhichOneof("kind"):
        case "text":
            return ["text", part.text.text, [_read_citation(citation) for citation in part.text.citations]]
        case "reasoning" if part.reasoning.redacted_data:
            return ["sealed", _unseal(part.reasoning.redacted_data)]
        case "reasoning":
            return ["thought", part.reasoning.text, _unseal(part.provider_signature)]
        case "tool_call":
            call = part.tool_call
            return ["call", call.tool_call_id, call.tool_name, json.loads(call.arguments)]
        case "refusal":
            return ["refusal", part.refusal.text, part.refusal.category]
        case "provider":
            return ["block", part.provider.block_type, json.loads(part.provider.block_json)]
        case kind:
            raise ValueError(f"no reading for {kind}")


def _read_citation(citation: Citation) -> list[Any]:
    place: Any = citation.uri
    if citation.HasField("document"):
        document = citation.document
        unit = LocationUnit.Name(document.unit)
        place = [unit, document.document_index, document.start, document.end]
    return [citation.cited_text, citation.title, place]
