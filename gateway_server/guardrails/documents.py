"""What the bytes of a document say, where they are text, and how they are written anew."""

import codecs
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import orjson

from aigateway.v1.content_pb2 import MediaSource

#: Documents of these media types are not text, whatever their bytes look like.
_BINARY_TYPES: Final = ("image/", "audio/", "video/", "font/", "application/pdf", "application/zip")
#: Documents of these are text, whatever their bytes look like.
_TEXT_TYPE: Final = re.compile(
    r"text/|application/(?:[^;]*\+)?(?:json|xml|yaml|csv|javascript)\b|image/svg\+xml\b"
)
_CHARSET: Final = re.compile(r""";\s*charset=["']?([^\s;"']+)""")
#: Each byte as a character of its own.
_LAST_RESORT: Final = "latin-1"
#: UTF-32's begin as UTF-16's do.
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
#: What they and UTF-8's are as text.
_BYTE_ORDER_MARK: Final = "\ufeff"
#: Bytes that a client wrote as an address.
_DATA_URL: Final = re.compile(r"data:([^,]*);base64,(.*)", re.IGNORECASE | re.DOTALL)


class MediaText(NamedTuple):
    """What a medium says; ``write`` puts another text in its place, in the same encoding."""

    text: str = ""
    write: Callable[[str], None] = lambda _: None
    is_json: bool = False
    #: Whether it says, or may say, something that cannot be read.
    is_unread: bool = False


def read_media(source: MediaSource) -> MediaText:
    """The text of a medium, but for its file name."""
    if source.inline_text:
        text = source.inline_text
        return MediaText(text, partial(setattr, source, "inline_text"), is_json=is_json_text(text))
    inline = _DATA_URL.fullmatch(source.uri)
    written_type = inline[1] if inline else source.mime_type
    mime_type = written_type.lower()
    is_binary = mime_type.startswith(_BINARY_TYPES) and not _TEXT_TYPE.match(mime_type)
    data = b"" if is_binary else _from_base64(inline[2]) if inline else source.inline_data
    encoding = _encoding_of(data, mime_type)
    if not encoding:
        return MediaText(is_unread=bool(source.inline_data or source.uri or source.provider_file_id))

    def write(replaced: str) -> None:
        written = replaced.encode(encoding, "replace")  # what is put back may be in no charset
        if inline:
            source.uri = f"data:{written_type};base64,{b64encode(written).decode()}"
        else:
            source.inline_data = written

    text = data.decode(encoding, "replace")
    charset = _CHARSET.search(mime_type)
    # It may say something else in the charset that it tells.
    is_unread = encoding == _LAST_RESORT and charset is not None and charset[1] != _LAST_RESORT
    return MediaText(text, write, is_json=is_json_text(text), is_unread=is_unread)


def is_json_text(text: str) -> bool:
    """Whether a text is one JSON container, whose strings are read as what they say."""
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _from_base64(text: str) -> bytes:
    """What is written in either alphabet, with or without padding."""
    digits = re.sub(r"[^A-Za-z0-9+/]", "", text.replace("-", "+").replace("_", "/"))
    return b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + "==")


def _encoding_of(data: bytes, mime_type: str) -> str:
    """How the bytes of a medium are text; empty when they are none.

    Bytes of a type that is text always are: at worst each is read as a character of its own.
    """
    if not data:
        return ""
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
    if not _TEXT_TYPE.match(mime_type):
        encoding = marked or "utf-8"
        return encoding if _is_in(data, encoding) and "\0" not in data.decode(encoding) else ""
    if b"\0" not in data and _is_in(data, "utf-8"):
        return "utf-8"
    # What of ASCII is in UTF-16 has a zero beside each character.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if not marked and data[first::2].count(0) > len(data) // 4:
            marked = encoding
    # A charset that does not write ASCII as ASCII would hide it from rules, and from no reader that errs.
    readable = (
        encoding
        for encoding in ("utf-8", *_CHARSET.findall(mime_type)[:1])
        if _is_in(data, encoding) and b"0@".decode(encoding, "ignore") == "0@"
    )
    return marked or next(readable, _LAST_RESORT)


def _is_in(data: bytes, encoding: str) -> bool:
    """Whether these bytes are text in an encoding, and no other bytes are the same text."""
    try:
        return data.decode(encoding).encode(encoding) == data
    except (LookupError, ValueError):
        return False
