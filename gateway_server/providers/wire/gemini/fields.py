"""Fields that whole and streamed answers share."""

from typing import Final

from aigateway.v1.chat_service_pb2 import Finish, FinishReason, TokenLogprob
from aigateway.v1.usage_pb2 import Modality, TokenUsage, UsageState
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_count,
    get_list,
    get_object,
    get_text,
)

#: What is read into fields of its own; everything else is handed on as metadata.
ANSWER_KEYS: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "error"})
CANDIDATE_KEYS: Final = frozenset({"content", "finishReason", "index", "logprobsResult"})
_USAGE_KEYS: Final = frozenset(
    {
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "cachedContentTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "promptTokensDetails",
        "toolUsePromptTokensDetails",
        "candidatesTokensDetails",
    }
)

#: Choices of one request are at most 128; a larger index would only cost memory.
MAX_CHOICES: Final = 128

# Looked up once: an enum takes half a microsecond to find a value.
_STOP: Final = FinishReason.FINISH_REASON_STOP
_TOOL_CALLS: Final = FinishReason.FINISH_REASON_TOOL_CALLS
_CONTENT_FILTER: Final = FinishReason.FINISH_REASON_CONTENT_FILTER
_MALFORMED_TOOL_CALL: Final = FinishReason.FINISH_REASON_MALFORMED_TOOL_CALL
_OTHER: Final = FinishReason.FINISH_REASON_OTHER
_FINISH_REASONS: Final = {
    "STOP": _STOP,
    "MAX_TOKENS": FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS,
    "SAFETY": _CONTENT_FILTER,
    "RECITATION": _CONTENT_FILTER,
    "BLOCKLIST": _CONTENT_FILTER,
    "PROHIBITED_CONTENT": _CONTENT_FILTER,
    "SPII": _CONTENT_FILTER,
    "IMAGE_SAFETY": _CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": _CONTENT_FILTER,
    "IMAGE_RECITATION": _CONTENT_FILTER,
    "MODEL_ARMOR": _CONTENT_FILTER,
    "MALFORMED_FUNCTION_CALL": _MALFORMED_TOOL_CALL,
    # A call although there are no tools.
    "UNEXPECTED_TOOL_CALL": _MALFORMED_TOOL_CALL,
}
_PROVIDER_REPORTED: Final = UsageState.USAGE_STATE_PROVIDER_REPORTED
_ESTIMATED: Final = UsageState.USAGE_STATE_ESTIMATED
_TEXT: Final = Modality.MODALITY_TEXT
_MODALITIES: Final[dict[str, Modality.ValueType]] = {
    "TEXT": _TEXT,
    "IMAGE": Modality.MODALITY_IMAGE,
    "AUDIO": Modality.MODALITY_AUDIO,
    "VIDEO": Modality.MODALITY_VIDEO,
    "DOCUMENT": Modality.MODALITY_DOCUMENT,
}


def read_index(candidate: JsonObject, *, default: int) -> int:
    """The index of a candidate; the first is often left out."""
    index = candidate.get("index")
    if index is None:
        return default
    if type(index) is not int or not 0 <= index < MAX_CHOICES:
        raise MalformedAnswerError("candidates[].index is not an index")
    return index


def read_finish(reason: str, *, has_tool_calls: bool) -> Finish:
    """How an answer ended. A stop sequence that matched is not told."""
    finish = Finish(provider_reason=reason)
    finish.reason = _FINISH_REASONS.get(reason, _OTHER)
    if finish.reason == _STOP and has_tool_calls:
        finish.reason = _TOOL_CALLS
    return finish


def blocked_finish(block_reason: str) -> Finish:
    """How an answer ended that was not given, or not to its end, for what the prompt says."""
    return Finish(reason=_CONTENT_FILTER, provider_reason=block_reason)


def read_block_reason(answer: JsonObject) -> str:
    """Why the prompt was refused; empty when it was not."""
    feedback = get_object(answer, "promptFeedback", "answer")
    return "" if feedback is None else get_text(feedback, "blockReason", "answer.promptFeedback")


