"""A guardrail profile on a given text, without a model call."""

from aigateway.v1.admin_service_pb2 import TestGuardrailProfileRequest, TestGuardrailProfileResponse
from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    Choice,
    CreateChatCompletionRequest,
    FinishReason,
)
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart, ToolResultPart
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import GuardrailStage
from gateway_server.errors import GatewayError
from gateway_server.pipeline.guarding import Guardrails

_NOBODY = "test"


async def try_guardrails(
    guardrails: Guardrails, request: TestGuardrailProfileRequest
) -> TestGuardrailProfileResponse:
    """What the profile does to the text. Raises GUARDRAIL_FAILED."""
    guard = guardrails.try_out(request.name)
    part = ContentPart(text=TextPart(text=request.text))
    if request.stage == GuardrailStage.GUARDRAIL_STAGE_OUTPUT:
        answer = ChatCompletion(choices=[Choice(message=Message(role=Role.ROLE_ASSISTANT, parts=[part]))])
        checks = guard.answer(choices=1)
        if checks is not None:
            await checks.apply(answer)
        (choice,) = answer.choices
        return TestGuardrailProfileResponse(
            results=guard.results(checks),
            text="".join(each.text.text for each in choice.message.parts),
            blocked=choice.finish.reason == FinishReason.FINISH_REASON_GUARDRAIL,
        )
    role = request.role or Role.ROLE_USER
    if role == Role.ROLE_TOOL:
        part = ContentPart(tool_result=ToolResultPart(tool_call_id=_NOBODY, parts=[part]))
    asked = CreateChatCompletionRequest(messages=[Message(role=role, parts=[part])])
    try:
        asked = await guard.check(asked)
    except GatewayError as error:
        if error.reason != ErrorReason.ERROR_REASON_GUARDRAIL_BLOCKED:
            raise
        return TestGuardrailProfileResponse(results=guard.results(None), blocked=True)
    part = asked.messages[0].parts[0]
    if part.HasField("tool_result"):
        part = part.tool_result.parts[0]
    return TestGuardrailProfileResponse(results=guard.results(None), text=part.text.text)
