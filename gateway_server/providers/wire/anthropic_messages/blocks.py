"""Blocks of content that turns of every role share."""

from collections.abc import Callable, Sequence

import orjson

from aigateway.v1.content_pb2 import ContentPart
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE, RenderContext
from gateway_server.providers.wire.anthropic_messages.media import render_document, render_image
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, json_object_text, misplaced

RenderPart = Callable[[ContentPart, str, RenderContext], Block]


def render_content(
    parts: Sequence[ContentPart], path: str, context: RenderContext, render_part: RenderPart
) -> list[Block]:
    """The content of a turn. Empty texts are left out: they say nothing and the provider refuses them."""
    content: list[Block] = []
    for index, part in enumerate(parts):
        kind = part.WhichOneof("kind")
        if kind == "text":
            if text := part.text.text:
                block: JsonObject = {"type": "text", "text": text}
                content.append(mark(block, part, f"{path}.parts[{index}]", context))
        else:
            content.append(render_part(part, f"{path}.parts[{index}]", context))
    return content


def to_content(blocks: list[Block]) -> str | list[Block]:
    """Blocks as the content of a message; a text alone goes as a string, which means the same."""
    if len(blocks) == 1:
        only = blocks[0]
        if isinstance(only, dict) and len(only) == 2 and only["type"] == "text":
            text: str = only["text"]
            return text
    return blocks


def render_input(part: ContentPart, path: str, context: RenderContext) -> Block:
    """A part that the model reads, of a user turn or of what a tool returned."""
    match part.WhichOneof("kind"):
        case "image":
            block = render_image(part.image, f"{path}.image", context)
        case "document":
            block = render_document(part.document, f"{path}.document", context)
        case "provider":
            return render_block(part, path, context)
        case "audio" | "video" as kind:
            raise context.unsupported(f"{kind} parts")
        case kind:
            raise misplaced(kind, path)
    return mark(block, part, path, context)


def mark(block: JsonObject, part: ContentPart, path: str, context: RenderContext) -> JsonObject:
    """The block with the cache mark of its part."""
    if part.HasField("cache_control"):
        block["cache_control"] = context.render_cache_control(part.cache_control, path)
    return block


def render_block(part: ContentPart, path: str, context: RenderContext) -> orjson.Fragment:
    """A block that came from this provider, sent back as it came."""
    block = part.provider
    if block.provider_type != PROVIDER_TYPE:
        raise context.unsupported(f"{block.block_type or 'unnamed'} blocks of {block.provider_type}")
    fragment = json_object_text(block.block_json, f"{path}.provider.block_json")
    if not part.HasField("cache_control"):
        return fragment
    mark = orjson.dumps(context.render_cache_control(part.cache_control, path)).decode()
    # Put last by hand, so that the rest stays as it is; of a key that comes twice, the last counts.
    body = block.block_json.rstrip()[:-1].rstrip()
    separator = "" if body.endswith("{") else ","
    return orjson.Fragment(f'{body}{separator}"cache_control":{mark}}}')
