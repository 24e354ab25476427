"""Blocks of content that turns of every role share."""

from collections.abc import Callable, Sequence

import orjson

from aigateway.v1.content_pb2 import ContentPart, ProviderPart, TextPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.context import RenderContext
from gateway_server.providers.wire.rendering import Block, json_object_text

RenderPart = Callable[[ContentPart, str, RenderContext], Block]


def render_content(
    parts: Sequence[ContentPart], path: str, context: RenderContext, render_part: RenderPart
) -> str | list[Block]:
    """The content of a message."""
    if not parts:
        raise invalid_request(f"{path}.parts", "is empty")
    # One text goes as a string, which every server takes.
    if len(parts) == 1 and parts[0].WhichOneof("kind") == "text":
        return parts[0].text.text
    return [render_part(part, f"{path}.parts[{index}]", context) for index, part in enumerate(parts)]


def render_text(text: TextPart) -> JsonObject:
    """A ``text`` block. Citations belong to answers only."""
    return {"type": "text", "text": text.text}


def render_block(block: ProviderPart, path: str, context: RenderContext) -> orjson.Fragment:
    """A block that came from a server of this type, sent back as it came."""
    if block.provider_type != context.dialect.provider_type:
        raise context.unsupported(f"{block.block_type or 'unnamed'} blocks of {block.provider_type}")
    return json_object_text(block.block_json, f"{path}.provider.block_json")
