"""Fields that whole and streamed answers share."""

import binascii
from collections.abc import Iterator
from typing import Any, Final

from aigateway.v1.chat_service_pb2 import Finish, FinishReason, TokenLogprob
from aigateway.v1.content_pb2 import Citation, ContentPart
from aigateway.v1.usage_pb2 import Modality, TokenUsage, UsageState
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    dump_text,
    get_count,
    get_list,
    get_object,
    get_text,
)
from gateway_server.providers.wire.openai_chat.assistant import TOOL_CALL_BLOCK

#: What is read into fields of its own; everything else is handed on as metadata.
ANSWER_KEYS: Final = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"}
)
CHOICE_KEYS: Final = frozenset({"index", "message", "delta", "finish_reason", "logprobs", "stop_reason"})
MESSAGE_KEYS: Final = frozenset(
    {
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "annotations",
        "audio",
        "reasoning",
        "reasoning_content",
    }
)
_AUDIO_KEYS: Final = frozenset({"id", "data", "transcript"})
_USAGE_KEYS: Final = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
)
_USAGE_DETAIL_KEYS: Final = frozenset(
    {
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "text_tokens",
        "image_tokens",
        "audio_tokens",
    }
)

#: Choices of one request are at most 128; a larger index would only cost memory.
MAX_CHOICES: Final = 128
_MAX_INT32: Final = 2**31 - 1

# Looked up once: an enum takes half a microsecond to find a value.
_STOP: Final = FinishReason.FINISH_REASON_STOP
_STOP_SEQUENCE: Final = FinishReason.FINISH_REASON_STOP_SEQUENCE
_TOOL_CALLS: Final = FinishReason.FINISH_REASON_TOOL_CALLS
_REFUSAL: Final = FinishReason.FINISH_REASON_REFUSAL
_OTHER: Final = FinishReason.FINISH_REASON_OTHER
_PROVIDER_REPORTED: Final = UsageState.USAGE_STATE_PROVIDER_REPORTED
_FINISH_REASONS: Final = {
    "stop": _STOP,
    "length": FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS,
    "content_filter": FinishReason.FINISH_REASON_CONTENT_FILTER,
    # Decided by whether there are calls: vLLM says "stop" after a named choice.
    "tool_calls": _STOP,
    "function_call": _STOP,
}
_MODALITY_KEYS: Final = (
    ("text_tokens", Modality.MODALITY_TEXT),
    ("image_tokens", Modality.MODALITY_IMAGE),
    ("audio_tokens", Modality.MODALITY_AUDIO),
)
#: First bytes by which the type of a sound is known; the answer itself does not name it.
_AUDIO_TYPES: Final = (
    (b"RIFF", "audio/wav"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
)
_RAW_AUDIO: Final = "audio/pcm"


def read_index(choice: JsonObject, *, default: int) -> int:
    """The index of a choice; some servers leave it out."""
    index = choice.get("index")
    if index is None:
        return default
    if type(index) is not int or not 0 <= index < MAX_CHOICES:
        raise MalformedAnswerError("choices[].index is not an index")
    return index


def read_finish(reason: str, stop_reason: object, *, has_tool_calls: bool, has_refusal: bool) -> Finish:
    """How an answer ended. ``stop_reason`` is vLLM's: the stop sequence that matched, if one did."""
    finish = Finish(provider_reason=reason)
    finish.reason = _FINISH_REASONS.get(reason, _OTHER)
    if finish.reason == _STOP:
        if has_tool_calls:
            finish.reason = _TOOL_CALLS
        elif has_refusal:
            finish.reason = _REFUSAL
        elif isinstance(stop_reason, str) and stop_reason:
            finish.reason = _STOP_SEQUENCE
            finish.stop_sequence = stop_reason
    return finish


def read_usage(usage: JsonObject) -> TokenUsage:
    """The usage in the contract's meaning, whose sums hold whatever the server added up."""
    prompt = get_object(usage, "prompt_tokens_details", "usage") or {}
    completion = get_object(usage, "completion_tokens_details", "usage") or {}
    cache_read = get_count(prompt, "cached_tokens", "usage.prompt_tokens_details")
    cache_write = get_count(prompt, "cache_write_tokens", "usage.prompt_tokens_details")
    reasoning = get_count(completion, "reasoning_tokens", "usage.completion_tokens_details")
    # A part cannot be larger than its whole; a server that counts beside it instead is billed in full.
    input_tokens = max(get_count(usage, "prompt_tokens", "usage"), cache_read + cache_write)
    output_tokens = max(get_count(usage, "completion_tokens", "usage"), reasoning)
    read = TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        cache_read_input_tokens=cache_read,
        cache_write_input_tokens=cache_write,
        reasoning_output_tokens=reasoning,
        state=_PROVIDER_REPORTED,
    )
    for key, modality in _MODALITY_KEYS:
        if tokens := get_count(prompt, key, "usage.prompt_tokens_details"):
            read.input_by_modality.add(modality=modality, tokens=tokens)
        if tokens := get_count(completion, key, "usage.completion_tokens_details"):
            read.output_by_modality.add(modality=modality, tokens=tokens)
    return read


