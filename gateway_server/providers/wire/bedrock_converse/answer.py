"""A whole answer as a ChatCompletion, and a count."""

from typing import Final

from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice, CountTokensResponse
from aigateway.v1.content_pb2 import ContentPart, Role
from gateway_server.providers.base import Target
from gateway_server.providers.wire.bedrock_converse.citations import read_citation
from gateway_server.providers.wire.bedrock_converse.fields import (
    SERVER_CALL,
    begin_call,
    begin_image,
    read_bytes,
    read_extras,
    read_finish,
    read_image_bytes,
    read_routed_model,
    read_usage,
    read_usage_extras,
    to_provider_part,
)
from gateway_server.providers.wire.bedrock_converse.thoughts import seal_signature, seal_thought
from gateway_server.providers.wire.faults import protocol_error
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
    parse_object,
    to_struct,
)

_ANSWER_KEYS: Final = frozenset({"output", "stopReason", "usage"})


def parse_chat(body: bytes, target: Target) -> ChatCompletion:
    """The answer; raises UPSTREAM_PROTOCOL_ERROR."""
    try:
        return _read_answer(parse_object(body), ExactText(body), target)
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error


def parse_count(body: bytes, target: Target) -> CountTokensResponse:
    """The count; raises as parse_chat does."""
    try:
        answer = parse_object(body)
        if answer.get("inputTokens") is None:
            raise MalformedAnswerError("the answer has no inputTokens")  # noqa: TRY301 -- told as all others
        response = CountTokensResponse(input_tokens=get_count(answer, "inputTokens", "answer"))
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error
    response.served_by.provider_model = target.provider_model
    return response


def _read_answer(answer: JsonObject, body: ExactText, target: Target) -> ChatCompletion:
    completion = ChatCompletion()
    completion.served_by.provider_model = read_routed_model(answer) or target.provider_model
    completion.choices.append(_read_choice(answer, body, target))
    extras = read_extras(answer, _ANSWER_KEYS)
    usage = get_object(answer, "usage", "answer")
    if usage is not None:
        completion.usage.CopyFrom(read_usage(usage))
        if usage_extras := read_usage_extras(usage):
            extras["usage"] = usage_extras
    if extras:
        completion.provider_metadata.CopyFrom(to_struct(extras))
    return completion


def _read_choice(answer: JsonObject, body: ExactText, target: Target) -> Choice:
    output = get_object(answer, "output", "answer") or {}
    message = get_object(output, "message", "output")
    reason = get_text(answer, "stopReason", "answer")
    if message is None or not reason:
        raise MalformedAnswerError("the answer has no message or no stopReason")
    choice = Choice()
    choice.message.role = Role.ROLE_ASSISTANT
    call_ids: set[str] = set()
    for index, value in enumerate(get_list(message, "content", "output.message")):
        block = as_object(value, f"content[{index}]")
        part = _read_block(block, body, index, target)
        if part.HasField("tool_call"):
            if part.tool_call.tool_call_id in call_ids:
                raise MalformedAnswerError("two tool calls have the same id")
            call_ids.add(part.tool_call.tool_call_id)
        choice.message.parts.append(part)
    choice.finish.CopyFrom(read_finish(reason, has_tool_calls=bool(call_ids)))
    return choice


def _read_block(block: JsonObject, body: ExactText, index: int, target: Target) -> ContentPart:
    """A block, which is an object with one key: its kind."""
    where = f"content[{index}]"
    part = ContentPart()
    kind = next(iter(block), "")
    path = ("output", "message", "content", index)
    match kind:
        case "text":
            part.text.text = get_text(block, "text", where)
        case "toolUse":
            call = as_object(block[kind], f"{where}.toolUse")
            if call.get("type") == SERVER_CALL:
                return to_provider_part(kind, dump_exactly(block, body, *path))
            part.CopyFrom(begin_call(call, f"{where}.toolUse"))
            arguments = call.get("input")
            part.tool_call.arguments = (
                "{}" if arguments is None else dump_exactly(arguments, body, *path, kind, "input")
            )
        case "reasoningContent":
            thought = as_object(block[kind], f"{where}.reasoningContent")
            if not _read_reasoning(thought, part, f"{where}.reasoningContent", target):
                return to_provider_part(kind, dump_exactly(block, body, *path))
        case "citationsContent":
            _read_cited(as_object(block[kind], where), part, f"{where}.citationsContent")
        case "image":
            image = as_object(block[kind], f"{where}.image")
            part.CopyFrom(begin_image(image, f"{where}.image"))
            part.image.source.inline_data = read_image_bytes(image, f"{where}.image")
        case _:
            return to_provider_part(kind, dump_exactly(block, body, *path))
    return part


def _read_reasoning(reasoning: JsonObject, part: ContentPart, where: str, target: Target) -> bool:
    """Reads a thought into the part; False where it is of no known kind."""
    thought = get_object(reasoning, "reasoningText", where)
    if thought is not None:
        part.reasoning.text = get_text(thought, "text", f"{where}.reasoningText")
        part.provider_signature = seal_signature(
            get_text(thought, "signature", f"{where}.reasoningText"), target
        )
    elif reasoning.get("redactedContent") is not None:
        part.reasoning.redacted_data = seal_thought(read_bytes(reasoning, "redactedContent", where), target)
    else:
        return False
    return True


def _read_cited(cited: JsonObject, part: ContentPart, where: str) -> None:
    pieces = [
        get_text(as_object(piece, f"{where}.content[]"), "text", f"{where}.content[]")
        for piece in get_list(cited, "content", where)
    ]
    part.text.text = "".join(pieces)
    part.text.citations.extend(
        read_citation(as_object(citation, f"{where}.citations[]"), f"{where}.citations[]")
        for citation in get_list(cited, "citations", where)
    )
