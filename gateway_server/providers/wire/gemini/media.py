"""Pictures, sound, moving pictures and documents as parts."""

import re
from typing import Final

from google.protobuf.duration_pb2 import Duration

from aigateway.v1.content_pb2 import ContentPart, DocumentPart, ImageDetail, MediaSource, VideoPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import base64_text, json_number, require_mime_type

_PLAIN_TEXT: Final = "text/plain"
#: What the provider may be asked to fetch; a file of its own machine is not among it.
_FETCHABLE: Final = re.compile(r"(?:https?|gs)://", re.IGNORECASE)
#: Addresses of which the provider knows the type itself: files uploaded to it, and YouTube.
_KNOWN_TYPE: Final = re.compile(
    r"https://(?:generativelanguage\.googleapis\.com/|(?:www\.)?youtube\.com/|youtu\.be/)", re.IGNORECASE
)
#: Bytes that a client wrote as an address.
_DATA_URL: Final = re.compile(r"data:([^;,]+);base64,([A-Za-z0-9+/=_-]*)", re.IGNORECASE)
_DETAILS: Final = {
    ImageDetail.IMAGE_DETAIL_LOW: "MEDIA_RESOLUTION_LOW",
    ImageDetail.IMAGE_DETAIL_HIGH: "MEDIA_RESOLUTION_HIGH",
}


def wants_bytes(part: ContentPart) -> bool:
    """As in MediaFormat: the provider fetches, but wants to be told of which type the media are."""
    match part.WhichOneof("kind"):
        case "image":
            return _lacks_type(part.image.source)
        case "audio":
            return _lacks_type(part.audio.source)
        case "video":
            return _lacks_type(part.video.source)
        case "document":
            return _lacks_type(part.document.source)
        case _:
            return False


def render_media(part: ContentPart, path: str, context: RenderContext) -> JsonObject:
    """A part of the kinds image, audio, video and document."""
    match part.WhichOneof("kind"):
        case "image":
            rendered = _render_source(part.image.source, "image", f"{path}.image", context)
            if part.image.detail not in ImageDetail.values():
                raise invalid_request(f"{path}.image.detail", "is not a level of detail")
            if part.image.detail in _DETAILS and context.traits.media_resolution:
                rendered["mediaResolution"] = {"level": _DETAILS[part.image.detail]}
            return rendered
        case "audio":
            return _render_source(part.audio.source, "audio", f"{path}.audio", context)
        case "video":
            rendered = _render_source(part.video.source, "video", f"{path}.video", context)
            if metadata := _render_video_metadata(part.video, f"{path}.video"):
                rendered["videoMetadata"] = metadata
            return rendered
        case "document":
            return _render_document(part.document, f"{path}.document", context)
        case kind:
            raise AssertionError(f"{kind} is not a kind of media")


def _render_document(document: DocumentPart, path: str, context: RenderContext) -> JsonObject:
    """A document has no title here; what else it may have would be lost."""
    if document.context:
        raise context.unsupported("the context of document parts")
    if document.citations_enabled:
        raise context.unsupported("citations from document parts")
    source = document.source
    if source.WhichOneof("location") == "inline_text":
        return _inline(source.mime_type or _PLAIN_TEXT, base64_text(source.inline_text.encode()))
    return _render_source(source, "document", path, context)


def _render_source(source: MediaSource, kind: str, path: str, context: RenderContext) -> JsonObject:
    match source.WhichOneof("location"):
        case "inline_data":
            require_mime_type(source, path)
            return _inline(source.mime_type, base64_text(source.inline_data))
        case "uri":
            return _render_address(source, kind, context)
        case "provider_file_id":
            # The file's address, which is how the provider wants it named.
            return _file(source.provider_file_id, source.mime_type)
        case "inline_text":
            raise invalid_request(f"{path}.source.inline_text", "is for document parts only")
        case _:
            raise invalid_request(f"{path}.source", "has no location")


def _render_address(source: MediaSource, kind: str, context: RenderContext) -> JsonObject:
    if inline := _DATA_URL.fullmatch(source.uri):
        return _inline(inline[1], inline[2])
    if not _FETCHABLE.match(source.uri):
        raise context.unsupported(f"{kind} addresses other than http, https, gs and base64 data")
    if _lacks_type(source):
        raise context.unsupported(f"{kind} parts by address without mime_type")
    return _file(source.uri, source.mime_type)


def _lacks_type(source: MediaSource) -> bool:
    """Whether an address is one that the provider fetches, but for its media type."""
    is_fetched = _FETCHABLE.match(source.uri) is not None
    return is_fetched and not source.mime_type and not _KNOWN_TYPE.match(source.uri)


def _inline(mime_type: str, data: str) -> JsonObject:
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def _file(uri: str, mime_type: str) -> JsonObject:
    return {"fileData": {"fileUri": uri, **({"mimeType": mime_type} if mime_type else {})}}


def _render_video_metadata(video: VideoPart, path: str) -> JsonObject:
    rendered: JsonObject = {}
    if video.HasField("start_offset"):
        rendered["startOffset"] = _render_duration(video.start_offset, f"{path}.start_offset")
    if video.HasField("end_offset"):
        rendered["endOffset"] = _render_duration(video.end_offset, f"{path}.end_offset")
    if video.HasField("frame_rate"):
        rendered["fps"] = json_number(video.frame_rate, f"{path}.frame_rate")
    return rendered


def _render_duration(duration: Duration, path: str) -> str:
    """Seconds as JSON writes durations: ``1.5s``."""
    if duration.seconds < 0 or not 0 <= duration.nanos < 10**9:
        raise invalid_request(path, "is not an offset from the start")
    fraction = f".{duration.nanos:09d}".rstrip("0") if duration.nanos else ""
    return f"{duration.seconds}{fraction}s"
