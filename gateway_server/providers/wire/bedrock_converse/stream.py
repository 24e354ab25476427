"""A streamed answer as events."""

from typing import Any, Final

import orjson

from aigateway.v1.content_pb2 import ContentPart
from gateway_server.providers.base import Target
from gateway_server.providers.wire.bedrock_converse.citations import read_citation
from gateway_server.providers.wire.bedrock_converse.errors import parse_exception
from gateway_server.providers.wire.bedrock_converse.fields import (
    SERVER_CALL,
    begin_call,
    begin_image,
    read_bytes,
    read_extras,
    read_finish,
    read_image_bytes,
    read_usage,
    read_usage_extras,
    to_provider_part,
)
from gateway_server.providers.wire.bedrock_converse.frames import FrameDecoder
from gateway_server.providers.wire.bedrock_converse.thoughts import seal_signature, seal_thought
from gateway_server.providers.wire.chat_stream import ChatStream
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    dump_text,
    get_list,
    get_object,
    get_text,
    to_struct,
)
from gateway_server.providers.wire.stream_writer import ChoiceWriter

_DELTA: Final = "contentBlockDelta.delta"
_START: Final = "contentBlockStart.start"
#: Random padding, which stands in every event.
_PADDING: Final = "p"
_STOP_KEYS: Final = frozenset({"stopReason", _PADDING})
_METADATA_KEYS: Final = frozenset({"usage", _PADDING})


class BedrockChatStream(ChatStream):
    """Reads one stream; implements ChatStreamParser.

    Its answer is complete with its stop reason and the proper end of the body. The usage comes after the
    stop reason; where it is missing the answer has none.
    """

    _read_usage = staticmethod(read_usage)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._frames = FrameDecoder()
        self._choice = self._writer.choice(0)
        self._blocks = _BlockReader(self._choice, target)
        self._extras: JsonObject = {}
        self._stop_reason = ""

    def _read(self, data: bytes) -> None:
        for headers, payload in self._frames.feed(data):
            if headers.get(":message-type") != "event":
                self._take_failure(headers, payload)
            kind = headers.get(":event-type")
            if kind == "contentBlockDelta":
                self._require_open_message()
                self._blocks.grow(_parse(payload))
            else:
                self._take_rare(kind, payload)

    def _take_failure(self, headers: dict[str, object], payload: bytes) -> None:
        """Raises what a message stands for that is no event."""
        match headers.get(":message-type"):
            case "exception":
                kind = headers.get(":exception-type")
                said = _parse(payload).get("message") if payload else None
            case "error":
                kind, said = headers.get(":error-code"), headers.get(":error-message")
            case _:
                raise MalformedAnswerError("a message of the stream is of no known type")
        raise parse_exception(kind if isinstance(kind, str) else "", said, self._target.provider)

    def _take_rare(self, kind: object, payload: bytes) -> None:
        """Reads an event of a kind that comes once or once for each block. Unknown kinds may be added."""
        match kind:
            case "messageStart":
                if self._writer.started:
                    raise MalformedAnswerError("the message begins twice")
                self._start()
            case "contentBlockStart":
                self._require_open_message()
                self._blocks.begin(_parse(payload))
            case "contentBlockStop":
                self._require_open_message()
                self._blocks.end(_parse(payload))
            case "messageStop":
                self._require_open_message()
                event = _parse(payload)
                self._stop_reason = get_text(event, "stopReason", "messageStop")
                if not self._stop_reason:
                    raise MalformedAnswerError("messageStop has no stopReason")
                self._extras |= read_extras(event, _STOP_KEYS)
            case "metadata":
                event = _parse(payload)
                self._usage = get_object(event, "usage", "metadata") or self._usage
                self._extras |= read_extras(event, _METADATA_KEYS)

    def _start(self) -> None:
        self._writer.start(response_id="", model=self._target.provider_model)

    def _require_open_message(self) -> None:
        """Begins the message if its beginning did not come; raises when it has ended."""
        if self._stop_reason:
            raise MalformedAnswerError("the message goes on after messageStop")
        if not self._writer.started:
            self._start()

    def _read_end(self) -> None:
        if self._frames.is_inside_message:
            raise MalformedAnswerError("the stream ended in the middle of a message")
        if not self._stop_reason:
            raise MalformedAnswerError("the stream ended before the answer was finished")
        self._blocks.finish()
        self._choice.end(read_finish(self._stop_reason, has_tool_calls=bool(self._blocks.call_ids)), None)
        usage = None
        if self._usage is not None:
            usage = read_usage(self._usage)
            if usage_extras := read_usage_extras(self._usage):
                self._extras["usage"] = usage_extras
        self._writer.end(usage, to_struct(self._extras) if self._extras else None)


