"""A whole answer as a ChatCompletion."""

from typing import Final

from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice
from aigateway.v1.content_pb2 import ContentPart, Role
from gateway_server.providers.base import Target
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_object,
    get_text,
    parse_object,
    to_struct,
)
from gateway_server.providers.wire.openai_chat.fields import (
    ANSWER_KEYS,
    CHOICE_KEYS,
    MESSAGE_KEYS,
    default_call_id,
    grow_audio_extras,
    grow_extras,
    read_annotations,
    read_audio_data,
    read_content_blocks,
    read_finish,
    read_index,
    read_logprobs,
    read_reasoning,
    read_tool_call,
    read_usage,
    read_usage_extras,
    to_audio_part,
)
from gateway_server.providers.wire.openai_errors import parse_error_in_answer

_ASSISTANT: Final = Role.ROLE_ASSISTANT


def parse_chat(body: bytes, target: Target) -> ChatCompletion:
    """The answer; raises what an error in its place stands for, or UPSTREAM_PROTOCOL_ERROR."""
    try:
        answer = parse_object(body)
        if answer.get("error") is not None:
            raise parse_error_in_answer(answer["error"], target.provider)
        return _read_answer(answer, target)
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error


def _read_answer(answer: JsonObject, target: Target) -> ChatCompletion:
    completion = ChatCompletion()
    completion.served_by.provider_response_id = get_text(answer, "id", "answer")
    completion.served_by.provider_model = get_text(answer, "model", "answer") or target.provider_model
    choices = get_list(answer, "choices", "answer")
    if not choices:
        raise MalformedAnswerError("the answer has no choices")
    read = [
        _read_choice(as_object(choice, f"choices[{position}]"), position, target)
        for position, choice in enumerate(choices)
    ]
    if len({choice.index for choice in read}) != len(read):
        raise MalformedAnswerError("two choices have the same index")
    completion.choices.extend(sorted(read, key=lambda choice: choice.index))
    extras: JsonObject = {}
    grow_extras(extras, answer, ANSWER_KEYS)
    usage = get_object(answer, "usage", "answer")
    if usage is not None:
        completion.usage.CopyFrom(read_usage(usage))
        if usage_extras := read_usage_extras(usage):
            extras["usage"] = usage_extras
    if extras:
        completion.provider_metadata.CopyFrom(to_struct(extras))
    return completion


def _read_choice(source: JsonObject, position: int, target: Target) -> Choice:
    where = f"choices[{position}]"
    choice = Choice(index=read_index(source, default=position))
    choice.message.role = _ASSISTANT
    extras: JsonObject = {}
    grow_extras(extras, source, CHOICE_KEYS)
    reason = get_text(source, "finish_reason", where)
    # A filtered answer may come without its message.
    message = get_object(source, "message", where)
    if message is None:
        if not reason:
            raise MalformedAnswerError(f"{where} has neither message nor finish_reason")
        message = {}
    choice.message.parts.extend(_read_parts(message, f"{where}.message", choice.index, target, extras))
    kinds = {part.WhichOneof("kind") for part in choice.message.parts}
    stop_reason = source.get("stop_reason")
    choice.finish.CopyFrom(
        read_finish(
            reason,
            stop_reason,
            has_tool_calls="tool_call" in kinds or bool(message.get("tool_calls")),
            has_refusal="refusal" in kinds,
        )
    )
    if type(stop_reason) is int:
        extras["stop_reason"] = stop_reason
    choice.logprobs.extend(read_logprobs(source, where))
    if extras:
        choice.provider_metadata.CopyFrom(to_struct(extras))
    return choice


def _read_parts(
    message: JsonObject, where: str, choice_index: int, target: Target, extras: JsonObject
) -> list[ContentPart]:
    """The parts in the one order that the format allows: thought, words, calls."""
    parts: list[ContentPart] = []
    message_extras: JsonObject = {}
    grow_extras(message_extras, message, MESSAGE_KEYS)
    if reasoning := read_reasoning(message, where):
        parts.append(ContentPart())
        parts[-1].reasoning.text = reasoning
    parts.extend(_read_content(message, where, target))
    if refusal := get_text(message, "refusal", where):
        parts.append(ContentPart())
        parts[-1].refusal.text = refusal
    citations, others = read_annotations(message, where)
    texts = [part.text for part in parts if part.WhichOneof("kind") == "text"]
    if texts:
        texts[-1].citations.extend(citations)
    if others or (citations and not texts):
        message_extras["annotations"] = others if texts else message["annotations"]
    audio = get_object(message, "audio", where)
    if audio is not None:
        part = to_audio_part(
            get_text(audio, "id", f"{where}.audio"),
            read_audio_data(get_text(audio, "data", f"{where}.audio"), f"{where}.audio"),
        )
        part.audio.transcript = get_text(audio, "transcript", f"{where}.audio")
        parts.append(part)
        grow_audio_extras(message_extras, audio)
    parts.extend(_read_calls(message, where, choice_index, target))
    if message_extras:
        extras["message"] = message_extras
    return parts


def _read_content(message: JsonObject, where: str, target: Target) -> list[ContentPart]:
    content = message.get("content")
    if type(content) is not list:
        text = get_text(message, "content", where)
        content = [{"type": "text", "text": text}] if text else []
    return list(read_content_blocks(content, f"{where}.content", target.provider_type))


def _read_calls(message: JsonObject, where: str, choice_index: int, target: Target) -> list[ContentPart]:
    calls = [as_object(call, f"{where}.tool_calls[]") for call in get_list(message, "tool_calls", where)]
    where = f"{where}.tool_calls[]"
    if not calls and (function := get_object(message, "function_call", where)) is not None:
        calls = [{"function": function}]
    parts = [
        read_tool_call(
            call,
            where,
            default_id=default_call_id(choice_index, number),
            provider_type=target.provider_type,
        )
        for number, call in enumerate(calls)
    ]
    ids = [part.tool_call.tool_call_id for part in parts if part.WhichOneof("kind") == "tool_call"]
    if len(set(ids)) != len(ids):
        raise MalformedAnswerError("two tool calls have the same id")
    return parts
