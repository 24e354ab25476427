"""A whole answer as a ChatCompletion, and a count."""

from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice, CountTokensResponse
from aigateway.v1.content_pb2 import Role
from gateway_server.providers.base import Target
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.gemini.fields import (
    ANSWER_KEYS,
    CANDIDATE_KEYS,
    blocked_finish,
    grow_extras,
    read_block_reason,
    read_finish,
    read_index,
    read_logprobs,
    take_usage,
)
from gateway_server.providers.wire.gemini.grounding import Grounding
from gateway_server.providers.wire.gemini.parts import PartReader
from gateway_server.providers.wire.gemini_errors import parse_error_in_answer
from gateway_server.providers.wire.json_values import (
    ExactText,
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_count,
    get_list,
    get_object,
    get_text,
    parse_object,
    to_struct,
)

# Looked up once: an enum takes half a microsecond to find a value.
_ASSISTANT = Role.ROLE_ASSISTANT


def parse_chat(body: bytes, target: Target) -> ChatCompletion:
    """The answer; raises what an error in its place stands for, or UPSTREAM_PROTOCOL_ERROR."""
    try:
        return _read_answer(parse_answer(body, target), ExactText(body), target)
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error


def parse_count(body: bytes, target: Target) -> CountTokensResponse:
    """The count of a conversation's tokens."""
    try:
        count = get_count(parse_answer(body, target), "totalTokens", "answer")
    except MalformedAnswerError as error:
        raise protocol_error(target.provider, error.cause) from error
    if not count:
        # Zeros are left out, but no conversation has none.
        raise protocol_error(target.provider, "the answer has no totalTokens")
    response = CountTokensResponse(input_tokens=count)
    response.served_by.provider_model = target.provider_model
    return response


def parse_answer(body: bytes, target: Target) -> JsonObject:
    """A body of any kind; raises what an error in its place stands for, or MalformedAnswerError."""
    answer = parse_object(body)
    if answer.get("error") is not None:
        raise parse_error_in_answer(answer["error"], target.provider)
    return answer


def _read_answer(answer: JsonObject, body: ExactText, target: Target) -> ChatCompletion:
    completion = ChatCompletion()
    response_id = get_text(answer, "responseId", "answer")
    completion.served_by.provider_response_id = response_id
    completion.served_by.provider_model = get_text(answer, "modelVersion", "answer") or target.provider_model
    candidates = get_list(answer, "candidates", "answer")
    read = [
        _read_candidate(as_object(candidate, f"candidates[{place}]"), place, response_id, body, target)
        for place, candidate in enumerate(candidates)
    ]
    if len({choice.index for choice in read}) != len(read):
        raise MalformedAnswerError("two candidates have the same index")
    completion.choices.extend(sorted(read, key=lambda choice: choice.index))
    if not candidates:
        block_reason = read_block_reason(answer)
        if not block_reason:
            raise MalformedAnswerError("the answer has no candidates")
        choice = completion.choices.add(finish=blocked_finish(block_reason))
        choice.message.role = _ASSISTANT
    extras: JsonObject = {}
    grow_extras(extras, answer, ANSWER_KEYS)
    usage = take_usage(get_object(answer, "usageMetadata", "answer"), extras)
    if usage is not None:
        completion.usage.CopyFrom(usage)
    if extras:
        completion.provider_metadata.CopyFrom(to_struct(extras))
    return completion


def _read_candidate(
    source: JsonObject, place: int, response_id: str, body: ExactText, target: Target
) -> Choice:
    where = f"candidates[{place}]"
    choice = Choice(index=read_index(source, default=place))
    choice.message.role = _ASSISTANT
    reader = PartReader(choice.index, target.provider_type, response_id)
    content = get_object(source, "content", where) or {}
    path = ("candidates", place, "content", "parts")
    for number, item in enumerate(get_list(content, "parts", f"{where}.content")):
        at = f"{where}.content.parts[{number}]"
        part = reader.read(as_object(item, at), at, body, (*path, number))
        if part is not None:
            choice.message.parts.append(part)
    reader.end()
    reason = get_text(source, "finishReason", where)
    if not reason and not choice.message.parts:
        raise MalformedAnswerError(f"{where} has neither content nor finishReason")
    choice.finish.CopyFrom(read_finish(reason, has_tool_calls=reader.call_count > 0))
    choice.logprobs.extend(read_logprobs(source, where))
    if not source.keys() <= CANDIDATE_KEYS:
        grounding = Grounding(source, where)
        for part in choice.message.parts:
            if part.WhichOneof("kind") == "text":
                part.text.citations.extend(grounding.place(part.text.text))
        extras: JsonObject = {}
        grow_extras(extras, source, CANDIDATE_KEYS)
        if extras:
            choice.provider_metadata.CopyFrom(to_struct(extras))
    return choice
