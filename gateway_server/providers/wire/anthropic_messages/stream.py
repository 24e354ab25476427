"""A streamed answer as events."""

from typing import Final

import orjson

from aigateway.v1.content_pb2 import ContentPart
from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages.citations import read_citation
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE
from gateway_server.providers.wire.anthropic_messages.errors import parse_error_in_answer
from gateway_server.providers.wire.anthropic_messages.fields import (
    begin_call,
    read_block,
    read_extras,
    read_finish,
    read_refusal,
    read_usage,
    read_usage_extras,
    to_provider_part,
)
from gateway_server.providers.wire.json_values import (
    ExactText,
    JsonObject,
    MalformedAnswerError,
    as_object,
    dump_exactly,
    get_list,
    get_object,
    get_text,
    to_struct,
)
from gateway_server.providers.wire.seals import seal
from gateway_server.providers.wire.sse_stream import SseChatStream, parse_event
from gateway_server.providers.wire.stream_writer import ChoiceWriter

_BLOCK: Final = "content_block"
_DELTA: Final = "content_block_delta.delta"
#: Keys of the last event that have a place of their own.
_END_KEYS: Final = frozenset({"type", "delta", "usage"})


class AnthropicChatStream(SseChatStream):
    """Reads one stream; implements ChatStreamParser.

    Until its end the usage has the output that the provider tells at the beginning.
    """

    _read_usage = staticmethod(read_usage)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._choice = self._writer.choice(0)
        self._blocks = _BlockReader(self._choice)
        self._extras: JsonObject = {}
        self._stop_reason: str | None = None
        self._stop_sequence = ""
        self._stop_details: JsonObject | None = None
        self._done = False

    def _take(self, payload: bytes) -> None:
        """Reads one event of the body."""
        event = parse_event(payload)
        if event is None:
            return
        if type(event) is not dict:
            raise MalformedAnswerError("an event of the stream is not a JSON object")
        kind = event.get("type")
        if kind == "content_block_delta":
            self._blocks.grow(event)
        elif kind != "ping":
            self._take_rare(get_text(event, "type", "event"), event, payload)

    def _take_rare(self, kind: str, event: JsonObject, payload: bytes) -> None:
        """Reads an event of a kind that comes once or once for each block. Unknown kinds may be added."""
        if event.get("error") is not None:
            raise parse_error_in_answer(event["error"], self._target.provider)
        if self._done:
            raise MalformedAnswerError("the stream goes on after message_stop")
        match kind:
            case "message_start":
                self._start(get_object(event, "message", kind) or {})
            case "content_block_start":
                if self._stop_reason is not None or not self._writer.started:
                    raise MalformedAnswerError("a block stands outside of the message")
                self._blocks.begin(event, ExactText(payload))
            case "content_block_stop":
                self._blocks.end(event)
            case "message_delta":
                self._take_end(event)
            case "message_stop":
                self._done = True

    def _start(self, message: JsonObject) -> None:
        if self._writer.started:
            raise MalformedAnswerError("the message begins twice")
        if get_list(message, "content", "message"):
            raise MalformedAnswerError("the message begins with content")
        self._writer.start(
            response_id=get_text(message, "id", "message"),
            model=get_text(message, "model", "message") or self._target.provider_model,
        )
        self._extras |= read_extras(message)
        self._grow_usage(message, "message")

    def _take_end(self, event: JsonObject) -> None:
        """Counts are sums up to here, so they replace those told before; what is not told again stays."""
        delta = get_object(event, "delta", "message_delta") or {}
        if not self._writer.started:
            raise MalformedAnswerError("the message ends before it begins")
        self._blocks.require_no_open_block()
        if delta.get("stop_reason") is not None:
            self._stop_reason = get_text(delta, "stop_reason", "message_delta.delta")
            self._stop_sequence = get_text(delta, "stop_sequence", "message_delta.delta")
            self._stop_details = get_object(delta, "stop_details", "message_delta.delta")
        self._extras |= read_extras(delta)
        self._extras |= {
            key: value for key, value in event.items() if key not in _END_KEYS and value is not None
        }
        self._grow_usage(event, "message_delta")

    def _grow_usage(self, source: JsonObject, where: str) -> None:
        usage = get_object(source, "usage", where)
        if usage is not None:
            told = {key: value for key, value in usage.items() if value is not None}
            self._usage = told if self._usage is None else self._usage | told

    def _end(self) -> None:
        if self._stop_reason is None:
            raise MalformedAnswerError("the stream ended before the message was finished")
        refusal = read_refusal(self._stop_details)
        if refusal is not None:
            self._choice.whole(refusal)
        finish = read_finish(
            self._stop_reason, self._stop_sequence, has_tool_calls=bool(self._blocks.call_ids)
        )
        details = {"stop_details": self._stop_details} if self._stop_details else None
        self._choice.end(finish, to_struct(details) if details else None)
        usage = None
        extras = self._extras
        if self._usage is not None:
            usage = read_usage(self._usage)
            if usage_extras := read_usage_extras(self._usage):
                extras["usage"] = usage_extras
        self._writer.end(usage, to_struct(extras) if extras else None)


