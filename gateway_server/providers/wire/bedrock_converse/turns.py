"""Turns of a conversation as system prompt and messages."""

from collections.abc import Sequence
from typing import Final

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
from gateway_server.providers.wire.conversation import Conversation
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, misplaced

# Looked up once: it takes longer than all else that is done with a short turn.
_USER: Final = Role.ROLE_USER
_ASSISTANT: Final = Role.ROLE_ASSISTANT
_TOOL: Final = Role.ROLE_TOOL

_ROLES: Final = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_DEVELOPER: "system",
    _USER: "user",
    _ASSISTANT: "assistant",
    _TOOL: "user",
}


def render_turns(messages: Sequence[Message], context: RenderContext) -> JsonObject:
    """The keys ``system`` and ``messages`` of a body.

    System and developer turns before all others are the system prompt, in their order. Later ones keep
    their place, which only some models take: elsewhere they would have to move, and are refused. A turn
    in which the model said nothing is left out: the provider takes none without content.
    """
    claude = context.traits.claude
    conversation = Conversation(context.unsupported, system_turns=claude is not None and claude.system_turns)
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        role = message.role
        if role not in _ROLES:
            raise invalid_request(f"{path}.role", "is not a role")
        if message.author:
            raise context.unsupported("turns with an author's name")
        content = _render_turn(message, role, path, context)
        if content:
            conversation.add(_ROLES[role], content, are_results=role == _TOOL)
        elif role != _ASSISTANT and not message.parts:
            raise invalid_request(f"{path}.parts", "is empty")
        elif role == _USER:
            raise context.unsupported("user turns of empty text")
    if not conversation.messages:
        raise context.unsupported("conversations of system turns alone")
    if conversation.messages[0][0] != "user":
        raise context.unsupported("conversations that the model begins")
    body: JsonObject = {}
    if conversation.system:
        body["system"] = conversation.system
    body["messages"] = [{"role": role, "content": content} for role, content in conversation.messages]
    return body


def _render_turn(message: Message, role: Role.ValueType, path: str, context: RenderContext) -> list[Block]:
    if role == _USER:
        return render_content(message.parts, path, context, render_input)
    if role == _ASSISTANT:
        return render_assistant(message, path, context)
    if role == _TOOL:
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
