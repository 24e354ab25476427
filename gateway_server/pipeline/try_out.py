"""A guardrail profile on a given text, without a model call."""

from collections.abc import Callable
from typing import Final

from aigateway.v1.admin_service_pb2 import TestGuardrailProfileRequest, TestGuardrailProfileResponse
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    Choice,
    CreateChatCompletionRequest,
    FinishReason,
    FunctionTool,
    JsonSchemaFormat,
    ResponseFormat,
    Tool,
)
from aigateway.v1.content_pb2 import (
    AudioPart,
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    ProviderPart,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.guardrail_profile_pb2 import GuardrailPart
from aigateway.v1.routing_pb2 import GuardrailStage
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.guardrails.request_texts import slots_of
from gateway_server.pipeline.guarding import Guardrails

_NOBODY: Final = "test"

#: How a text is said in a turn.
_IN_TURNS: Final[dict[GuardrailPart.ValueType, Callable[[str], ContentPart]]] = {
    GuardrailPart.GUARDRAIL_PART_TEXT: lambda text: ContentPart(text=TextPart(text=text)),
    GuardrailPart.GUARDRAIL_PART_REASONING: lambda text: ContentPart(reasoning=ReasoningPart(text=text)),
    GuardrailPart.GUARDRAIL_PART_TOOL_CALL: lambda text: ContentPart(
        tool_call=ToolCallPart(tool_call_id=_NOBODY, arguments=text)
    ),
    GuardrailPart.GUARDRAIL_PART_TOOL_RESULT: lambda text: ContentPart(
        tool_result=ToolResultPart(tool_call_id=_NOBODY, parts=[ContentPart(text=TextPart(text=text))])
    ),
    GuardrailPart.GUARDRAIL_PART_AUDIO: lambda text: ContentPart(audio=AudioPart(transcript=text)),
    GuardrailPart.GUARDRAIL_PART_PROVIDER: lambda text: ContentPart(provider=ProviderPart(block_json=text)),
    GuardrailPart.GUARDRAIL_PART_DOCUMENT: lambda text: ContentPart(
        document=DocumentPart(source=MediaSource(inline_text=text))
    ),
    GuardrailPart.GUARDRAIL_PART_IMAGE: lambda text: ContentPart(
        image=ImagePart(source=MediaSource(filename=text))
    ),
    GuardrailPart.GUARDRAIL_PART_VIDEO: lambda text: ContentPart(
        video=VideoPart(source=MediaSource(filename=text))
    ),
}
#: Whose turn it is unless the request says.
_ROLES: Final = {
    GuardrailPart.GUARDRAIL_PART_REASONING: Role.ROLE_ASSISTANT,
    GuardrailPart.GUARDRAIL_PART_TOOL_CALL: Role.ROLE_ASSISTANT,
    GuardrailPart.GUARDRAIL_PART_TOOL_RESULT: Role.ROLE_TOOL,
}


async def try_guardrails(
    guardrails: Guardrails, request: TestGuardrailProfileRequest
) -> TestGuardrailProfileResponse:
    """What the profile does to the text. Raises INVALID_REQUEST, GUARDRAIL_FAILED."""
    if request.stage == GuardrailStage.GUARDRAIL_STAGE_OUTPUT:
        return await _try_output(guardrails, request)
    return await _try_input(guardrails, request)


async def _try_output(
    guardrails: Guardrails, request: TestGuardrailProfileRequest
) -> TestGuardrailProfileResponse:
    guard = guardrails.try_out(request.name)
    say = _IN_TURNS.get(request.part or GuardrailPart.GUARDRAIL_PART_TEXT)
    if say is None:
        raise invalid_request("part", "no rule reads such a part of answers")
    message = Message(role=Role.ROLE_ASSISTANT, parts=[say(request.text)])
    answer = ChatCompletion(choices=[Choice(message=message)])
    checks = guard.answer(choices=1)
    if checks is not None:
        await checks.apply(answer)
    (choice,) = answer.choices
    return TestGuardrailProfileResponse(
        results=guard.results(checks),
        text=_text_of(CreateChatCompletionRequest(messages=[choice.message])),
        blocked=choice.finish.reason == FinishReason.FINISH_REASON_GUARDRAIL,
    )


async def _try_input(
    guardrails: Guardrails, request: TestGuardrailProfileRequest
) -> TestGuardrailProfileResponse:
    guard = guardrails.try_out(request.name)
    try:
        asked = await guard.check(_request_with(request))
    except GatewayError as error:
        if error.reason != ErrorReason.ERROR_REASON_GUARDRAIL_BLOCKED:
            raise
        return TestGuardrailProfileResponse(results=guard.results(None), blocked=True)
    return TestGuardrailProfileResponse(results=guard.results(None), text=_text_of(asked))


def _request_with(request: TestGuardrailProfileRequest) -> CreateChatCompletionRequest:
    """A request that says nothing but the text, as the part that it is to be."""
    text, part = request.text, request.part
    if part == GuardrailPart.GUARDRAIL_PART_TOOL_DEFINITION:
        return CreateChatCompletionRequest(tools=[Tool(function=FunctionTool(description=text))])
    if part == GuardrailPart.GUARDRAIL_PART_RESPONSE_FORMAT:
        schema = JsonSchemaFormat(description=text)
        return CreateChatCompletionRequest(response_format=ResponseFormat(json_schema=schema))
    if not part:
        is_result = request.role == Role.ROLE_TOOL
        part = GuardrailPart.GUARDRAIL_PART_TOOL_RESULT if is_result else GuardrailPart.GUARDRAIL_PART_TEXT
    say = _IN_TURNS[part]
    role = request.role or _ROLES.get(part, Role.ROLE_USER)
    return CreateChatCompletionRequest(messages=[Message(role=role, parts=[say(text)])])


def _text_of(request: CreateChatCompletionRequest) -> str:
    return "".join(slot.text for slot in slots_of(request))
