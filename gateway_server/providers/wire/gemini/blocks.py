"""Parts that turns of every role share."""

import orjson

from aigateway.v1.content_pb2 import ContentPart, ProviderPart
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.gemini.media import render_media
from gateway_server.providers.wire.rendering import Block, json_object_text, misplaced


def render_input(part: ContentPart, path: str, context: RenderContext) -> Block:
    """A part that the model reads, of a user turn or of something to embed."""
    match part.WhichOneof("kind"):
        case "text":
            return {"text": part.text.text}
        case "image" | "audio" | "video" | "document":
            return render_media(part, path, context)
        case "provider":
            return render_block(part.provider, path, context)
        case kind:
            raise misplaced(kind, path)


def render_block(block: ProviderPart, path: str, context: RenderContext) -> orjson.Fragment:
    """A part that came from this provider, sent back as it came."""
    if block.provider_type != context.target.provider_type:
        raise context.unsupported(f"{block.block_type or 'unnamed'} blocks of {block.provider_type}")
    return json_object_text(block.block_json, f"{path}.provider.block_json")
