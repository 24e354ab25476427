"""Pictures, sound, moving pictures and documents as blocks of content."""

import re
from typing import Final

from aigateway.v1.content_pb2 import AudioPart, ContentPart, DocumentPart, ImagePart, MediaSource, VideoPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.bedrock_converse.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import base64_text, require_mime_type

_IMAGE_FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_VIDEO_FORMATS: Final = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}
_AUDIO_FORMATS: Final = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/flac": "flac",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/mp4": "m4a",
    "audio/webm": "webm",
    "audio/pcm": "pcm",
}
_DOCUMENT_FORMATS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
#: What a file is called that is only known by its ending: addresses in S3 come without a media type.
_ENDINGS: Final = {"jpg": "jpeg", "htm": "html", "markdown": "md", "3gp": "three_gp"}

_S3: Final = re.compile(r"s3://.+", re.IGNORECASE)
_DATA_URL: Final = re.compile(r"data:([^;,]+);base64,([A-Za-z0-9+/]*={0,2})", re.IGNORECASE)
#: Names of documents are shown to the model; the provider takes only these characters.
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")
_SPACES: Final = re.compile(r" {2,}")
_MAX_NAME: Final = 200
_DEFAULT_NAME: Final = "document"


def wants_bytes(part: ContentPart, *, in_result: bool) -> bool:
    """As in MediaFormat: the provider fetches from S3 alone."""
    match part.WhichOneof("kind"):
        case "image":
            return _is_elsewhere(part.image.source.uri)
        case "audio":
            return _is_elsewhere(part.audio.source.uri) and not in_result
        case "video":
            return _is_elsewhere(part.video.source.uri)
        case "document":
            return _is_elsewhere(part.document.source.uri)
        case _:
            return False


def render_image(image: ImagePart, path: str, context: RenderContext) -> JsonObject:
    """An ``image`` block. How closely to look cannot be told."""
    return {"image": _render_media(image.source, "image", _IMAGE_FORMATS, path, context)}


def render_audio(audio: AudioPart, path: str, context: RenderContext) -> JsonObject:
    """An ``audio`` block."""
    return {"audio": _render_media(audio.source, "audio", _AUDIO_FORMATS, path, context)}


def render_video(video: VideoPart, path: str, context: RenderContext) -> JsonObject:
    """A ``video`` block."""
    if video.HasField("start_offset") or video.HasField("end_offset") or video.HasField("frame_rate"):
        raise context.unsupported("offsets and frame rates of video parts")
    return {"video": _render_media(video.source, "video", _VIDEO_FORMATS, path, context)}


def render_document(document: DocumentPart, path: str, context: RenderContext) -> JsonObject:
    """A ``document`` block, whose name no other document of the request has."""
    source = document.source
    rendered: JsonObject
    if source.WhichOneof("location") == "inline_text":
        rendered = {"format": "txt", "source": {"text": source.inline_text}}
    else:
        rendered = _render_media(source, "document", _DOCUMENT_FORMATS, path, context)
    title = document.title or source.filename.rpartition(".")[0] or source.filename
    rendered["name"] = _to_name(title, context.document_names)
    if document.context:
        rendered["context"] = document.context
    if document.citations_enabled:
        rendered["citations"] = {"enabled": True}
    return {"document": rendered}


def _render_media(
    source: MediaSource, kind: str, formats: dict[str, str], path: str, context: RenderContext
) -> JsonObject:
    """Format and source. The provider reads bytes and objects in S3, and fetches from nowhere else."""
    match source.WhichOneof("location"):
        case "inline_data":
            require_mime_type(source, path)
            found = _find_format(source.mime_type, kind, formats, context)
            return {"format": found, "source": {"bytes": base64_text(source.inline_data)}}
        case "uri" if inline := _DATA_URL.fullmatch(source.uri):
            found = _find_format(inline[1], kind, formats, context)
            return {"format": found, "source": {"bytes": inline[2]}}
        case "uri" if _S3.fullmatch(source.uri):
            named = source.mime_type or _type_by_ending(source.uri, formats)
            found = _find_format(named, kind, formats, context)
            return {"format": found, "source": {"s3Location": {"uri": source.uri}}}
        case "uri":
            raise context.unsupported(f"{kind} parts by address, other than in S3")
        case "provider_file_id":
            raise context.unsupported(f"{kind} parts by file id")
        case "inline_text":
            raise invalid_request(f"{path}.source.inline_text", "is for document parts only")
        case _:
            raise invalid_request(f"{path}.source", "has no location")


def _is_elsewhere(uri: str) -> bool:
    return bool(uri) and not _S3.fullmatch(uri) and not _DATA_URL.fullmatch(uri)


def _find_format(mime_type: str, kind: str, formats: dict[str, str], context: RenderContext) -> str:
    plain = mime_type.partition(";")[0].strip().lower()
    if plain not in formats:
        raise context.unsupported(f"{kind} parts of type {plain or 'that is not named'}")
    return formats[plain]


def _type_by_ending(uri: str, formats: dict[str, str]) -> str:
    ending = uri.rpartition(".")[2].lower()
    found = _ENDINGS.get(ending, ending)
    return next((mime_type for mime_type, name in formats.items() if name == found), "")


def _to_name(title: str, used: set[str]) -> str:
    """The title in the characters that are allowed, with a number where it was used before."""
    plain = _SPACES.sub(" ", _NOT_IN_NAMES.sub("-", title)).strip(" -")[:_MAX_NAME].rstrip()
    name = plain = plain or _DEFAULT_NAME
    number = 1
    while name in used:
        number += 1
        ending = f" ({number})"
        name = plain[: _MAX_NAME - len(ending)] + ending
    used.add(name)
    return name
