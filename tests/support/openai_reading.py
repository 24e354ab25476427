"""A second, plain reading of OpenAI's answers, to compare the adapter with: no protos, no cleverness."""

import json
from typing import Any

JsonObject = dict[str, Any]

#: Finish reasons in the contract's words where there are no calls and no refusal.
_FINISH = {
    "stop": "FINISH_REASON_STOP",
    "length": "FINISH_REASON_MAX_OUTPUT_TOKENS",
    "content_filter": "FINISH_REASON_CONTENT_FILTER",
    "tool_calls": "FINISH_REASON_STOP",
    "function_call": "FINISH_REASON_STOP",
}


def read_whole(answer: JsonObject) -> JsonObject:
    """What an answer says."""
    return {
        "id": answer["id"],
        "model": answer["model"],
        # Azure leaves the message of a filtered answer out.
        "choices": [_read_choice(choice, choice.get("message", {})) for choice in answer["choices"]],
        "usage": _read_usage(answer.get("usage")),
    }


def read_stream(body: str) -> JsonObject:
    """What a stream says, put together first."""
    chunks = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]
    # Azure's first chunk is about the prompt and has neither id nor model.
    answering = next(chunk for chunk in chunks if chunk["choices"])
    choices: dict[int, JsonObject] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"tokens": [], "calls": {}, "message": {}})
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            choice["stop_reason"] = part.get("stop_reason")
            choice["tokens"] += (part.get("logprobs") or {}).get("content") or []
            for key in ("content", "refusal", "reasoning", "reasoning_content"):
                if part["delta"].get(key):
                    choice["message"][key] = choice["message"].get(key, "") + part["delta"][key]
            for piece in part["delta"].get("tool_calls") or []:
                call = choice["calls"].setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.get("id") or ""
                call["name"] += piece["function"].get("name") or ""
                call["arguments"] += piece["function"].get("arguments") or ""
    return {
        "id": answering["id"],
        "model": answering["model"],
        "choices": [
            _read_choice(
                {**choice, "logprobs": {"content": choice["tokens"]}},
                {
                    **choice["message"],
                    "tool_calls": [
                        {"id": call["id"], "function": call} for _, call in sorted(choice["calls"].items())
                    ],
                },
            )
            for _, choice in sorted(choices.items())
        ],
        "usage": _read_usage(usage),
    }


def _read_choice(choice: JsonObject, message: JsonObject) -> JsonObject:
    calls = [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or []
    ]
    if message.get("function_call"):
        calls = [("call_0_0", message["function_call"]["name"], message["function_call"]["arguments"])]
    finish = _FINISH[choice["finish_reason"]]
    if finish == "FINISH_REASON_STOP":
        if calls:
            finish = "FINISH_REASON_TOOL_CALLS"
        elif message.get("refusal"):
            finish = "FINISH_REASON_REFUSAL"
        elif isinstance(choice.get("stop_reason"), str):
            finish = "FINISH_REASON_STOP_SEQUENCE"
    return {
        "text": message.get("content") or "",
        "reasoning": message.get("reasoning") or message.get("reasoning_content") or "",
        "refusal": message.get("refusal") or "",
        "calls": calls,
        "finish": finish,
        "provider_reason": choice["finish_reason"],
        "tokens": [
            (token["token"], round(token["logprob"], 6), len(token["top_logprobs"]))
            for token in (choice.get("logprobs") or {}).get("content") or []
        ],
    }


def _read_usage(usage: JsonObject | None) -> JsonObject | None:
    if usage is None:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    # Foundry's Grok tells of more tokens read from the cache than it tells for the whole prompt.
    input_tokens = max(usage["prompt_tokens"], cached)
    return {
        "input": input_tokens,
        "output": usage.get("completion_tokens", 0),
        "total": usage["total_tokens"] + input_tokens - usage["prompt_tokens"],
        "cached": cached,
        "reasoning": reasoning,
    }
