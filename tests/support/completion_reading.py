"""What a ChatCompletion says, in the plain words of ``openai_reading``."""

from typing import Any

from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice, FinishReason
from aigateway.v1.usage_pb2 import TokenUsage


def read_completion(completion: ChatCompletion) -> dict[str, Any]:
    return {
        "id": completion.served_by.provider_response_id,
        "model": completion.served_by.provider_model,
        "choices": [_read_choice(choice) for choice in completion.choices],
        "usage": read_usage(completion.usage) if completion.HasField("usage") else None,
    }


def read_usage(usage: TokenUsage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "total": usage.total_tokens,
        "cached": usage.cache_read_input_tokens,
        "reasoning": usage.reasoning_output_tokens,
    }


def _read_choice(choice: Choice) -> dict[str, Any]:
    parts = choice.message.parts
    calls = [part.tool_call for part in parts if part.HasField("tool_call")]
    return {
        "text": "".join(part.text.text for part in parts),
        "reasoning": "".join(part.reasoning.text for part in parts),
        "refusal": "".join(part.refusal.text for part in parts),
        "calls": [(call.tool_call_id, call.tool_name, call.arguments) for call in calls],
        "finish": FinishReason.Name(choice.finish.reason),
        "provider_reason": choice.finish.provider_reason,
        "tokens": [
            (token.token, round(token.logprob, 6), len(token.top_logprobs)) for token in choice.logprobs
        ],
    }
