"""Turns of a conversation as system prompt and messages."""

from collections.abc import Sequence

from aigateway.v1.content_pb2 import ContentPart, Message, Role
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.bedrock_converse.assistant import render_assistant, to_call_id
from gateway_server.providers.wire.bedrock_converse.blocks import (
    add_cache_point,
    render_block,
    render_content,
    render_input,
)
from gateway_server.providers.wire.bedrock_converse.context import RenderContext
from gateway_server.providers.wire.conversation import ASSISTANT, TOOL, USER, collect_turns
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, misplaced


def render_turns(messages: Sequence[Message], context: RenderContext) -> JsonObject:
    """The keys ``system`` and ``messages`` of a body."""

    def render_turn(message: Message, role: Role.ValueType, path: str) -> list[Block]:
        return _render_turn(message, role, path, context)

    claude = context.traits.claude
    conversation = collect_turns(
        messages,
        render_turn,
        context.unsupported,
        system_turns=claude is not None and claude.system_turns,
    )
    if conversation.messages[0][0] != "user":
        raise context.unsupported("conversations that the model begins")
    body: JsonObject = {}
    if conversation.system:
        body["system"] = conversation.system
    body["messages"] = [{"role": role, "content": content} for role, content in conversation.messages]
    return body


def _render_turn(message: Message, role: Role.ValueType, path: str, context: RenderContext) -> list[Block]:
    if role == USER:
        return render_content(message.parts, path, context, render_input)
    if role == ASSISTANT:
        return render_assistant(message, path, context)
    if role == TOOL:
        content: list[Block] = []
        for index, part in enumerate(message.parts):
            at = f"{path}.parts[{index}]"
            content.append(_render_result(part, at, context))
            add_cache_point(content, part, at, context)
        return content
    return render_content(message.parts, path, context, _render_instruction)


def _render_instruction(part: ContentPart, path: str, context: RenderContext) -> Block:
    match part.WhichOneof("kind"):
        case "provider":
            return render_block(part, path, context)
        case "image" | "audio" | "video" | "document" as kind:
            raise context.unsupported(f"{kind} parts in system and developer turns")
        case kind:
            raise misplaced(kind, path)


def _render_result(part: ContentPart, path: str, context: RenderContext) -> Block:
    if part.WhichOneof("kind") != "tool_result":
        raise invalid_request(path, "a tool turn holds only tool results")
    result = part.tool_result
    at = f"{path}.tool_result"
    if result.provider_executed:
        raise context.unsupported("results of tools that another provider ran itself")
    if not result.tool_call_id:
        raise invalid_request(f"{at}.tool_call_id", "is required")
    context.has_tool_turns = True
    for inner in result.parts:
        if inner.HasField("cache_control"):
            raise context.unsupported("cache marks within tool results")
        if inner.WhichOneof("kind") == "audio":
            raise context.unsupported("audio parts in tool results")
    block: JsonObject = {
        "toolUseId": to_call_id(result.tool_call_id),
        "content": render_content(result.parts, at, context, render_input),
    }
    # Not all models know the key; without it a result is taken for a success.
    if result.is_error:
        block["status"] = "error"
    return {"toolResult": block}
