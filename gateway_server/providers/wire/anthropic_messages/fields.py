"""Fields that whole and streamed answers share."""

from typing import Final

import orjson

from aigateway.v1.chat_service_pb2 import Finish, FinishReason
from aigateway.v1.content_pb2 import ContentPart
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.providers.wire.anthropic_messages.citations import read_citation
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE
from gateway_server.providers.wire.json_values import (
    ExactText,
    JsonObject,
    MalformedAnswerError,
    as_object,
    dump_exactly,
    get_count,
    get_list,
    get_object,
    get_text,
)
from gateway_server.providers.wire.seals import seal

#: What is read into fields of its own; everything else is handed on as metadata.
ANSWER_KEYS: Final = frozenset(
    {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage"}
)
_CALL_KEYS: Final = frozenset({"type", "id", "name", "input"})
_USAGE_KEYS: Final = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "output_tokens_details",
    }
)
_FINISH_REASONS: Final = {
    "end_turn": FinishReason.FINISH_REASON_STOP,
    "stop_sequence": FinishReason.FINISH_REASON_STOP_SEQUENCE,
    "max_tokens": FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS,
    "model_context_window_exceeded": FinishReason.FINISH_REASON_CONTEXT_WINDOW,
    "tool_use": FinishReason.FINISH_REASON_TOOL_CALLS,
    "refusal": FinishReason.FINISH_REASON_REFUSAL,
    "pause_turn": FinishReason.FINISH_REASON_PAUSE,
}
#: Who calls a tool unless the answer says otherwise: the model itself.
_DIRECT: Final = {"type": "direct"}


def read_finish(reason: str, stop_sequence: str, *, has_tool_calls: bool) -> Finish:
    """How an answer ended."""
    finish = Finish(provider_reason=reason, stop_sequence=stop_sequence)
    finish.reason = _FINISH_REASONS.get(reason, FinishReason.FINISH_REASON_OTHER)
    if finish.reason == FinishReason.FINISH_REASON_STOP and has_tool_calls:
        finish.reason = FinishReason.FINISH_REASON_TOOL_CALLS
    return finish


def read_usage(usage: JsonObject) -> TokenUsage:
    """The usage in the contract's meaning: the provider counts cached tokens beside the input."""
    creation = get_object(usage, "cache_creation", "usage") or {}
    details = get_object(usage, "output_tokens_details", "usage") or {}
    cache_read = get_count(usage, "cache_read_input_tokens", "usage")
    long_write = get_count(creation, "ephemeral_1h_input_tokens", "usage.cache_creation")
    short_write = get_count(creation, "ephemeral_5m_input_tokens", "usage.cache_creation")
    # A stream tells the sum again at its end, but how it is divided only at its beginning.
    cache_write = max(get_count(usage, "cache_creation_input_tokens", "usage"), long_write + short_write)
    reasoning = get_count(details, "thinking_tokens", "usage.output_tokens_details")
    input_tokens = get_count(usage, "input_tokens", "usage") + cache_read + cache_write
    output_tokens = max(get_count(usage, "output_tokens", "usage"), reasoning)
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        cache_read_input_tokens=cache_read,
        cache_write_input_tokens=cache_write,
        cache_write_long_input_tokens=long_write,
        reasoning_output_tokens=reasoning,
        state=UsageState.USAGE_STATE_PROVIDER_REPORTED,
    )


def read_usage_extras(usage: JsonObject) -> JsonObject:
    """What a usage object holds that has no field in the contract, without the zeros."""
    return {key: value for key, value in usage.items() if key not in _USAGE_KEYS and value}


def read_extras(source: JsonObject) -> JsonObject:
    """What an answer holds that has no field in the contract."""
    return {key: value for key, value in source.items() if key not in ANSWER_KEYS and value is not None}


def read_block(block: JsonObject, source: ExactText, *path: str | int) -> ContentPart:
    """One block of an answer, which stands at ``path`` in ``source``."""
    where = ".".join(map(str, path))
    part = ContentPart()
    match get_text(block, "type", where):
        case "text":
            part.text.text = get_text(block, "text", where)
            part.text.citations.extend(
                read_citation(as_object(cited, f"{where}.citations[]"), f"{where}.citations[]")
                for cited in get_list(block, "citations", where)
            )
        case "thinking":
            part.reasoning.text = get_text(block, "thinking", where)
            part.provider_signature = seal(PROVIDER_TYPE, get_text(block, "signature", where))
        case "redacted_thinking":
            part.reasoning.redacted_data = seal(PROVIDER_TYPE, get_text(block, "data", where))
        case "tool_use":
            part.CopyFrom(begin_call(block, where))
            arguments = get_object(block, "input", where)
            part.tool_call.arguments = dump_exactly(arguments, source, *path, "input") if arguments else "{}"
        case kind:
            part.CopyFrom(to_provider_part(kind, dump_exactly(block, source, *path)))
    return part


def begin_call(block: JsonObject, where: str) -> ContentPart:
    """A tool call without its arguments."""
    part = ContentPart()
    part.tool_call.tool_call_id = get_text(block, "id", where)
    part.tool_call.tool_name = get_text(block, "name", where)
    if not part.tool_call.tool_call_id or not part.tool_call.tool_name:
        raise MalformedAnswerError(f"{where} is a tool call without id or name")
    extras = {
        key: value
        for key, value in block.items()
        if key not in _CALL_KEYS and value is not None and not (key == "caller" and value == _DIRECT)
    }
    if extras:
        # Who called, for example, which the provider wants to hear again with the call.
        try:
            part.provider_signature = orjson.dumps(extras)
        except TypeError as error:
            raise MalformedAnswerError(f"{where} is nested too deeply") from error
    return part


def to_provider_part(block_type: str, block_json: str) -> ContentPart:
    """A block that has no kind in the contract, to be sent back as it came."""
    part = ContentPart()
    part.provider.provider_type = PROVIDER_TYPE
    part.provider.block_type = block_type
    part.provider.block_json = block_json
    return part


def read_refusal(details: JsonObject | None) -> ContentPart | None:
    """Why the answer was refused, where the provider tells."""
    if details is None or get_text(details, "type", "stop_details") != "refusal":
        return None
    part = ContentPart()
    part.refusal.text = get_text(details, "explanation", "stop_details")
    part.refusal.category = get_text(details, "category", "stop_details")
    return part if part.refusal.text or part.refusal.category else None