def read_usage_extras(usage: JsonObject) -> JsonObject:
    """What a usage object holds that has no field in the contract, without the zeros."""
    extras = {key: value for key, value in usage.items() if key not in _USAGE_KEYS and value}
    for key in ("prompt_tokens_details", "completion_tokens_details"):
        details = usage.get(key)
        if isinstance(details, dict):
            extra = {
                name: value for name, value in details.items() if name not in _USAGE_DETAIL_KEYS and value
            }
            if extra:
                extras[key] = extra
    return extras


def read_logprobs(choice: JsonObject, where: str) -> list[TokenLogprob]:
    """The log probabilities of a choice, those of its refusal last."""
    logprobs = get_object(choice, "logprobs", where)
    if logprobs is None:
        return []
    at = f"{where}.logprobs"
    return [
        _read_logprob(as_object(token, f"{at}.{key}[]"), at)
        for key in ("content", "refusal")
        for token in get_list(logprobs, key, at)
    ]


def _read_logprob(token: JsonObject, where: str) -> TokenLogprob:
    read = TokenLogprob(
        token=get_text(token, "token", where),
        logprob=_read_probability(token, where),
        token_bytes=_read_bytes(token, where),
    )
    for item in get_list(token, "top_logprobs", where):
        top = as_object(item, f"{where}.top_logprobs[]")
        read.top_logprobs.add(
            token=get_text(top, "token", where),
            logprob=_read_probability(top, where),
            token_bytes=_read_bytes(top, where),
        )
    return read


def _read_probability(token: JsonObject, where: str) -> float:
    value = token.get("logprob")
    if type(value) is not float and type(value) is not int:
        raise MalformedAnswerError(f"{where}.logprob is not a number")
    return float(value)


def _read_bytes(token: JsonObject, where: str) -> bytes:
    try:
        return bytes(get_list(token, "bytes", where))
    except (TypeError, ValueError) as error:
        raise MalformedAnswerError(f"{where}.bytes is not a list of bytes") from error


def read_annotations(message: JsonObject, where: str) -> tuple[list[Citation], list[Any]]:
    """The citations among the annotations, and the annotations of other kinds."""
    citations: list[Citation] = []
    others: list[Any] = []
    for item in get_list(message, "annotations", where):
        annotation = as_object(item, f"{where}.annotations[]")
        cited = get_object(annotation, "url_citation", f"{where}.annotations[]")
        if cited is None:
            others.append(annotation)
        else:
            citations.append(_read_citation(cited, f"{where}.annotations[].url_citation"))
    return citations, others


def _read_citation(cited: JsonObject, where: str) -> Citation:
    citation = Citation(title=get_text(cited, "title", where), uri=get_text(cited, "url", where))
    if cited.get("start_index") is not None:
        citation.start_index = min(get_count(cited, "start_index", where), _MAX_INT32)
    if cited.get("end_index") is not None:
        citation.end_index = min(get_count(cited, "end_index", where), _MAX_INT32)
    return citation


