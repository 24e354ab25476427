"""Which media types a part of each kind may be filled with."""

from collections.abc import Mapping
from typing import Final, Literal

MediaKind = Literal["image", "audio", "video", "document"]

#: In full, or as ``type/*``. An SVG is a program, and no provider reads one.
ALLOWED_TYPES: Final[Mapping[MediaKind, tuple[str, ...]]] = {
    "image": (
        "image/png",
        "image/jpeg",
        "image/jpg",
        "image/gif",
        "image/webp",
        "image/heic",
        "image/heif",
    ),
    "audio": ("audio/*",),
    "video": ("video/*",),
    "document": (
        "application/pdf",
        "text/plain",
        "text/markdown",
        "text/csv",
        "text/html",
        "application/json",
        "application/rtf",
        "application/msword",
        "application/vnd.ms-excel",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
}


def plain_type(content_type: str) -> str:
    """A media type in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_allowed(mime_type: str, kind: MediaKind) -> bool:
    """Whether a plain type may fill a part of this kind."""
    return mime_type in ALLOWED_TYPES[kind] or f"{top_level(mime_type)}/*" in ALLOWED_TYPES[kind]


def top_level(mime_type: str) -> str:
    """``image`` of ``image/png``."""
    return mime_type.partition("/")[0]
