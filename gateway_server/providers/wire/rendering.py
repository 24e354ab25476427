"""What every format does on the way out: check what callers wrote and put it into a body as it stands."""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import orjson
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.content_pb2 import MediaSource
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.wire.json_values import JsonObject, from_struct, to_number

#: One block of content: made here, or written by somebody else.
Block = JsonObject | orjson.Fragment

_MIME_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(?:\s*;\s*[\w-]+=[\w.-]+)*", re.ASCII)


def json_object_text(text: str, path: str) -> orjson.Fragment:
    """JSON text that somebody else wrote, put into the body as it stands once it has been checked."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid_request(path, f"is not JSON: {error.msg} at position {error.pos}") from error
    if not isinstance(value, dict):
        raise invalid_request(path, "is not a JSON object")
    return orjson.Fragment(text)


def json_arguments(
    arguments: str, unsupported: Callable[[str], GatewayError]
) -> JsonObject | orjson.Fragment:
    """The arguments of a call, for formats that carry them as an object."""
    if not arguments:
        return {}
    try:
        return json_object_text(arguments, "arguments")
    except GatewayError as error:
        # What a model wrote need not be JSON; formats that carry arguments as text can send it on.
        raise unsupported("tool calls whose arguments are not a JSON object") from error


def dump_body(body: JsonObject) -> bytes:
    """The body as it is sent. What callers wrote and a format had to take apart may be too deep to write."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise invalid_request("request", "holds JSON that is nested too deeply") from error


def json_object(struct: Struct, path: str) -> JsonObject:
    """A Struct that a caller wrote, as an object."""
    try:
        return from_struct(struct)
    except ValueError as error:
        raise invalid_request(path, f"holds a number that {error}") from error


def json_number(value: float, path: str) -> int | float:
    """A number that a caller wrote."""
    try:
        return to_number(value)
    except ValueError as error:
        raise invalid_request(path, str(error)) from error


def base64_text(data: bytes) -> str:
    """Bytes as text."""
    return b64encode(data).decode()


def require_mime_type(source: MediaSource, path: str) -> None:
    """Raises unless bytes come with a media type."""
    if not _MIME_TYPE.fullmatch(source.mime_type):
        raise invalid_request(
            f"{path}.source.mime_type", "is required with inline_data and names a media type"
        )


def fit_call_id(call_id: str, pattern: re.Pattern[str]) -> str:
    """The id of a call as a provider takes it; one of another provider with other characters is hashed."""
    if pattern.fullmatch(call_id):
        return call_id
    return f"call_{sha256(call_id.encode()).hexdigest()[:32]}"


def misplaced(kind: str | None, path: str) -> GatewayError:
    """The error for a part that does not belong where it stands."""
    if kind is None:
        return invalid_request(path, "has no kind")
    owner = "a tool turn" if kind == "tool_result" else "an assistant turn"
    return invalid_request(f"{path}.{kind}", f"only {owner} holds this kind of part")
