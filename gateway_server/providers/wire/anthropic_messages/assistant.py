"""Turns of the model, sent back as part of the conversation."""

import re
from typing import Final

import orjson

from aigateway.v1.content_pb2 import ContentPart, Message, TextPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.anthropic_messages.blocks import mark, render_block
from gateway_server.providers.wire.anthropic_messages.citations import render_citations
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE, RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, fit_call_id, json_arguments, misplaced
from gateway_server.providers.wire.seals import unseal

_CALL_ID: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def render_assistant(message: Message, path: str, context: RenderContext) -> list[Block]:
    """The blocks in their order, so that thoughts stay beside the calls that they led to."""
    content: list[Block] = []
    call_ids: set[str] = set()
    for index, part in enumerate(message.parts):
        at = f"{path}.parts[{index}]"
        match part.WhichOneof("kind"):
            case "text":
                if part.text.text:
                    content.append(mark(_render_text(part.text), part, at, context))
            case "tool_call":
                content.append(_render_call(part, at, context, call_ids))
            case "reasoning":
                content.extend(_render_reasoning(part, at, context))
            case "refusal":
                # The provider declines in plain text, too.
                if part.refusal.text:
                    block: JsonObject = {"type": "text", "text": part.refusal.text}
                    content.append(mark(block, part, at, context))
            case "provider":
                content.append(render_block(part, at, context))
            case "image" | "audio" | "video" | "document" as kind:
                raise context.unsupported(f"{kind} parts in assistant turns")
            case "tool_result" if part.tool_result.provider_executed:
                raise context.unsupported("results of tools that another provider ran itself")
            case kind:
                raise misplaced(kind, at)
    return content


def _render_text(text: TextPart) -> JsonObject:
    block: JsonObject = {"type": "text", "text": text.text}
    if text.citations and (citations := render_citations(text.citations)):
        block["citations"] = citations
    return block


def _render_call(part: ContentPart, path: str, context: RenderContext, call_ids: set[str]) -> JsonObject:
    call = part.tool_call
    at = f"{path}.tool_call"
    if call.provider_executed:
        raise context.unsupported("tool calls that another provider ran itself")
    if call.free_form:
        raise context.unsupported("free-form tools")
    if not call.tool_call_id:
        raise invalid_request(f"{at}.tool_call_id", "is required")
    if not call.tool_name:
        raise invalid_request(f"{at}.tool_name", "is required")
    if call.tool_call_id in call_ids:
        raise invalid_request(f"{at}.tool_call_id", "occurs twice in this turn")
    call_ids.add(call.tool_call_id)
    block = {
        **_read_signature(part.provider_signature),
        "type": "tool_use",
        "id": to_call_id(call.tool_call_id),
        "name": call.tool_name,
        "input": json_arguments(call.arguments, context.unsupported),
    }
    return mark(block, part, path, context)


def to_call_id(call_id: str) -> str:
    """The id of a call as the provider takes it."""
    return fit_call_id(call_id, _CALL_ID)


def _read_signature(signature: bytes) -> JsonObject:
    """What the answer held beside the call, such as who called; signatures of other providers say nothing."""
    if not signature.startswith(b'{"'):
        return {}
    try:
        extras = orjson.loads(signature)
    except orjson.JSONDecodeError:
        return {}
    return extras if isinstance(extras, dict) else {}


def _render_reasoning(part: ContentPart, path: str, context: RenderContext) -> list[Block]:
    """A thought, which the provider takes back only as it signed it."""
    reasoning = part.reasoning
    if part.HasField("cache_control"):
        raise context.unsupported("cache marks on reasoning")
    if reasoning.redacted_data:
        if reasoning.text or part.provider_signature:
            raise invalid_request(f"{path}.reasoning", "is both sealed and readable")
        data = unseal(PROVIDER_TYPE, reasoning.redacted_data)
        if data is None:
            raise context.unsupported("sealed reasoning of another provider")
        return [{"type": "redacted_thinking", "data": data}]
    signature = unseal(PROVIDER_TYPE, part.provider_signature)
    if signature is not None:
        return [{"type": "thinking", "thinking": reasoning.text, "signature": signature}]
    if reasoning.text:
        raise context.unsupported("reasoning that it did not sign")
    if part.provider_signature:
        raise context.unsupported("sealed reasoning of another provider")
    return []
