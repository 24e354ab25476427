"""Turns of a conversation as the messages of a request."""

from collections.abc import Sequence

from aigateway.v1 import content_pb2
from aigateway.v1.content_pb2 import ContentPart, Message
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.assistant import render_assistant
from gateway_server.providers.wire.openai_chat.blocks import (
    RenderPart,
    render_block,
    render_content,
    render_text,
)
from gateway_server.providers.wire.openai_chat.context import RenderContext
from gateway_server.providers.wire.openai_chat.media import (
    render_audio,
    render_document,
    render_image,
    render_video,
)
from gateway_server.providers.wire.rendering import Block, misplaced


def render_messages(messages: Sequence[Message], context: RenderContext) -> list[JsonObject]:
    """All turns in order; a tool turn with several results becomes several messages."""
    rendered: list[JsonObject] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        # Values of the module, not of the enum: looking one up there costs half a microsecond.
        match message.role:
            case content_pb2.ROLE_SYSTEM:
                rendered.append(_render_turn(message, "system", path, context, _render_instruction))
            case content_pb2.ROLE_DEVELOPER:
                role = context.dialect.developer_role
                rendered.append(_render_turn(message, role, path, context, _render_instruction))
            case content_pb2.ROLE_USER:
                rendered.append(_render_turn(message, "user", path, context, _render_user_part))
            case content_pb2.ROLE_ASSISTANT:
                rendered.append(render_assistant(message, path, context))
            case content_pb2.ROLE_TOOL:
                rendered.extend(_render_tool_results(message, path, context))
            case _:
                raise invalid_request(f"{path}.role", "is not a role")
    return rendered


def _render_turn(
    message: Message, role: str, path: str, context: RenderContext, render_part: RenderPart
) -> JsonObject:
    rendered: JsonObject = {
        "role": role,
        "content": render_content(message.parts, path, context, render_part),
    }
    if message.author:
        rendered["name"] = message.author
    return rendered


def _render_instruction(part: ContentPart, path: str, context: RenderContext) -> Block:
    match part.WhichOneof("kind"):
        case "text":
            return render_text(part.text)
        case "provider":
            return render_block(part.provider, path, context)
        case "image" | "audio" | "video" | "document" as kind:
            raise context.unsupported(f"{kind} parts in system and developer turns")
        case kind:
            raise misplaced(kind, path)


def _render_user_part(part: ContentPart, path: str, context: RenderContext) -> Block:
    match part.WhichOneof("kind"):
        case "text":
            return render_text(part.text)
        case "image":
            return render_image(part.image, f"{path}.image", context)
        case "audio":
            return render_audio(part.audio, f"{path}.audio", context)
        case "video":
            return render_video(part.video, f"{path}.video", context)
        case "document":
            return render_document(part.document, f"{path}.document", context)
        case "provider":
            return render_block(part.provider, path, context)
        case kind:
            raise misplaced(kind, path)


def _render_tool_results(message: Message, path: str, context: RenderContext) -> list[JsonObject]:
    """One message for each result. The format has no mark for failed tools: what they returned says so."""
    if not message.parts:
        raise invalid_request(f"{path}.parts", "is empty")
    rendered: list[JsonObject] = []
    for index, part in enumerate(message.parts):
        at = f"{path}.parts[{index}]"
        if part.WhichOneof("kind") != "tool_result":
            raise invalid_request(at, "a tool turn holds only tool results")
        result = part.tool_result
        if result.provider_executed:
            raise context.unsupported("results of tools that another provider ran itself")
        if not result.tool_call_id:
            raise invalid_request(f"{at}.tool_result.tool_call_id", "is required")
        content: str | list[Block] = ""
        if result.parts:
            content = render_content(result.parts, f"{at}.tool_result", context, _render_result_part)
        rendered.append({"role": "tool", "tool_call_id": result.tool_call_id, "content": content})
    return rendered


def _render_result_part(part: ContentPart, path: str, context: RenderContext) -> Block:
    match part.WhichOneof("kind"):
        case "text":
            return render_text(part.text)
        case "image":
            return render_image(part.image, f"{path}.image", context)
        case "provider":
            return render_block(part.provider, path, context)
        case "audio" | "video" | "document" as kind:
            raise context.unsupported(f"{kind} parts in tool results")
        case kind:
            raise misplaced(kind, path)
