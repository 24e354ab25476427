"""A whole answer as a ChatCompletion, and a count."""

from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice, CountTokensResponse
from aigateway.v1.content_pb2 import Role
from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages.errors import parse_error_in_answer
from gateway_server.providers.wire.anthropic_messages.fields import (
    read_block,
    read_extras,
    read_finish,
    read_refusal,
    read_usage,
    read_usage_extras,
)
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    ExactText,
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_count,
    get_object,
    get_text,
    parse_object,
    to_struct,
)


def parse_chat(body: bytes, target: Target) -> ChatCompletion:
    """The answer; raises what an error in its place stands for, or UPSTREAM_PROTOCOL_ERROR."""
    try:
        return _read_answer(_parse(body, target), ExactText(body), target)
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error


def parse_count(body: bytes, target: Target) -> CountTokensResponse:
    """The count; raises as parse_chat does."""
    try:
        response = CountTokensResponse(input_tokens=_read_count(_parse(body, target)))
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error
    response.served_by.provider_model = target.provider_model
    return response


def _parse(body: bytes, target: Target) -> JsonObject:
    answer = parse_object(body)
    if answer.get("error") is not None:
        raise parse_error_in_answer(answer["error"], target.provider)
    return answer


def _read_count(answer: JsonObject) -> int:
    if answer.get("input_tokens") is None:
        raise MalformedAnswerError("the answer has no input_tokens")
    return get_count(answer, "input_tokens", "answer")


def _read_answer(answer: JsonObject, body: ExactText, target: Target) -> ChatCompletion:
    completion = ChatCompletion()
    completion.served_by.provider_response_id = get_text(answer, "id", "answer")
    completion.served_by.provider_model = get_text(answer, "model", "answer") or target.provider_model
    completion.choices.append(_read_choice(answer, body))
    extras = read_extras(answer)
    usage = get_object(answer, "usage", "answer")
    if usage is not None:
        completion.usage.CopyFrom(read_usage(usage))
        if usage_extras := read_usage_extras(usage):
            extras["usage"] = usage_extras
    if extras:
        completion.provider_metadata.CopyFrom(to_struct(extras))
    return completion


def _read_choice(answer: JsonObject, body: ExactText) -> Choice:
    content = answer.get("content")
    if type(content) is not list:
        raise MalformedAnswerError("the answer has no content")
    choice = Choice()
    choice.message.role = Role.ROLE_ASSISTANT
    parts = choice.message.parts
    call_ids: set[str] = set()
    for index, value in enumerate(content):
        block = as_object(value, f"content[{index}]")
        part = read_block(block, body, "content", index)
        if part.WhichOneof("kind") == "tool_call":
            if part.tool_call.tool_call_id in call_ids:
                raise MalformedAnswerError("two tool calls have the same id")
            call_ids.add(part.tool_call.tool_call_id)
        parts.append(part)
    details = get_object(answer, "stop_details", "answer")
    refusal = read_refusal(details)
    if refusal is not None:
        parts.append(refusal)
    choice.finish.CopyFrom(
        read_finish(
            get_text(answer, "stop_reason", "answer"),
            get_text(answer, "stop_sequence", "answer"),
            has_tool_calls=bool(call_ids),
        )
    )
    if details:
        choice.provider_metadata.CopyFrom(to_struct({"stop_details": details}))
    return choice
