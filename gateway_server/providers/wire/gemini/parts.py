"""Parts of an answer as parts of a message."""

import binascii
from typing import Final

from aigateway.v1.content_pb2 import ContentPart, MediaSource
from gateway_server.providers.wire.gemini.marks import make_call_id, seal_signature
from gateway_server.providers.wire.gemini.partial_calls import PartialCall
from gateway_server.providers.wire.json_values import (
    ExactText,
    JsonObject,
    MalformedAnswerError,
    dump_exactly,
    dump_text,
    get_object,
    get_text,
)

#: What a part says about its data; the remaining key is the data's kind.
_ABOUT: Final = frozenset({"thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution"})


class PartReader:
    """Reads the parts of one candidate in their order, and counts its calls."""

    def __init__(self, choice_index: int, provider_type: str, response_id: str) -> None:
        self.call_count = 0
        self._call_ids: set[str] = set()
        self._choice_index = choice_index
        self._provider_type = provider_type
        self._response_id = response_id
        #: A call of which more is to come.
        self._partial: PartialCall | None = None

    def read(
        self, source: JsonObject, where: str, body: ExactText, path: tuple[str | int, ...]
    ) -> ContentPart | None:
        """The part, None when it says nothing. It stands at ``path`` in ``body``."""
        part = ContentPart()
        if signature := get_text(source, "thoughtSignature", where):
            part.provider_signature = seal_signature(signature)
        if "text" in source:
            text = get_text(source, "text", where)
            if source.get("thought") is True:
                part.reasoning.text = text
                part.reasoning.is_summary = True
            else:
                part.text.text = text
            return part if text or signature else None
        if (call := get_object(source, "functionCall", where)) is not None:
            return self._read_call(part, call, f"{where}.functionCall", body, path)
        if source.get("thought") is not True and _read_media(part, source, where):
            return part
        kinds = [key for key, value in source.items() if key not in _ABOUT and value is not None]
        if kinds:
            # A signature inside the block goes back with it.
            part.ClearField("provider_signature")
            part.provider.provider_type = self._provider_type
            part.provider.block_type = kinds[0]
            part.provider.block_json = dump_exactly(source, body, *path)
            return part
        if not signature:
            return None
        if source.get("thought") is True:
            part.reasoning.is_summary = True
        else:
            part.text.SetInParent()
        return part

    def end(self) -> None:
        """Raises when a call is not complete."""
        if self._partial is not None:
            raise MalformedAnswerError("the answer ended in the middle of a function call")

    def _read_call(
        self, part: ContentPart, call: JsonObject, where: str, body: ExactText, path: tuple[str | int, ...]
    ) -> ContentPart | None:
        if self._partial is not None or "partialArgs" in call or call.get("willContinue") is True:
            return self._grow_call(part, call, where)
        arguments = get_object(call, "args", where)
        text = "{}" if arguments is None else dump_exactly(arguments, body, *path, "functionCall", "args")
        self._fill_call(part, get_text(call, "name", where), get_text(call, "id", where), text)
        return part

    def _grow_call(self, part: ContentPart, piece: JsonObject, where: str) -> ContentPart | None:
        """Takes a piece of a call; gives the call with the last of them."""
        if self._partial is None:
            self._partial = PartialCall(piece, part.provider_signature, where)
        call = self._partial
        if not call.grow(piece, where):
            return None
        self._partial = None
        part.provider_signature = call.signature or part.provider_signature
        self._fill_call(part, call.name, call.call_id, dump_text(call.arguments, where))
        return part

    def _fill_call(self, part: ContentPart, name: str, call_id: str, arguments: str) -> None:
        if not name:
            raise MalformedAnswerError("a function call has no name")
        part.tool_call.tool_name = name
        part.tool_call.arguments = arguments
        call_id = call_id or make_call_id(
            self._response_id, self._choice_index, self.call_count, name + arguments
        )
        if call_id in self._call_ids:
            raise MalformedAnswerError("two tool calls have the same id")
        part.tool_call.tool_call_id = call_id
        self._call_ids.add(call_id)
        self.call_count += 1


def _read_media(part: ContentPart, source: JsonObject, where: str) -> bool:
    """Reads data or the address of a file, if the part is one."""
    media = MediaSource()
    if (blob := get_object(source, "inlineData", where)) is not None:
        media.inline_data = _read_data(get_text(blob, "data", f"{where}.inlineData"), f"{where}.inlineData")
        media.mime_type = get_text(blob, "mimeType", f"{where}.inlineData")
    elif (file := get_object(source, "fileData", where)) is not None:
        media.uri = get_text(file, "fileUri", f"{where}.fileData")
        media.mime_type = get_text(file, "mimeType", f"{where}.fileData")
    else:
        return False
    match media.mime_type.partition("/")[0].lower():
        case "image":
            part.image.source.CopyFrom(media)
        case "audio":
            part.audio.source.CopyFrom(media)
        case "video":
            part.video.source.CopyFrom(media)
        case _:
            part.document.source.CopyFrom(media)
    return True


def _read_data(data: str, where: str) -> bytes:
    if "-" in data or "_" in data:
        # The alphabet for addresses, which is accepted here wherever base64 is.
        data = data.replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError as error:
        raise MalformedAnswerError(f"{where}.data is not base64") from error
