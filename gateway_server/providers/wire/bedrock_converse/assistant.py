"""Turns of the model, sent back as part of the conversation."""

import re
from typing import Final

from aigateway.v1.content_pb2 import ContentPart, Message, ToolCallPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.bedrock_converse.blocks import add_cache_point, render_block
from gateway_server.providers.wire.bedrock_converse.citations import render_citations
from gateway_server.providers.wire.bedrock_converse.context import RenderContext
from gateway_server.providers.wire.bedrock_converse.thoughts import unseal_signature, unseal_thought
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, fit_call_id, json_arguments, misplaced

_CALL_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def render_assistant(message: Message, path: str, context: RenderContext) -> list[Block]:
    """The blocks in their order, so that thoughts stay beside the calls that they led to."""
    content: list[Block] = []
    call_ids: set[str] = set()
    for index, part in enumerate(message.parts):
        at = f"{path}.parts[{index}]"
        match part.WhichOneof("kind"):
            case "text":
                if part.text.text:
                    content.append(_render_text(part))
            case "tool_call":
                content.append(_render_call(part.tool_call, f"{at}.tool_call", context, call_ids))
            case "reasoning":
                content.extend(_render_reasoning(part, at, context))
            case "refusal":
                # The models decline in plain text.
                if part.refusal.text:
                    content.append({"text": part.refusal.text})
            case "provider":
                content.append(render_block(part, at, context))
            case "image" | "audio" | "video" | "document" as kind:
                raise context.unsupported(f"{kind} parts in assistant turns")
            case "tool_result" if part.tool_result.provider_executed:
                raise context.unsupported("results of tools that another provider ran itself")
            case kind:
                raise misplaced(kind, at)
        add_cache_point(content, part, at, context)
    return content


def _render_text(part: ContentPart) -> JsonObject:
    if part.text.citations and (citations := render_citations(part.text.citations)):
        return {"citationsContent": {"content": [{"text": part.text.text}], "citations": citations}}
    return {"text": part.text.text}


def _render_call(call: ToolCallPart, path: str, context: RenderContext, call_ids: set[str]) -> JsonObject:
    if call.provider_executed:
        raise context.unsupported("tool calls that another provider ran itself")
    if call.free_form:
        raise context.unsupported("free-form tools")
    if not call.tool_call_id:
        raise invalid_request(f"{path}.tool_call_id", "is required")
    if call.tool_call_id in call_ids:
        raise invalid_request(f"{path}.tool_call_id", "occurs twice in this turn")
    call_ids.add(call.tool_call_id)
    context.has_tool_turns = True
    if not call.tool_name:
        raise invalid_request(f"{path}.tool_name", "is required")
    return {
        "toolUse": {
            "toolUseId": to_call_id(call.tool_call_id),
            "name": to_tool_name(call.tool_name, context),
            "input": json_arguments(call.arguments, context.unsupported),
        }
    }


def to_call_id(call_id: str) -> str:
    """The id of a call as the provider takes it."""
    return fit_call_id(call_id, _CALL_ID)


def to_tool_name(name: str, context: RenderContext) -> str:
    """The name of a tool, which must be one that the provider takes."""
    if not TOOL_NAME.fullmatch(name):
        raise context.unsupported("tool names other than up to 64 letters, digits, _ and -")
    return name


def _render_reasoning(part: ContentPart, path: str, context: RenderContext) -> list[Block]:
    """A thought. Claude takes it back only as it signed it; most other models sign nothing."""
    reasoning = part.reasoning
    if part.HasField("cache_control"):
        raise context.unsupported("cache marks on reasoning")
    if reasoning.redacted_data:
        if reasoning.text or part.provider_signature:
            raise invalid_request(f"{path}.reasoning", "is both sealed and readable")
        sealed = unseal_thought(reasoning.redacted_data, context.traits)
        if sealed is None:
            raise context.unsupported("sealed reasoning of another provider")
        return [{"reasoningContent": {"redactedContent": sealed}}]
    thought: JsonObject = {"text": reasoning.text}
    signature = unseal_signature(part.provider_signature, context.traits)
    if signature is not None:
        thought["signature"] = signature
    elif reasoning.text and context.traits.claude is not None:
        raise context.unsupported("reasoning that it did not sign")
    elif not reasoning.text:
        if part.provider_signature:
            raise context.unsupported("sealed reasoning of another provider")
        return []
    return [{"reasoningContent": {"reasoningText": thought}}]
