"""Makes event streams as AWS frames them: a test upstream's half of what the gateway reads."""

import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any

_STRING = 7


def encode_message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message: lengths and their checksum, headers, payload, and the checksum of all."""
    encoded = b"".join(_encode_header(name, value) for name, value in headers.items())
    lengths = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = lengths + struct.pack("!I", zlib.crc32(lengths)) + encoded + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _encode_header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(f"!B{len(key)}sBH", len(key), key, _STRING, len(text)) + text


def event(kind: str, payload: Any) -> bytes:
    """An event with a JSON payload."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return encode_message(headers, json.dumps(payload).encode())


def exception(kind: str, message: str = "words of the provider") -> bytes:
    """A failure in the middle of a stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode_message(headers, json.dumps({"message": message}).encode())


def unmodeled_error(code: str, message: str = "words of the provider") -> bytes:
    """A failure of a kind that the service does not describe: it has headers alone."""
    return encode_message({":message-type": "error", ":error-code": code, ":error-message": message}, b"")


def to_event_stream(events: Iterable[dict[str, Any]]) -> bytes:
    """Events, each an object with one key: its kind."""
    return b"".join(event(kind, payload) for each in events for kind, payload in each.items())
