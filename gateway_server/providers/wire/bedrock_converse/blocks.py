"""Blocks of content that turns of every role share."""

from collections.abc import Callable, Sequence

import orjson

from aigateway.v1.content_pb2 import ContentPart
from gateway_server.providers.wire.bedrock_converse.context import PROVIDER_TYPE, RenderContext
from gateway_server.providers.wire.bedrock_converse.media import (
    render_audio,
    render_document,
    render_image,
    render_video,
)
from gateway_server.providers.wire.rendering import Block, json_object_text, misplaced

RenderPart = Callable[[ContentPart, str, RenderContext], Block]


def render_content(
    parts: Sequence[ContentPart], path: str, context: RenderContext, render_part: RenderPart
) -> list[Block]:
    """The content of a turn. Empty texts are left out: they say nothing and the provider refuses them."""
    content: list[Block] = []
    for index, part in enumerate(parts):
        at = f"{path}.parts[{index}]"
        if part.WhichOneof("kind") == "text":
            if part.text.text:
                content.append({"text": part.text.text})
        else:
            content.append(render_part(part, at, context))
        add_cache_point(content, part, at, context)
    return content


def add_cache_point(content: list[Block], part: ContentPart, path: str, context: RenderContext) -> None:
    """Adds the mark of a part, which is a block of its own behind it."""
    if part.HasField("cache_control"):
        content.extend(context.render_cache_point(part.cache_control, path))


def render_input(part: ContentPart, path: str, context: RenderContext) -> Block:
    """A part that the model reads, of a user turn or of what a tool returned."""
    match part.WhichOneof("kind"):
        case "image":
            return render_image(part.image, f"{path}.image", context)
        case "audio":
            return render_audio(part.audio, f"{path}.audio", context)
        case "video":
            return render_video(part.video, f"{path}.video", context)
        case "document":
            return render_document(part.document, f"{path}.document", context)
        case "provider":
            return render_block(part, path, context)
        case kind:
            raise misplaced(kind, path)


def render_block(part: ContentPart, path: str, context: RenderContext) -> orjson.Fragment:
    """A block that came from this provider, sent back as it came."""
    block = part.provider
    if block.provider_type != PROVIDER_TYPE:
        raise context.unsupported(f"{block.block_type or 'unnamed'} blocks of {block.provider_type}")
    return json_object_text(block.block_json, f"{path}.provider.block_json")
