"""A streamed answer as events."""

from typing import Final

from aigateway.v1.content_pb2 import ContentPart
from gateway_server.providers.base import Target
from gateway_server.providers.wire.gemini.fields import (
    ANSWER_KEYS,
    CANDIDATE_KEYS,
    blocked_finish,
    grow_extras,
    read_block_reason,
    read_finish,
    read_index,
    read_logprobs,
    read_usage,
    take_usage,
)
from gateway_server.providers.wire.gemini.grounding import Grounding
from gateway_server.providers.wire.gemini.parts import PartReader
from gateway_server.providers.wire.gemini_errors import parse_error_in_answer
from gateway_server.providers.wire.json_values import (
    ExactText,
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_text,
    to_struct,
)
from gateway_server.providers.wire.sse_stream import SseChatStream, parse_event
from gateway_server.providers.wire.stream_writer import ChoiceWriter

#: Raw samples: pieces of them are one sound when they are put together.
_RAW_AUDIO: Final = ("audio/l16", "audio/pcm")


class GeminiStream(SseChatStream):
    """Reads one stream; implements ChatStreamParser.

    There is no mark at its end: it is whole when each candidate has told why it ended and the body has
    ended properly.
    """

    _read_usage = staticmethod(read_usage)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._response_id = ""
        self._choices: dict[int, _CandidateReader] = {}
        self._extras: JsonObject = {}
        self._block_reason = ""

    def _take(self, payload: bytes) -> None:
        chunk = parse_event(payload)
        if chunk is None:
            return
        # Errors come in a list at times.
        told = chunk[0] if type(chunk) is list and chunk else chunk
        if type(told) is dict and told.get("error") is not None:
            raise parse_error_in_answer(told["error"], self._target.provider)
        if type(chunk) is not dict:
            raise MalformedAnswerError("an event of the stream is not a JSON object")
        self._take_chunk(chunk, ExactText(payload))

    def _take_chunk(self, chunk: JsonObject, payload: ExactText) -> None:
        if not self._writer.started:
            self._response_id = get_text(chunk, "responseId", "chunk")
            self._writer.start(
                response_id=self._response_id,
                model=get_text(chunk, "modelVersion", "chunk") or self._target.provider_model,
            )
        for place, candidate in enumerate(get_list(chunk, "candidates", "chunk")):
            if type(candidate) is not dict:
                raise MalformedAnswerError("candidates[] is not an object")
            index = read_index(candidate, default=place)
            reader = self._choices.get(index)
            if reader is None:
                reader = _CandidateReader(
                    index, self._writer.choice(index), self._target.provider_type, self._response_id
                )
                self._choices[index] = reader
            reader.take(candidate, place, payload)
        usage = chunk.get("usageMetadata")
        if usage is not None:
            # Each is the whole usage so far, except that steps before the last may be told one by one.
            self._usage = as_object(usage, "chunk.usageMetadata")
        if not chunk.keys() <= ANSWER_KEYS:
            self._block_reason = read_block_reason(chunk) or self._block_reason
            grow_extras(self._extras, chunk, ANSWER_KEYS)

    def _end(self) -> None:
        if not self._choices:
            if not self._block_reason:
                raise MalformedAnswerError("the stream holds no answer")
            self._writer.choice(0).end(blocked_finish(self._block_reason), None)
        for _, reader in sorted(self._choices.items()):
            reader.end(self._block_reason)
        usage = take_usage(self._usage, self._extras)
        self._writer.end(usage, to_struct(self._extras) if self._extras else None)


class _CandidateReader:
    """Reads the chunks of one candidate."""

    def __init__(self, index: int, writer: ChoiceWriter, provider_type: str, response_id: str) -> None:
        self._where = f"candidates[{index}]"
        self._writer = writer
        self._parts = PartReader(index, provider_type, response_id)
        self._finish_reason = ""
        self._extras: JsonObject = {}
        #: The open text as far as it is written: what is cited is told later.
        self._text: list[str] = []
        #: The sound that may go on, and its type.
        self._audio_index: int | None = None
        self._audio_type = ""

    def take(self, candidate: JsonObject, place: int, payload: ExactText) -> None:
        """Reads one chunk's share of the candidate, which is at ``place`` in it."""
        grounding = None
        if not candidate.keys() <= CANDIDATE_KEYS:
            grow_extras(self._extras, candidate, CANDIDATE_KEYS)
            grounding = Grounding(candidate, self._where)
        if candidate.get("logprobsResult") is not None:
            self._writer.logprobs(read_logprobs(candidate, self._where))
        content = candidate.get("content")
        if content:
            self._take_content(as_object(content, f"{self._where}.content"), place, payload, grounding)
        if grounding is not None:
            self._cite(grounding)
        reason = candidate.get("finishReason")
        if reason is not None:
            self._finish_reason = get_text(candidate, "finishReason", self._where)

    def _take_content(
        self, content: JsonObject, place: int, payload: ExactText, grounding: Grounding | None
    ) -> None:
        for number, part in enumerate(get_list(content, "parts", f"{self._where}.content")):
            if type(part) is dict and len(part) == 1 and type(part.get("text")) is str:
                # Nearly every part of a stream is this one.
                if text := part["text"]:
                    self._add_text(text)
                continue
            at = f"{self._where}.content.parts[]"
            path = ("candidates", place, "content", "parts", number)
            read = self._parts.read(as_object(part, at), at, payload, path)
            if read is not None:
                self._add_part(read, grounding)

    def _add_text(self, text: str) -> None:
        if not self._writer.is_in_text:
            self._text.clear()
        self._audio_index = None
        self._text.append(text)
        self._writer.text(text)

    def _add_part(self, part: ContentPart, grounding: Grounding | None) -> None:
        """Goes on with what is open, or begins a part.

        A part with a signature stays by itself: merged with another it would not be what was signed.
        """
        kind = part.WhichOneof("kind")
        if kind == "text" and not part.provider_signature:
            self._add_text(part.text.text)
            return
        if grounding is not None:
            # Before another part ends the open text.
            self._cite(grounding)
        if part.provider_signature or not self._is_raw_audio(part):
            self._audio_index = None
        if kind == "reasoning" and not part.provider_signature:
            self._writer.reasoning(part.reasoning.text, is_summary=True)
        elif self._audio_index is not None and part.audio.source.mime_type == self._audio_type:
            self._writer.inline_data(self._audio_index, part.audio.source.inline_data)
        elif self._is_raw_audio(part) and not part.provider_signature:
            self._audio_type = part.audio.source.mime_type
            self._audio_index = self._writer.begin(part)
        else:
            if kind == "text" and grounding is not None:
                part.text.citations.extend(grounding.place(part.text.text))
            self._writer.whole(part)

    @staticmethod
    def _is_raw_audio(part: ContentPart) -> bool:
        source = part.audio.source
        return bool(source.inline_data) and source.mime_type.lower().startswith(_RAW_AUDIO)

    def _cite(self, grounding: Grounding) -> None:
        if self._writer.is_in_text and (citations := grounding.place("".join(self._text))):
            self._writer.cite(citations)

    def end(self, block_reason: str) -> None:
        """Ends the candidate, which must be complete, or broken off for what the prompt says."""
        if self._finish_reason:
            finish = read_finish(self._finish_reason, has_tool_calls=self._parts.call_count > 0)
        elif block_reason:
            finish = blocked_finish(block_reason)
        else:
            raise MalformedAnswerError("the stream ended before the answer was finished")
        self._parts.end()
        self._writer.end(finish, to_struct(self._extras) if self._extras else None)