def read_reasoning(message: JsonObject, where: str) -> str:
    """The reasoning, under whichever of its two names; servers that send both send the same."""
    return get_text(message, "reasoning", where) or get_text(message, "reasoning_content", where)


def read_content_blocks(blocks: list[Any], where: str, provider_type: str) -> Iterator[ContentPart]:
    """Parts of a content that is a list, as some servers send it."""
    for item in blocks:
        block = as_object(item, f"{where}[]")
        kind = get_text(block, "type", f"{where}[]")
        part = ContentPart()
        if kind == "text":
            part.text.text = get_text(block, "text", f"{where}[]")
        elif kind == "refusal":
            part.refusal.text = get_text(block, "refusal", f"{where}[]")
        else:
            part.CopyFrom(to_provider_part(block, kind, where, provider_type))
        yield part


def to_provider_part(block: JsonObject, block_type: str, where: str, provider_type: str) -> ContentPart:
    """A block that has no kind in the contract, to be sent back as it came."""
    part = ContentPart()
    part.provider.provider_type = provider_type
    part.provider.block_type = block_type
    part.provider.block_json = dump_text(block, where)
    return part


def read_tool_call(call: JsonObject, where: str, *, default_id: str, provider_type: str) -> ContentPart:
    """A whole tool call."""
    custom = get_object(call, "custom", where)
    function = get_object(call, "function", where)
    if custom is None and function is None:
        return to_provider_part(call, TOOL_CALL_BLOCK + get_text(call, "type", where), where, provider_type)
    part = ContentPart()
    part.tool_call.tool_call_id = get_text(call, "id", where) or default_id
    if custom is not None:
        part.tool_call.free_form = True
        part.tool_call.tool_name = get_text(custom, "name", f"{where}.custom")
        part.tool_call.arguments = get_text(custom, "input", f"{where}.custom")
    elif function is not None:
        part.tool_call.tool_name = get_text(function, "name", f"{where}.function")
        part.tool_call.arguments = read_arguments(function, f"{where}.function")
    if not part.tool_call.tool_name:
        raise MalformedAnswerError(f"{where} has no name")
    return part


def read_arguments(function: JsonObject, where: str) -> str:
    """The arguments; a few servers send the object itself instead of its text."""
    arguments = function.get("arguments")
    if type(arguments) is dict:
        return dump_text(arguments, f"{where}.arguments")
    return get_text(function, "arguments", where)


def default_call_id(choice_index: int, number: int) -> str:
    """The id of a call for which the server gave none."""
    return f"call_{choice_index}_{number}"


def read_audio_data(data: str, where: str) -> bytes:
    """Base64 as bytes."""
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError as error:
        raise MalformedAnswerError(f"{where}.data is not base64") from error


def to_audio_part(audio_id: str, data: bytes) -> ContentPart:
    """The beginning of a sound. Its id is what the server wants back in place of the bytes."""
    part = ContentPart()
    part.provider_signature = audio_id.encode()
    part.audio.source.inline_data = data
    part.audio.source.mime_type = next(
        (mime_type for prefix, mime_type in _AUDIO_TYPES if data.startswith(prefix)), _RAW_AUDIO
    )
    return part


def grow_extras(extras: JsonObject, source: JsonObject, known: frozenset[str]) -> None:
    """Takes what has no field of its own: lists go on, objects are updated, other values replaced."""
    for key, value in source.items():
        if key in known or value is None:
            continue
        present = extras.get(key)
        if type(value) is list and type(present) is list:
            present.extend(value)
        elif type(value) is dict and type(present) is dict:
            present.update(value)
        else:
            extras[key] = value


def grow_audio_extras(extras: JsonObject, audio: JsonObject) -> None:
    """As grow_extras, for what comes with a sound."""
    grow_extras(extras.setdefault("audio", {}), audio, _AUDIO_KEYS)
