"""Pictures and documents as blocks of content."""

import re
from typing import Final

from aigateway.v1.content_pb2 import DocumentPart, ImagePart, MediaSource
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.anthropic_messages.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import base64_text, require_mime_type

_IMAGE_TYPES: Final = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_PDF: Final = "application/pdf"
_TEXT: Final = "text/plain"
#: What the provider may be asked to fetch; a file of its own machine is not among it.
_FETCHABLE: Final = re.compile(r"https?://", re.IGNORECASE)
#: Bytes that a client wrote as an address.
_DATA_URL: Final = re.compile(r"data:([^;,]+);base64,([A-Za-z0-9+/]*={0,2})", re.IGNORECASE)


def render_image(image: ImagePart, path: str, context: RenderContext) -> JsonObject:
    """An ``image`` block. How closely to look cannot be told."""
    source = image.source
    rendered = _render_source(source, "image", path, context)
    if rendered["type"] == "base64":
        if rendered["media_type"] not in _IMAGE_TYPES:
            raise context.unsupported(f"images of type {rendered['media_type']}")
        rendered["media_type"] = _IMAGE_TYPES[rendered["media_type"]]
    return {"type": "image", "source": rendered}


def render_document(document: DocumentPart, path: str, context: RenderContext) -> JsonObject:
    """A ``document`` block: PDF, plain text, or something that the provider fetches or has already."""
    rendered: JsonObject = {"type": "document", "source": _render_document_source(document, path, context)}
    if title := document.title or document.source.filename:
        rendered["title"] = title
    if document.context:
        rendered["context"] = document.context
    if document.citations_enabled:
        rendered["citations"] = {"enabled": True}
    return rendered


def _render_document_source(document: DocumentPart, path: str, context: RenderContext) -> JsonObject:
    source = document.source
    if source.WhichOneof("location") == "inline_text":
        return {"type": "text", "media_type": _TEXT, "data": source.inline_text}
    if source.WhichOneof("location") == "inline_data" and _media_type(source) == _TEXT:
        try:
            return {"type": "text", "media_type": _TEXT, "data": source.inline_data.decode()}
        except UnicodeDecodeError as error:
            raise context.unsupported("text documents that are not UTF-8") from error
    rendered = _render_source(source, "document", path, context)
    if rendered["type"] == "base64" and rendered["media_type"] != _PDF:
        raise context.unsupported(f"documents of type {rendered['media_type']}")
    return rendered


def _render_source(source: MediaSource, kind: str, path: str, context: RenderContext) -> JsonObject:
    match source.WhichOneof("location"):
        case "inline_data":
            require_mime_type(source, path)
            data = base64_text(source.inline_data)
            return {"type": "base64", "media_type": _media_type(source), "data": data}
        case "uri":
            if inline := _DATA_URL.fullmatch(source.uri):
                return {"type": "base64", "media_type": inline[1].lower(), "data": inline[2]}
            if not _FETCHABLE.match(source.uri):
                raise context.unsupported(f"{kind} addresses other than http, https and base64 data")
            return {"type": "url", "url": source.uri}
        case "provider_file_id":
            return {"type": "file", "file_id": source.provider_file_id}
        case "inline_text":
            raise invalid_request(f"{path}.source.inline_text", "is for document parts only")
        case _:
            raise invalid_request(f"{path}.source", "has no location")


def _media_type(source: MediaSource) -> str:
    """The type without its parameters, as in ``text/plain; charset=utf-8``."""
    return source.mime_type.partition(";")[0].strip().lower()
