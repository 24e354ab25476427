"""Fields that whole and streamed answers share."""

import binascii
import re
from typing import Final

from aigateway.v1.chat_service_pb2 import Finish, FinishReason
from aigateway.v1.content_pb2 import ContentPart
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.providers.wire.bedrock_converse.context import PROVIDER_TYPE
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_count,
    get_list,
    get_object,
    get_text,
)

#: The type of a call that the provider runs itself.
SERVER_CALL: Final = "server_tool_use"

_USAGE_KEYS: Final = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheReadInputTokenCount",
        "cacheWriteInputTokens",
        "cacheWriteInputTokenCount",
        "cacheDetails",
    }
)
_LONG_LIFETIME: Final = "1h"
_FINISH_REASONS: Final = {
    "end_turn": FinishReason.FINISH_REASON_STOP,
    "stop_sequence": FinishReason.FINISH_REASON_STOP_SEQUENCE,
    "max_tokens": FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS,
    "model_context_window_exceeded": FinishReason.FINISH_REASON_CONTEXT_WINDOW,
    "tool_use": FinishReason.FINISH_REASON_TOOL_CALLS,
    "guardrail_intervened": FinishReason.FINISH_REASON_CONTENT_FILTER,
    "content_filtered": FinishReason.FINISH_REASON_CONTENT_FILTER,
    "malformed_tool_use": FinishReason.FINISH_REASON_MALFORMED_TOOL_CALL,
    # What newer models of Anthropic say, who are known for it elsewhere.
    "refusal": FinishReason.FINISH_REASON_REFUSAL,
    "pause_turn": FinishReason.FINISH_REASON_PAUSE,
}
#: As in ``arn:aws:bedrock:us-east-1:123456789012:guardrail/...``.
_ACCOUNT: Final = re.compile(r"(arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:)\d{12}(?=:)")
_IMAGE_TYPES: Final = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}


def read_finish(reason: str, *, has_tool_calls: bool) -> Finish:
    """How an answer ended."""
    finish = Finish(provider_reason=reason)
    finish.reason = _FINISH_REASONS.get(reason, FinishReason.FINISH_REASON_OTHER)
    if finish.reason == FinishReason.FINISH_REASON_STOP and has_tool_calls:
        finish.reason = FinishReason.FINISH_REASON_TOOL_CALLS
    return finish


def read_usage(usage: JsonObject) -> TokenUsage:
    """The usage in the contract's meaning: the provider counts cached tokens beside the input."""
    cache_read = _get_either(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    long_write, short_write = _read_lifetimes(usage)
    cache_write = max(
        _get_either(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount"), long_write + short_write
    )
    input_tokens = get_count(usage, "inputTokens", "usage") + cache_read + cache_write
    output_tokens = get_count(usage, "outputTokens", "usage")
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        cache_read_input_tokens=cache_read,
        cache_write_input_tokens=cache_write,
        cache_write_long_input_tokens=long_write,
        state=UsageState.USAGE_STATE_PROVIDER_REPORTED,
    )


def _get_either(usage: JsonObject, key: str, other: str) -> int:
    return get_count(usage, key if usage.get(key) is not None else other, "usage")


def _read_lifetimes(usage: JsonObject) -> tuple[int, int]:
    """Tokens written to a cache for an hour, and for less."""
    long_write = short_write = 0
    for item in get_list(usage, "cacheDetails", "usage"):
        detail = as_object(item, "usage.cacheDetails[]")
        tokens = get_count(detail, "inputTokens", "usage.cacheDetails[]")
        if get_text(detail, "ttl", "usage.cacheDetails[]") == _LONG_LIFETIME:
            long_write += tokens
        else:
            short_write += tokens
    return long_write, short_write


def read_usage_extras(usage: JsonObject) -> JsonObject:
    """What a usage object holds that has no field in the contract, without the zeros."""
    return {key: value for key, value in usage.items() if key not in _USAGE_KEYS and value}


def read_extras(source: JsonObject, known: frozenset[str]) -> JsonObject:
    """What an answer holds that has no field in the contract, without the numbers of AWS accounts."""
    return {
        key: _mask_accounts(value) if key == "trace" else value
        for key, value in source.items()
        if key not in known and value is not None
    }


def _mask_accounts(value: object) -> object:
    """The value with names of resources that do not tell whose they are: callers need not know."""
    if type(value) is str:
        return _ACCOUNT.sub(r"\1", value)
    if type(value) is dict:
        return {_ACCOUNT.sub(r"\1", key): _mask_accounts(item) for key, item in value.items()}
    if type(value) is list:
        return [_mask_accounts(item) for item in value]
    return value


def read_routed_model(source: JsonObject) -> str:
    """The model that a prompt router chose, empty where none did."""
    trace = get_object(source, "trace", "answer") or {}
    router = get_object(trace, "promptRouter", "trace") or {}
    return get_text(router, "invokedModelId", "trace.promptRouter")


def begin_call(call: JsonObject, where: str) -> ContentPart:
    """A tool call without its arguments."""
    part = ContentPart()
    part.tool_call.tool_call_id = get_text(call, "toolUseId", where)
    part.tool_call.tool_name = get_text(call, "name", where)
    if not part.tool_call.tool_call_id or not part.tool_call.tool_name:
        raise MalformedAnswerError(f"{where} is a tool call without id or name")
    return part


def to_provider_part(block_type: str, block_json: str) -> ContentPart:
    """A block that has no kind in the contract, to be sent back as it came."""
    part = ContentPart()
    part.provider.provider_type = PROVIDER_TYPE
    part.provider.block_type = block_type
    part.provider.block_json = block_json
    return part


def begin_image(image: JsonObject, where: str) -> ContentPart:
    """A picture without its bytes."""
    part = ContentPart()
    found = get_text(image, "format", where)
    part.image.source.mime_type = _IMAGE_TYPES.get(found, f"image/{found}")
    part.image.source.inline_data = b""
    return part


def read_image_bytes(image: JsonObject, where: str) -> bytes:
    """The bytes of a picture; raises where it has an address instead, or a fault."""
    if image.get("error") is not None:
        raise MalformedAnswerError(f"{where} holds a fault in place of a picture")
    source = get_object(image, "source", where) or {}
    if source.get("bytes") is None:
        raise MalformedAnswerError(f"{where}.source holds no bytes")
    return read_bytes(source, "bytes", f"{where}.source")


def read_bytes(source: JsonObject, key: str, where: str) -> bytes:
    """Base64 as bytes."""
    try:
        return binascii.a2b_base64(get_text(source, key, where), strict_mode=True)
    except ValueError as error:
        raise MalformedAnswerError(f"{where}.{key} is not base64") from error