def read_usage(usage: JsonObject) -> TokenUsage:
    """The usage in the contract's meaning: what tools read is input, thoughts are output."""
    cache_read = get_count(usage, "cachedContentTokenCount", "usageMetadata")
    reasoning = get_count(usage, "thoughtsTokenCount", "usageMetadata")
    input_tokens = get_count(usage, "promptTokenCount", "usageMetadata")
    input_tokens += get_count(usage, "toolUsePromptTokenCount", "usageMetadata")
    # A part cannot be larger than its whole.
    input_tokens = max(input_tokens, cache_read)
    output_tokens = get_count(usage, "candidatesTokenCount", "usageMetadata") + reasoning
    read = TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        cache_read_input_tokens=cache_read,
        reasoning_output_tokens=reasoning,
        # Answers to prompts with media by address may not tell what was read: no cost of them is exact.
        state=_PROVIDER_REPORTED if "promptTokenCount" in usage else _ESTIMATED,
    )
    inputs = _read_modalities(usage, "promptTokensDetails", "toolUsePromptTokensDetails")
    for modality, tokens in inputs.items():
        read.input_by_modality.add(modality=modality, tokens=tokens)
    outputs = _read_modalities(usage, "candidatesTokensDetails")
    if outputs and reasoning:
        # Thoughts are text, and not among the candidates' tokens.
        outputs[_TEXT] = outputs.get(_TEXT, 0) + reasoning
    for modality, tokens in outputs.items():
        read.output_by_modality.add(modality=modality, tokens=tokens)
    return read


def _read_modalities(usage: JsonObject, *keys: str) -> dict[Modality.ValueType, int]:
    """Tokens by modality, summed over some lists of counts; unknown modalities are left out."""
    counts: dict[Modality.ValueType, int] = {}
    for key in keys:
        for item in get_list(usage, key, "usageMetadata"):
            count = as_object(item, f"usageMetadata.{key}[]")
            modality = _MODALITIES.get(get_text(count, "modality", f"usageMetadata.{key}[]"))
            if modality is not None:
                tokens = get_count(count, "tokenCount", f"usageMetadata.{key}[]")
                counts[modality] = counts.get(modality, 0) + tokens
    return counts


def take_usage(usage: JsonObject | None, extras: JsonObject) -> TokenUsage | None:
    """The usage, if it was told; what of it has no field in the contract goes to the extras."""
    if usage is None:
        return None
    if rest := {key: value for key, value in usage.items() if key not in _USAGE_KEYS and value}:
        extras["usageMetadata"] = rest
    return read_usage(usage)


def read_logprobs(candidate: JsonObject, where: str) -> list[TokenLogprob]:
    """The log probabilities of a candidate."""
    result = get_object(candidate, "logprobsResult", where)
    if result is None:
        return []
    at = f"{where}.logprobsResult"
    chosen = get_list(result, "chosenCandidates", at)
    likeliest = get_list(result, "topCandidates", at)
    tokens: list[TokenLogprob] = []
    for place, item in enumerate(chosen):
        token, logprob = _read_logprob(item, at)
        read = TokenLogprob(token=token, logprob=logprob)
        if place < len(likeliest):
            top = as_object(likeliest[place], f"{at}.topCandidates[]")
            for other in get_list(top, "candidates", f"{at}.topCandidates[]"):
                token, logprob = _read_logprob(other, at)
                read.top_logprobs.add(token=token, logprob=logprob)
        tokens.append(read)
    return tokens


def _read_logprob(item: object, where: str) -> tuple[str, float]:
    candidate = as_object(item, f"{where}.candidates[]")
    # A certain token has none: zeros are left out.
    logprob = candidate.get("logProbability", 0)
    if type(logprob) is not float and type(logprob) is not int:
        raise MalformedAnswerError(f"{where}.logProbability is not a number")
    return get_text(candidate, "token", where), float(logprob)


def grow_extras(extras: JsonObject, source: JsonObject, known: frozenset[str]) -> None:
    """Takes what has no field of its own. Streams repeat such things; the last that says something counts."""
    for key, value in source.items():
        if key not in known and value is not None and value not in ({}, []):
            extras[key] = value
