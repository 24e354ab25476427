"""A streamed answer as events."""

from typing import Any, Final

from aigateway.v1.content_pb2 import ContentPart
from gateway_server.providers.base import Target
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_object,
    get_text,
    to_struct,
)
from gateway_server.providers.wire.openai_chat.assistant import TOOL_CALL_BLOCK
from gateway_server.providers.wire.openai_chat.fields import (
    ANSWER_KEYS,
    CHOICE_KEYS,
    MESSAGE_KEYS,
    default_call_id,
    grow_audio_extras,
    grow_extras,
    read_annotations,
    read_arguments,
    read_audio_data,
    read_content_blocks,
    read_finish,
    read_index,
    read_logprobs,
    read_reasoning,
    read_usage,
    read_usage_extras,
    to_audio_part,
    to_provider_part,
)
from gateway_server.providers.wire.openai_errors import parse_error_in_answer
from gateway_server.providers.wire.sse_stream import SseChatStream, parse_event
from gateway_server.providers.wire.stream_writer import ChoiceWriter

_DONE: Final = b"[DONE]"
#: Stands for the one call of the old ``function_call`` field among the indices of ``tool_calls``.
_OLD_CALL: Final = -1
#: How deep the pieces of a call that is not understood may be nested; no writer of JSON writes deeper.
_MAX_DEPTH: Final = 200


class OpenAIChatStream(SseChatStream):
    """Reads one stream; implements ChatStreamParser."""

    _read_usage = staticmethod(read_usage)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._choices: dict[int, _ChoiceReader] = {}
        self._extras: JsonObject = {}
        self._done = False

    def _take(self, payload: bytes) -> None:
        """Reads one event of the body."""
        if payload == _DONE:
            self._done = True
            return
        chunk = parse_event(payload)
        if chunk is None:
            return
        if self._done:
            raise MalformedAnswerError("the stream goes on after [DONE]")
        if type(chunk) is not dict:
            raise MalformedAnswerError("an event of the stream is not a JSON object")
        if chunk.get("error") is not None:
            raise parse_error_in_answer(chunk["error"], self._target.provider)
        self._take_chunk(chunk)

    def _take_chunk(self, chunk: JsonObject) -> None:
        choices = get_list(chunk, "choices", "chunk")
        # The first chunk of some servers has no choice and no id, but remarks on the prompt.
        if not self._writer.started and (choices or chunk.get("id")):
            self._writer.start(
                response_id=get_text(chunk, "id", "chunk"),
                model=get_text(chunk, "model", "chunk") or self._target.provider_model,
            )
        for position, choice in enumerate(choices):
            if type(choice) is not dict:
                raise MalformedAnswerError("choices[] is not an object")
            index = read_index(choice, default=position)
            reader = self._choices.get(index)
            if reader is None:
                reader = _ChoiceReader(index, self._writer.choice(index), self._target)
                self._choices[index] = reader
            reader.take(choice)
        usage = chunk.get("usage")
        if usage is not None:
            self._usage = as_object(usage, "chunk.usage")
        if not chunk.keys() <= ANSWER_KEYS:
            grow_extras(self._extras, chunk, ANSWER_KEYS)

    def _end(self) -> None:
        if not self._choices:
            raise MalformedAnswerError("the stream holds no answer")
        for _, reader in sorted(self._choices.items()):
            reader.end()
        usage = None
        extras = self._extras
        if self._usage is not None:
            usage = read_usage(self._usage)
            if usage_extras := read_usage_extras(self._usage):
                extras["usage"] = usage_extras
        self._writer.end(usage, to_struct(extras) if extras else None)


class _Call:
    """One tool call while it grows."""

    __slots__ = ("arguments", "call_id", "free_form", "index", "name", "number", "part_index", "unknown")

    def __init__(self, index: int, number: int) -> None:
        #: Where the server says it is, and how many came before it.
        self.index = index
        self.number = number
        self.call_id = ""
        self.name = ""
        self.free_form = False
        #: Set once the part has begun, which takes its name.
        self.part_index: int | None = None
        #: Arguments that came before the name.
        self.arguments: list[str] = []
        #: All pieces of a call of a type that has no kind in the contract.
        self.unknown: list[JsonObject] = []


