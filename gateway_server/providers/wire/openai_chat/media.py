"""Pictures, sound, moving pictures and documents as blocks of content."""

import re
from typing import Final

from aigateway.v1.content_pb2 import (
    AudioPart,
    ContentPart,
    DocumentPart,
    ImageDetail,
    ImagePart,
    MediaSource,
    VideoPart,
)
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.context import RenderContext
from gateway_server.providers.wire.openai_chat.dialect import Dialect
from gateway_server.providers.wire.rendering import base64_text, require_mime_type

_AUDIO_FORMATS: Final = {
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_DETAILS: Final = {
    ImageDetail.IMAGE_DETAIL_AUTO: "auto",
    ImageDetail.IMAGE_DETAIL_LOW: "low",
    ImageDetail.IMAGE_DETAIL_HIGH: "high",
}
#: What a provider may be asked to fetch; a file of its own machine is not among it.
_FETCHABLE: Final = re.compile(r"https?://|data:", re.IGNORECASE)


def wants_bytes(part: ContentPart, dialect: Dialect, *, in_result: bool) -> bool:
    """As in MediaFormat: pictures go by address, documents never do, sound only where the dialect says so."""
    match part.WhichOneof("kind"):
        case "audio" if not in_result and not dialect.media_urls:
            source = part.audio.source
            return bool(source.uri) and (not source.mime_type or source.mime_type in _AUDIO_FORMATS)
        case "document" if not in_result and dialect.documents:
            return bool(part.document.source.uri)
        case _:
            return False


def render_image(image: ImagePart, path: str, context: RenderContext) -> JsonObject:
    """An ``image_url`` block."""
    rendered: JsonObject = {"url": _render_url(image.source, "image", path, context)}
    if image.detail:
        if image.detail not in _DETAILS:
            raise invalid_request(f"{path}.detail", "is not a level of detail")
        rendered["detail"] = _DETAILS[image.detail]
    return {"type": "image_url", "image_url": rendered}


def render_audio(audio: AudioPart, path: str, context: RenderContext) -> JsonObject:
    """An ``input_audio`` block, or ``audio_url`` where the server takes it."""
    source = audio.source
    if source.WhichOneof("location") == "inline_data":
        require_mime_type(source, path)
        if source.mime_type in _AUDIO_FORMATS:
            data = {"data": base64_text(source.inline_data), "format": _AUDIO_FORMATS[source.mime_type]}
            return {"type": "input_audio", "input_audio": data}
    if not context.dialect.media_urls:
        raise context.unsupported("audio other than inline WAV and MP3")
    return {"type": "audio_url", "audio_url": {"url": _render_url(source, "audio", path, context)}}


def render_video(video: VideoPart, path: str, context: RenderContext) -> JsonObject:
    """A ``video_url`` block, which is not of OpenAI's own format."""
    if not context.dialect.media_urls:
        raise context.unsupported("video parts")
    if video.HasField("start_offset") or video.HasField("end_offset") or video.HasField("frame_rate"):
        raise context.unsupported("offsets and frame rates of video parts")
    return {"type": "video_url", "video_url": {"url": _render_url(video.source, "video", path, context)}}


def render_document(document: DocumentPart, path: str, context: RenderContext) -> JsonObject:
    """A ``file`` block."""
    if not context.dialect.documents:
        raise context.unsupported("document parts")
    if document.context:
        raise context.unsupported("the context of document parts")
    if document.citations_enabled:
        raise context.unsupported("citations from document parts")
    source = document.source
    name = source.filename or document.title
    match source.WhichOneof("location"):
        case "provider_file_id":
            return {"type": "file", "file": {"file_id": source.provider_file_id}}
        case "inline_data":
            return _file(name or _default_filename(source.mime_type), _data_url(source, path))
        case "inline_text":
            text = base64_text(source.inline_text.encode())
            return _file(name or "document.txt", f"data:text/plain;base64,{text}")
        case "uri":
            raise context.unsupported("document parts by address")
        case _:
            raise invalid_request(f"{path}.source", "has no location")


def _render_url(source: MediaSource, kind: str, path: str, context: RenderContext) -> str:
    match source.WhichOneof("location"):
        case "inline_data":
            return _data_url(source, path)
        case "uri":
            if not _FETCHABLE.match(source.uri):
                raise context.unsupported(f"{kind} addresses other than http, https and data")
            return source.uri
        case "provider_file_id":
            raise context.unsupported(f"{kind} parts by file id")
        case "inline_text":
            raise invalid_request(f"{path}.source.inline_text", "is for document parts only")
        case _:
            raise invalid_request(f"{path}.source", "has no location")


def _data_url(source: MediaSource, path: str) -> str:
    require_mime_type(source, path)
    return f"data:{source.mime_type};base64,{base64_text(source.inline_data)}"


def _file(name: str, data: str) -> JsonObject:
    return {"type": "file", "file": {"filename": name, "file_data": data}}


def _default_filename(mime_type: str) -> str:
    """A name, which OpenAI requires."""
    return "document.pdf" if mime_type == "application/pdf" else "document"
