"""What the caller's functions returned, as the provider wants it: one JSON object, and media beside it."""

import orjson

from aigateway.v1.content_pb2 import ToolResultPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.gemini.blocks import render_block
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.gemini.marks import is_made
from gateway_server.providers.wire.gemini.media import render_media
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, misplaced


def render_result(result: ToolResultPart, name: str, path: str, context: RenderContext) -> JsonObject:
    """A ``functionResponse`` part; ``name`` is that of the call it answers, empty where there was none."""
    if result.provider_executed:
        raise context.unsupported("results of tools that another provider ran itself")
    if not result.tool_call_id:
        raise invalid_request(f"{path}.tool_call_id", "is required")
    name = result.tool_name or name
    if not name:
        raise invalid_request(f"{path}.tool_name", "is required, since no earlier call has this id")
    texts: list[str] = []
    media: list[Block] = []
    for index, part in enumerate(result.parts):
        at = f"{path}.parts[{index}]"
        match part.WhichOneof("kind"):
            case "text":
                texts.append(part.text.text)
            case "image" | "audio" | "video" | "document" as kind:
                if not context.traits.media_in_results:
                    raise context.unsupported(f"{kind} parts in tool results")
                block = render_media(part, at, context)
                block.pop("mediaResolution", None)
                media.append(block)
            case "provider":
                media.append(render_block(part.provider, at, context))
            case kind:
                raise misplaced(kind, at)
    rendered: JsonObject = {"name": name, "response": _render_response(texts, result, has_media=bool(media))}
    if media:
        rendered["parts"] = media
    if not is_made(result.tool_call_id):
        rendered["id"] = result.tool_call_id
    return {"functionResponse": rendered}


def _render_response(
    texts: list[str], result: ToolResultPart, *, has_media: bool
) -> JsonObject | orjson.Fragment:
    """A text that is a JSON object goes as that object, any other under the key that the provider names."""
    value: str | list[str] | orjson.Fragment
    if len(texts) != 1:
        value = texts or ""
        if not texts and has_media and not result.is_error:
            return {}
    elif _is_json_object(texts[0]):
        value = orjson.Fragment(texts[0])
        if not result.is_error:
            return value
    else:
        value = texts[0]
    return {"error" if result.is_error else "output": value}


def _is_json_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