class _ChoiceReader:
    """Reads the deltas of one choice."""

    def __init__(self, index: int, writer: ChoiceWriter, target: Target) -> None:
        self._index = index
        self._writer = writer
        self._target = target
        self._where = f"choices[{index}]"
        self._delta_where = f"choices[{index}].delta"
        self._finish_reason: str | None = None
        self._stop_reason: object = None
        self._refused = False
        self._calls: list[_Call] = []
        self._call_by_index: dict[int, _Call] = {}
        self._call_by_id: dict[str, _Call] = {}
        self._last_call_index = _OLD_CALL
        #: Those that wait for the text they belong to.
        self._annotations: list[Any] = []
        self._audio_index: int | None = None
        self._audio_rest = ""
        self._extras: JsonObject = {}
        self._message_extras: JsonObject = {}
        #: Pieces of texts that have no field of their own.
        self._extra_texts: dict[str, list[str]] = {}

    def take(self, choice: JsonObject) -> None:
        """Reads one chunk's share of the choice."""
        if choice.get("logprobs") is not None:
            self._writer.logprobs(read_logprobs(choice, self._where))
        delta = choice.get("delta")
        if delta:
            content = delta.get("content") if type(delta) is dict else None
            if type(content) is str and len(delta) == 1:
                # Nearly every chunk of a stream is this one.
                if content:
                    self._writer.text(content)
            else:
                self._take_delta(as_object(delta, self._delta_where))
            if self._annotations and self._writer.is_in_text:
                self._cite()
        reason = choice.get("finish_reason")
        if reason is not None:
            self._finish(get_text(choice, "finish_reason", self._where), choice)
        if not choice.keys() <= CHOICE_KEYS:
            grow_extras(self._extras, choice, CHOICE_KEYS)

    def _finish(self, reason: str, choice: JsonObject) -> None:
        # An empty word is no reason: some servers send it on every chunk. What follows a reason, such as
        # remarks of a filter, still belongs to the choice, so nothing ends before the stream does.
        if reason:
            self._finish_reason = reason
            self._stop_reason = choice.get("stop_reason")

    def end(self) -> None:
        """Ends the choice, once nothing more can come for it."""
        if self._finish_reason is None:
            raise MalformedAnswerError(f"the stream ended before choice {self._index} was finished")
        for call in self._calls:
            self._end_call(call)
        if self._audio_rest:
            raise MalformedAnswerError(f"{self._delta_where}.audio.data is not base64")
        if self._annotations:
            self._message_extras["annotations"] = self._annotations
        finish = read_finish(
            self._finish_reason,
            self._stop_reason,
            has_tool_calls=bool(self._calls),
            has_refusal=self._refused,
        )
        if type(self._stop_reason) is int:
            self._extras["stop_reason"] = self._stop_reason
        self._message_extras |= {key: "".join(pieces) for key, pieces in self._extra_texts.items()}
        if self._message_extras:
            self._extras["message"] = self._message_extras
        self._writer.end(finish, to_struct(self._extras) if self._extras else None)

    def _take_delta(self, delta: JsonObject) -> None:
        """Reads what one delta holds, in the order that a whole message has."""
        where = self._delta_where
        if reasoning := read_reasoning(delta, where):
            self._writer.reasoning(reasoning)
        content = delta.get("content")
        if type(content) is list:
            self._take_blocks(content)
        elif text := get_text(delta, "content", where):
            self._writer.text(text)
        if refusal := get_text(delta, "refusal", where):
            self._take_refusal(refusal)
        self._annotations.extend(get_list(delta, "annotations", where))
        audio = get_object(delta, "audio", where)
        if audio is not None:
            self._take_audio(audio)
        for item in get_list(delta, "tool_calls", where):
            self._take_call(as_object(item, f"{where}.tool_calls[]"))
        function = get_object(delta, "function_call", where)
        if function is not None:
            self._grow_call(self._call_at(_OLD_CALL, "", ""), {"function": function})
        if not delta.keys() <= MESSAGE_KEYS:
            self._take_message_extras(delta)

    def _cite(self) -> None:
        citations, others = read_annotations({"annotations": self._annotations}, self._delta_where)
        self._writer.cite(citations)
        grow_extras(self._message_extras, {"annotations": others} if others else {}, frozenset())
        self._annotations = []

    def _take_message_extras(self, delta: JsonObject) -> None:
        for key, value in delta.items():
            if key in MESSAGE_KEYS or value is None:
                continue
            if type(value) is not str:
                self._extra_texts.pop(key, None)
                grow_extras(self._message_extras, {key: value}, MESSAGE_KEYS)
            elif key in self._extra_texts:
                self._extra_texts[key].append(value)
            else:
                self._message_extras.pop(key, None)
                self._extra_texts[key] = [value]

    def _take_blocks(self, blocks: list[Any]) -> None:
        for part in read_content_blocks(blocks, f"{self._delta_where}.content", self._target.provider_type):
            match part.WhichOneof("kind"):
                case "text":
                    if part.text.text:
                        self._writer.text(part.text.text)
                case "refusal":
                    if part.refusal.text:
                        self._take_refusal(part.refusal.text)
                case _:
                    self._writer.whole(part)

    def _take_refusal(self, piece: str) -> None:
        self._refused = True
        self._writer.refusal(piece)

    def _take_audio(self, audio: JsonObject) -> None:
        where = f"{self._delta_where}.audio"
        audio_id = get_text(audio, "id", where)
        data = self._decode_audio(get_text(audio, "data", where), where)
        if self._audio_index is None:
            self._audio_index = self._writer.begin(to_audio_part(audio_id, data))
        else:
            if audio_id:
                self._writer.signature(self._audio_index, audio_id.encode())
            if data:
                self._writer.inline_data(self._audio_index, data)
        if transcript := get_text(audio, "transcript", where):
            self._writer.transcript(self._audio_index, transcript)
        grow_audio_extras(self._message_extras, audio)

    def _decode_audio(self, data: str, where: str) -> bytes:
        """Decodes whole groups of four characters; a piece may end inside one."""
        data = self._audio_rest + data
        whole = len(data) // 4 * 4
        self._audio_rest = data[whole:]
        return read_audio_data(data[:whole], where)

    def _take_call(self, piece: JsonObject) -> None:
        where = f"{self._delta_where}.tool_calls[]"
        call_id = get_text(piece, "id", where)
        named = get_object(piece, "function", where) or get_object(piece, "custom", where) or {}
        index = piece.get("index")
        if index is None:
            index = self._guess_index(call_id)
        if type(index) is not int or index < 0:
            raise MalformedAnswerError(f"{where}.index is not an index")
        self._grow_call(self._call_at(index, call_id, get_text(named, "name", where)), piece)

    def _guess_index(self, call_id: str) -> int:
        """For servers that leave the index out: a new id is a new call, no id goes on with the last."""
        known = self._call_by_id.get(call_id)
        if known is not None and self._call_by_index[known.index] is known:
            return known.index
        return self._last_call_index + 1 if call_id else max(self._last_call_index, 0)

    def _call_at(self, index: int, call_id: str, name: str) -> _Call:
        """The call at an index. A few servers send every call at index 0: a new id begins a new one."""
        call = self._call_by_index.get(index)
        if call is not None and not (name and call_id and call.call_id and call.call_id != call_id):
            return call
        call = self._call_by_index[index] = _Call(index, len(self._calls))
        self._last_call_index = max(self._last_call_index, index)
        self._calls.append(call)
        return call

    def _grow_call(self, call: _Call, piece: JsonObject) -> None:
        where = f"{self._delta_where}.tool_calls[]"
        custom = get_object(piece, "custom", where)
        function = get_object(piece, "function", where)
        if call.unknown or (custom is None and function is None and not call.name):
            call.unknown.append({key: value for key, value in piece.items() if key != "index"})
            return
        call_id = get_text(piece, "id", where)
        if call_id and not call.call_id:
            self._identify(call, call_id)
        if custom is not None:
            call.free_form = True
            self._grow_named(call, get_text(custom, "name", where), get_text(custom, "input", where))
        elif function is not None:
            self._grow_named(call, get_text(function, "name", where), read_arguments(function, where))

    def _grow_named(self, call: _Call, name: str, arguments: str) -> None:
        if name and call.name and name != call.name:
            raise MalformedAnswerError("a tool call changes its name")
        call.name = call.name or name
        if call.part_index is not None:
            if arguments:
                self._writer.arguments(call.part_index, arguments)
            return
        if arguments:
            call.arguments.append(arguments)
        if call.name:
            self._begin_call(call)

    def _begin_call(self, call: _Call) -> None:
        part = ContentPart()
        if not call.call_id:
            self._identify(call, default_call_id(self._index, call.number))
        part.tool_call.tool_call_id = call.call_id
        part.tool_call.tool_name = call.name
        part.tool_call.free_form = call.free_form
        call.part_index = self._writer.begin(part)
        for piece in call.arguments:
            self._writer.arguments(call.part_index, piece)
        call.arguments.clear()

    def _identify(self, call: _Call, call_id: str) -> None:
        if call_id in self._call_by_id:
            raise MalformedAnswerError("two tool calls have the same id")
        call.call_id = call_id
        self._call_by_id[call_id] = call

    def _end_call(self, call: _Call) -> None:
        where = f"{self._delta_where}.tool_calls[]"
        if call.unknown:
            whole = _join_pieces(call.unknown, where)
            kind = get_text(whole, "type", where)
            block = to_provider_part(whole, TOOL_CALL_BLOCK + kind, where, self._target.provider_type)
            self._writer.whole(block)
        elif call.part_index is None:
            raise MalformedAnswerError(f"{where} has no name")


def _join_pieces(pieces: list[JsonObject], where: str, *, depth: int = 1) -> JsonObject:
    """Joins the pieces of a call that is not understood, as it would stand in a whole message."""
    if len(pieces) == 1:
        return pieces[0]
    if depth > _MAX_DEPTH:
        raise MalformedAnswerError(f"{where} is nested too deeply")
    # What is joined for each key: texts, or objects, or one value that stands for itself.
    runs: dict[str, list[Any]] = {}
    for piece in pieces:
        for key, value in piece.items():
            run = runs.setdefault(key, [])
            if value is None and run:
                continue
            grows = type(value) is dict or (type(value) is str and key not in {"id", "type"})
            if not (grows and run and type(run[0]) is type(value)):
                run.clear()
            run.append(value)
    return {key: _join_run(run, where, depth) for key, run in runs.items()}


def _join_run(run: list[Any], where: str, depth: int) -> object:
    match run[0]:
        case str():
            return "".join(run)
        case dict():
            return _join_pieces(run, where, depth=depth + 1)
        case value:
            return value
