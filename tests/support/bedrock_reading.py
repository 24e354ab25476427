"""A second, plain reading of Converse's answers, to compare the adapter with: no protos, no cleverness."""

import json
from typing import Any

JsonObject = dict[str, Any]

_FINISH = {
    "end_turn": "FINISH_REASON_STOP",
    "tool_use": "FINISH_REASON_TOOL_CALLS",
    "max_tokens": "FINISH_REASON_MAX_OUTPUT_TOKENS",
    "guardrail_intervened": "FINISH_REASON_CONTENT_FILTER",
}


def read_whole(answer: JsonObject, model: str) -> JsonObject:
    """What an answer says."""
    text, reasoning, calls = "", "", []
    for block in answer["output"]["message"]["content"]:
        text += block.get("text", "")
        for piece in block.get("citationsContent", {}).get("content", []):
            text += piece["text"]
        reasoning += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        call = block.get("toolUse", {"type": "server_tool_use"})
        if call.get("type") != "server_tool_use":
            calls.append((call["toolUseId"], call["name"], json.dumps(call["input"])))
    return _reading(model, text, reasoning, calls, answer["stopReason"], answer["usage"])


def read_events(events: list[JsonObject], model: str) -> JsonObject:
    """What the events of a stream say, each an object with one key: its kind."""
    text, reasoning, stop, usage = "", "", "", None
    calls: dict[int, list[str]] = {}
    for event in events:
        [(kind, payload)] = event.items()
        delta = payload.get("delta", {}) if kind == "contentBlockDelta" else {}
        text += delta.get("text", "")
        reasoning += delta.get("reasoningContent", {}).get("text", "")
        index = payload.get("contentBlockIndex", -1)
        if (
            kind == "contentBlockStart"
            and payload["start"].get("toolUse", {}).get("type") != "server_tool_use"
        ):
            if call := payload["start"].get("toolUse"):
                calls[index] = [call["toolUseId"], call["name"], ""]
        elif "toolUse" in delta and index in calls:
            calls[index][2] += delta["toolUse"].get("input", "")
        elif kind == "messageStop":
            stop = payload["stopReason"]
        elif kind == "metadata":
            usage = payload["usage"]
    read = [(call_id, name, json.dumps(json.loads(text or "{}"))) for call_id, name, text in calls.values()]
    return _reading(model, text, reasoning, read, stop, usage)


def _reading(
    model: str,
    text: str,
    reasoning: str,
    calls: list[tuple[str, str, str]],
    stop: str,
    usage: JsonObject | None,
) -> JsonObject:
    finish = _FINISH[stop]
    if finish == "FINISH_REASON_STOP" and calls:
        finish = "FINISH_REASON_TOOL_CALLS"
    return {
        "id": "",
        "model": model,
        "choices": [
            {
                "text": text,
                "reasoning": reasoning,
                "refusal": "",
                "calls": calls,
                "finish": finish,
                "provider_reason": stop,
                "tokens": [],
            }
        ],
        "usage": None if usage is None else _read_usage(usage),
    }


def _read_usage(usage: JsonObject) -> JsonObject:
    cached = usage.get("cacheReadInputTokens", 0)
    return {
        "input": usage["inputTokens"] + cached + usage.get("cacheWriteInputTokens", 0),
        "output": usage["outputTokens"],
        "total": usage["totalTokens"],
        "cached": cached,
        "reasoning": 0,
    }