def _parse(payload: bytes) -> JsonObject:
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedAnswerError("an event of the stream is not JSON") from error
    return as_object(event, "an event of the stream")


#: Blocks whose part begins with their announcement; without it their deltas have nowhere to go.
_ANNOUNCED: Final = frozenset({"toolUse", "image"})


class _BlockReader:
    """Reads the blocks of one message, which come one after another.

    Only calls, results and pictures are announced; other blocks begin with their first delta.
    """

    def __init__(self, writer: ChoiceWriter, target: Target) -> None:
        self.call_ids: set[str] = set()
        self._writer = writer
        self._target = target
        #: The open block: its index, -1 between blocks, and its kind, empty until that is known.
        self._index = -1
        self._last_index = -1
        self._kind = ""
        self._part_index = 0
        #: Of an open block that is sent back as it came: what it was announced with.
        self._block: JsonObject = {}
        #: The pieces of what grows: arguments, a signature.
        self._pieces: list[str] = []
        self._sealed = b""

    def begin(self, event: JsonObject) -> None:
        """Opens a block that is announced."""
        self._open(event.get("contentBlockIndex"))
        start = get_object(event, "start", "contentBlockStart") or {}
        kind = next(iter(start), "")
        match kind:
            case "":
                pass  # a text, as some versions announce it
            case "text" | "citation" | "reasoningContent":
                self._grow_rare(start)  # these begin with their first delta, wherever it stands
            case "toolUse":
                self._begin_call(as_object(start[kind], f"{_START}.toolUse"))
            case "image":
                self._kind = kind
                self._part_index = self._writer.begin(
                    begin_image(as_object(start[kind], f"{_START}.image"), f"{_START}.image")
                )
            case _:
                self._kind = kind
                self._block = dict(as_object(start[kind], f"{_START}.{kind}"))

    def _open(self, index: object) -> None:
        self.finish()
        if type(index) is not int or index <= self._last_index:
            raise MalformedAnswerError("contentBlockIndex is not the index of a new block")
        self._index = self._last_index = index

    def _begin_call(self, call: JsonObject) -> None:
        if call.get("type") == SERVER_CALL:
            self._kind, self._block = SERVER_CALL, dict(call)
            return
        part = begin_call(call, f"{_START}.toolUse")
        call_id = part.tool_call.tool_call_id
        if call_id in self.call_ids:
            raise MalformedAnswerError("two tool calls have the same id")
        self.call_ids.add(call_id)
        self._kind = "toolUse"
        self._part_index = self._writer.begin(part)

    def grow(self, event: JsonObject) -> None:
        """Reads what one delta adds to the open block, or to one that it begins."""
        if event.get("contentBlockIndex") != self._index:
            self._open(event.get("contentBlockIndex"))
        delta = event.get("delta")
        if type(delta) is not dict:
            raise MalformedAnswerError(f"{_DELTA} is not an object")
        text = delta.get("text")
        if type(text) is str and self._kind == "text":
            if text:
                self._writer.text(text)
        else:
            self._grow_rare(delta)

    def _grow_rare(self, delta: JsonObject) -> None:
        kind = next(iter(delta), "")
        match kind:
            case "text" | "citation" if self._kind in {"", "text"}:
                self._grow_text(delta, kind)
            case "toolUse" if self._kind in {"toolUse", SERVER_CALL}:
                self._grow_arguments(get_object(delta, kind, _DELTA) or {})
            case "reasoningContent" if self._kind in {"", kind}:
                self._grow_reasoning(as_object(delta[kind], f"{_DELTA}.reasoningContent"))
            case "image" if self._kind == kind:
                image = as_object(delta[kind], f"{_DELTA}.image")
                self._writer.inline_data(self._part_index, read_image_bytes(image, f"{_DELTA}.image"))
            case "toolResult" if self._kind == kind:
                _join_results(self._block.setdefault("content", []), get_list(delta, kind, _DELTA))
            case _ if self._kind in {"", kind} and kind not in _ANNOUNCED:
                self._grow_unknown(kind, delta)
            case _:
                raise MalformedAnswerError("contentBlockDelta does not fit the open block")

    def _grow_text(self, delta: JsonObject, kind: str) -> None:
        if not self._kind:
            self._kind = "text"
            self._writer.begin_text("text")
        if kind == "text":
            if text := get_text(delta, "text", _DELTA):
                self._writer.text(text)
        else:
            cited = as_object(delta["citation"], f"{_DELTA}.citation")
            self._writer.cite([read_citation(cited, f"{_DELTA}.citation")])

    def _grow_arguments(self, call: JsonObject) -> None:
        if piece := get_text(call, "input", f"{_DELTA}.toolUse"):
            self._pieces.append(piece)
            if self._kind == "toolUse":
                self._writer.arguments(self._part_index, piece)

    def _grow_reasoning(self, delta: JsonObject) -> None:
        """A thought and its signature, or a sealed thought: a block is one of the two."""
        where = f"{_DELTA}.reasoningContent"
        self._kind = "reasoningContent"
        if delta.get("redactedContent") is not None:
            self._sealed += read_bytes(delta, "redactedContent", where)
            return
        if not self._block:
            self._block = {"begun": True}
            self._part_index = self._writer.begin_text("reasoning")
        if text := get_text(delta, "text", where):
            self._writer.reasoning(text)
        if signature := get_text(delta, "signature", where):
            self._pieces.append(signature)

    def _grow_unknown(self, kind: str, delta: JsonObject) -> None:
        """Joins the deltas of a block that is not understood."""
        if not kind:
            return
        self._kind = kind
        value = delta[kind]
        if type(value) is dict:
            _join(self._block, value)
        else:
            _join(self._block, {kind: value})

    def end(self, event: JsonObject) -> None:
        """Closes a block; one that had no delta was empty."""
        index = event.get("contentBlockIndex")
        if index == self._index:
            self.finish()
        elif type(index) is int and index > self._last_index:
            self._open(index)
            self.finish()
        else:
            raise MalformedAnswerError("contentBlockStop is not for the open block")

    def finish(self) -> None:
        """Ends the open block, if there is one."""
        if self._index < 0:
            return
        pieces = "".join(self._pieces)
        match self._kind:
            case "toolUse" if not pieces:
                self._writer.arguments(self._part_index, "{}")
            case "reasoningContent":
                self._end_reasoning(pieces)
            case "" | "text" | "toolUse" | "image":
                pass
            case kind:
                self._end_unread("toolUse" if kind == SERVER_CALL else kind, pieces)
        self._writer.end_parts()
        self._index, self._kind, self._block, self._sealed = -1, "", {}, b""
        self._pieces.clear()

    def _end_reasoning(self, signature: str) -> None:
        if signature:
            self._writer.signature(self._part_index, seal_signature(signature, self._target))
        if self._sealed:
            if self._block:
                raise MalformedAnswerError("a block of reasoning is both sealed and readable")
            part = ContentPart()
            part.reasoning.redacted_data = seal_thought(self._sealed, self._target)
            self._writer.whole(part)

    def _end_unread(self, kind: str, arguments: str) -> None:
        block = self._block
        if kind == "toolUse":
            try:
                orjson.loads(arguments or "{}")
            except orjson.JSONDecodeError as error:
                raise MalformedAnswerError("the input of a server tool is not JSON") from error
            block = {**block, "input": orjson.Fragment(arguments or "{}")}
        self._writer.whole(to_provider_part(kind, dump_text({kind: block}, kind)))


def _join_results(content: list[Any], pieces: list[Any]) -> None:
    """Adds to what a server tool returned: texts go on, everything else is another item."""
    for piece in pieces:
        last = content[-1] if content else None
        is_text = type(piece) is dict and piece.keys() == {"text"} and type(piece["text"]) is str
        if is_text and type(last) is dict and last.keys() == {"text"}:
            last["text"] += piece["text"]
        else:
            content.append(dict(piece) if type(piece) is dict else piece)


def _join(block: JsonObject, delta: JsonObject) -> None:
    for key, value in delta.items():
        present = block.get(key)
        if type(value) is str and type(present) is str:
            block[key] = present + value
        elif type(value) is list and type(present) is list:
            present.extend(value)
        else:
            block[key] = value