class _BlockReader:
    """Reads the blocks of one message, which come one after another."""

    def __init__(self, writer: ChoiceWriter) -> None:
        self.call_ids: set[str] = set()
        self._writer = writer
        #: Index and type of the open block; -1 between blocks.
        self._index = -1
        self._last_index = -1
        self._kind = ""
        #: The part of the open block, if it was begun.
        self._part_index = 0
        #: The open block if it has no kind in the contract or is a tool call.
        self._block: JsonObject = {}
        self._payload = ExactText(b"")
        self._pieces: list[str] = []

    def begin(self, event: JsonObject, payload: ExactText) -> None:
        """Opens a block."""
        self.require_no_open_block()
        index = event.get("index")
        if type(index) is not int or index <= self._last_index:
            raise MalformedAnswerError("content_block_start.index is not the index of a new block")
        self._index = self._last_index = index
        block = as_object(event.get(_BLOCK), _BLOCK)
        self._kind = get_text(block, "type", _BLOCK)
        match self._kind:
            case "text":
                self._begin_text(block)
            case "thinking":
                self._part_index = self._writer.begin_text("reasoning")
                if text := get_text(block, "thinking", _BLOCK):
                    self._writer.reasoning(text)
                if signature := get_text(block, "signature", _BLOCK):
                    self._writer.signature(self._part_index, seal(PROVIDER_TYPE, signature))
            case "redacted_thinking":
                self._writer.whole(read_block(block, payload, _BLOCK))
            case "tool_use":
                self._begin_call(block)
        self._block = block
        self._payload = payload
        self._pieces.clear()

    def _begin_text(self, block: JsonObject) -> None:
        self._writer.begin_text("text")
        if text := get_text(block, "text", _BLOCK):
            self._writer.text(text)
        for cited in get_list(block, "citations", _BLOCK):
            self._cite(cited, f"{_BLOCK}.citations[]")

    def _begin_call(self, block: JsonObject) -> None:
        part: ContentPart = begin_call(block, _BLOCK)
        call_id = part.tool_call.tool_call_id
        if call_id in self.call_ids:
            raise MalformedAnswerError("two tool calls have the same id")
        self.call_ids.add(call_id)
        self._part_index = self._writer.begin(part)

    def grow(self, event: JsonObject) -> None:
        """Reads what one delta adds to the open block."""
        delta = event.get("delta")
        if type(delta) is not dict or event.get("index") != self._index:
            raise MalformedAnswerError("content_block_delta is not for the open block")
        kind = delta.get("type")
        if kind == "text_delta" and self._kind == "text":
            text = delta.get("text")
            if type(text) is not str:
                raise MalformedAnswerError(f"{_DELTA}.text is not text")
            if text:
                self._writer.text(text)
        elif kind == "input_json_delta":
            self._grow_input(get_text(delta, "partial_json", _DELTA))
        else:
            self._grow_rare(kind, delta)

    def _grow_input(self, piece: str) -> None:
        if not piece:
            return
        if self._kind == "tool_use":
            self._writer.arguments(self._part_index, piece)
        elif self._kind in {"text", "thinking", "redacted_thinking"}:
            raise MalformedAnswerError("input_json_delta is for a block without input")
        self._pieces.append(piece)

    def _grow_rare(self, kind: object, delta: JsonObject) -> None:
        match kind, self._kind:
            case "thinking_delta", "thinking":
                if text := get_text(delta, "thinking", _DELTA):
                    self._writer.reasoning(text)
            case "signature_delta", "thinking":
                signature = get_text(delta, "signature", _DELTA)
                self._writer.signature(self._part_index, seal(PROVIDER_TYPE, signature))
            case "citations_delta", "text":
                self._cite(delta.get("citation"), f"{_DELTA}.citation")
            case _, "text" | "thinking" | "redacted_thinking" | "tool_use":
                raise MalformedAnswerError("content_block_delta does not fit the open block")
            case _:
                _join(self._block, delta)

    def _cite(self, cited: object, where: str) -> None:
        self._writer.cite([read_citation(as_object(cited, where), where)])

    def end(self, event: JsonObject) -> None:
        """Closes the open block."""
        if self._index < 0 or event.get("index") != self._index:
            raise MalformedAnswerError("content_block_stop is not for the open block")
        match self._kind:
            case "tool_use":
                if not self._pieces:
                    self._writer.arguments(self._part_index, self._whole_input())
            case "text" | "thinking" | "redacted_thinking":
                pass
            case _:
                self._writer.whole(to_provider_part(self._kind, self._whole_block()))
        self._writer.end_parts()
        self._index = -1

    def _whole_input(self) -> str:
        """The arguments of a call that brought them at once, or has none."""
        arguments = get_object(self._block, "input", _BLOCK)
        return dump_exactly(arguments, self._payload, _BLOCK, "input") if arguments else "{}"

    def _whole_block(self) -> str:
        if not self._pieces:
            return dump_exactly(self._block, self._payload, _BLOCK)
        # The text of the input as it came, wherever the block has it.
        block = {**self._block, "input": orjson.Fragment("".join(self._pieces))}
        try:
            text = orjson.dumps(block)
            orjson.loads(text)
        except (TypeError, orjson.JSONDecodeError) as error:
            raise MalformedAnswerError(f"{_BLOCK}.input is not JSON") from error
        return text.decode()

    def require_no_open_block(self) -> None:
        """Raises if a block has not been closed."""
        if self._index >= 0:
            raise MalformedAnswerError("a block was not closed")


def _join(block: JsonObject, delta: JsonObject) -> None:
    """Adds a delta to a block of a kind that is not known: texts and lists go on, the rest is replaced."""
    for key, value in delta.items():
        present = block.get(key)
        if key == "type":
            continue
        if type(value) is str and type(present) is str:
            block[key] = present + value
        elif type(value) is list and type(present) is list:
            present.extend(value)
        else:
            block[key] = value
