"""All rules on what comes from a model, whole or streamed, with the same result.

A choice that a rule stops ends there with FINISH_REASON_GUARDRAIL; the others go on. Where rules may stop
one, its parts are passed on one after another even if they grow side by side, as calls of several tools do:
what comes after the part that is stopped is not to be seen, and which that is can only be told when the ones
before it have ended.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import fields
from functools import partial
from itertools import chain
from typing import Final, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    Choice,
    ChoiceEnd,
    Finish,
    FinishReason,
    PartDelta,
    PartEnd,
    PartStart,
    StreamEnd,
)
from aigateway.v1.content_pb2 import Citation, ContentPart
from aigateway.v1.guardrail_profile_pb2 import GuardrailPart
from gateway_server.errors import GatewayError
from gateway_server.guardrails.detectors import Personal
from gateway_server.guardrails.documents import MediaText, read_media
from gateway_server.guardrails.json_guard import JsonGuard
from gateway_server.guardrails.json_work import CHARACTERS_OF_TEXT
from gateway_server.guardrails.parts import IDENTIFIER, part_of
from gateway_server.guardrails.pii.matches import CONTEXT
from gateway_server.guardrails.rules import BLOCK, LOG, CheckTimeoutError, Tally
from gateway_server.guardrails.text_guard import STEP, BlockedError, Part, Replaced, TextGuard, said
from gateway_server.guardrails.vault import Vault
from gateway_server.providers.wire.json_values import from_struct

T = TypeVar("T")

#: For each kind of part that grows: its text's field, and the field of deltas that carries it.
_TEXT_FIELDS: Final = {
    "text": ("text", "text"),
    "refusal": ("text", "text"),
    "reasoning": ("text", "reasoning_text"),
    "audio": ("transcript", "transcript"),
    "tool_call": ("arguments", "arguments"),
}
_TEXT: Final = GuardrailPart.GUARDRAIL_PART_TEXT
_to_json: Final = json.JSONEncoder(ensure_ascii=False).encode
_STOPPED: Final = Finish(reason=FinishReason.FINISH_REASON_GUARDRAIL)


class _Link(NamedTuple, Generic[T]):
    """A thing and, behind it, what came before."""

    before: "_Link[T] | None"
    thing: T


class _Kept(Generic[T]):
    """Things in the order in which they came. A copy shares them, so that it costs the same for any number.

    Whoever takes one out changes only a copy of it.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: _Link[T] | None = None

    def append(self, thing: T) -> None:
        self._last = _Link(self._last, thing)

    def __iter__(self) -> Iterator[T]:
        things: list[T] = []
        link = self._last
        while link is not None:
            things.append(link.thing)
            link = link.before
        return reversed(things)

    def __deepcopy__(self, memo: dict[int, object]) -> "_Kept[T]":
        copied: _Kept[T] = _Kept()
        copied._last = self._last
        return copied


class _Channel:
    """The growing text of one part, and what can only be passed on when the part ends."""

    def __init__(
        self,
        guard: TextGuard | JsonGuard,
        delta: str,
        part_kind: GuardrailPart.ValueType,
        require_time: Callable[[], None],
        before: str = "",
    ) -> None:
        """``before`` are the words that stand right before the text."""
        self._guard = guard
        self._require_time = require_time
        #: The last words that were read, the model's own.
        self.last_words = before
        self.part_kind = part_kind
        #: The field of deltas that carries the text.
        self.delta = delta
        self.signature = b""
        self.citations: _Kept[Citation] = _Kept()
        #: Whether what the part says beside its text, such as a name, is not the model's own.
        self.is_changed_beside = False
        #: Where in the model's own words something was replaced: its start, its end, its length now.
        self._replaced: list[tuple[int, int, int]] = []
        self._length = 0

    @property
    def goes_on(self) -> bool:
        """Whether the part behind may go on with what is said here."""
        return self.part_kind == _TEXT and not isinstance(self._guard, JsonGuard)

    @property
    def is_changed(self) -> bool:
        """Whether the text is not the model's own any more."""
        if isinstance(self._guard, JsonGuard) and self._guard.is_changed:
            return True
        return bool(self._replaced) or self.is_changed_beside

    def feed(self, text: str) -> str:
        """What may be passed on now that ``text`` has come; raises BlockedError with all of that."""
        self.last_words = _last_of(self.last_words, text)
        passed: list[str] = []
        for start in range(0, len(text), STEP):
            self._require_time()
            try:
                fed = self._guard.feed(text[start : start + STEP])
            except BlockedError as blocked:
                blocked.parts = [*passed, *blocked.parts]
                raise
            passed.append(fed if isinstance(fed, str) else self._pass_on(fed))
        return "".join(passed)

    def close(self) -> str:
        """The rest; raises BlockedError."""
        closed = self._guard.close()
        return closed if isinstance(closed, str) else self._pass_on(closed)

    def _pass_on(self, parts: Sequence[Part]) -> str:
        """The same as text; remembers where it is not the model's own."""
        for part in parts:
            source = part.source if isinstance(part, Replaced) else part
            if isinstance(part, Replaced):
                self._replaced.append((self._length, self._length + len(source), len(part.text)))
            self._length += len(source)
        return said(parts)

    def placed(self, citation: Citation) -> Citation:
        """The citation with its places in the text as it is now; without, where they cannot be told."""
        if isinstance(self._guard, JsonGuard) and self._guard.is_changed:
            citation.ClearField("start_index")
            citation.ClearField("end_index")
        if citation.HasField("start_index"):
            citation.start_index = self._place(citation.start_index, at_end=False)
        if citation.HasField("end_index"):
            citation.end_index = self._place(citation.end_index, at_end=True)
        return citation

    def _place(self, index: int, *, at_end: bool) -> int:
        moved = 0
        for start, end, length in self._replaced:
            if end <= index:
                moved += length - (end - start)
            elif start < index:
                return start + moved + (length if at_end else 0)
        return index + moved


class AnswerGuard:
    """Guards one answer."""

    def __init__(
        self,
        tallies: Iterable[Tally],
        *,
        window: int = 0,
        vault: Vault | None = None,
        choices: int = 1,
        is_json: bool = False,
        tool_names: frozenset[str] = frozenset(),
    ) -> None:
        """Values in ``vault`` are put back; ``choices`` is how many answers were asked for.

        ``is_json`` tells that they were to be JSON, so that their texts stay it; ``tool_names`` are the names
        of the caller's tools, which are no words of the model.
        """
        self.tallies = list(tallies)
        self._window = window
        self._vault = vault
        self._choices = max(choices, 1)
        self._is_json = is_json
        self._tool_names = tool_names
        #: Of every part that is open, by choice and part, in the order in which they began.
        self._channels: dict[tuple[int, int], _Channel | None] = {}
        self._may_stop = any(tally.rule.action == BLOCK or tally.rule.blocks_unread for tally in self.tallies)
        #: The last words of texts that have ended while the part behind had not begun, by choice and part.
        self._last_words: dict[tuple[int, int], str] = {}
        #: What has come of parts, by choice, while one before them could still be stopped, or gone on with.
        self._waiting: dict[int, _Kept[ChatEvent]] = {}
        self._stopped: set[int] = set()
        #: Of parts that came whole those, by choice and part, that are not the model's own any more.
        self._rewritten: set[tuple[int, int]] = set()
        #: Choices whose words are not all the model's own any more, or do not go on.
        self._changed: set[int] = set()
        self._has_failed = False
        #: Set by whoever no longer waits for what a thread does with this guard.
        self.is_given_up = False

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more of the answer can be passed on."""
        return len(self._stopped) >= self._choices

    @property
    def waiting_characters(self) -> int:
        """How much waits, roughly, for a part to end: parts behind it, and its citations."""
        citations = sum(
            _citation_size(citation)
            for channel in self._channels.values()
            if channel is not None
            for citation in channel.citations
        )
        waiting = sum(event.ByteSize() for event in self.waiting_events)
        return citations + waiting + size_beside_of(self.waiting_events)

    @property
    def waiting_events(self) -> Iterator[ChatEvent]:
        """What waits behind a part that could still be stopped."""
        return chain.from_iterable(self._waiting.values())

    @property
    def rule_at_work(self) -> int:
        """The index of the rule that is looking right now; the first when none is."""
        return next((index for index, tally in enumerate(self.tallies) if tally.is_looking), 0)

    def give_up(self, index: int) -> None:
        """A rule does not come back from a look. Raises GUARDRAIL_FAILED unless it can be done without."""
        tally = self.tallies[index]
        tally.has_looked = True
        try:
            tally.fail("timeout")
        except GatewayError:
            self._has_failed = True
            raise

    def copy(self) -> "AnswerGuard":
        """Another that has got as far, with books of its own."""
        # What rules are made of never changes, and is not copied.
        memo: dict[int, object] = {id(same): same for same in (self._vault, self._tool_names)}
        for rule in (tally.rule for tally in self.tallies):
            memo[id(rule)] = rule
            memo[id(rule.detector)] = rule.detector
            for field in fields(rule.detector):
                part = getattr(rule.detector, field.name)
                memo[id(part)] = part
        return deepcopy(self, memo)

    def apply(self, answer: ChatCompletion) -> None:
        """Changes a whole answer as the rules want. Raises GUARDRAIL_FAILED."""
        for choice in answer.choices:
            for index, part in enumerate(choice.message.parts):
                key = (choice.index, index)
                before = self._words_before(key)
                if self._is_clean(part):
                    if not self._is_json:
                        self._last_words[key] = _last_of(before, part.text.text)
                    continue
                try:
                    channel = self._open(part, key, before)
                    if channel is not None:
                        self._end(part, channel, choice.index)
                        self._keep_words(key, channel)
                except _StoppedError as stopped:
                    del choice.message.parts[index + stopped.is_passed_on :]
                    _stop(choice)
                    self._changed.add(choice.index)
                    break
            self._guard_metadata(choice, is_beside_changed=choice.index in self._changed)
        self._guard_metadata(answer, is_beside_changed=bool(self._changed))

    def _is_clean(self, part: ContentPart) -> bool:
        """Whether nothing can be found in a whole text, where that is quick to tell."""
        if self._vault or not part.HasField("text") or part.text.citations:
            return False
        if _is_json(part.provider_signature):
            return False  # it may say what the text does not
        tallies = self._tallies_for(part_of("text"))
        if not _is_plain(tallies, part.text.text, is_json=self._is_json):
            return False
        for tally in tallies:
            tally.has_looked = True
        return True

    def feed(self, events: Iterable[ChatEvent]) -> list[ChatEvent]:
        """What may be passed on of a stream now that ``events`` have come. Raises GUARDRAIL_FAILED."""
        passed: list[ChatEvent] = []
        try:
            for event in events:
                passed += self._feed(event)
        except GatewayError:
            self._has_failed = True
            raise
        return passed

    def cut(self) -> list[ChatEvent]:
        """The rest of the texts of a stream that has broken off: they end where they are.

        Nothing when it broke off because a check could not run: what waited for it is not to be seen.
        """
        passed: list[ChatEvent] = []
        while self._channels and not self._has_failed:
            choice_index, part_index = next(iter(self._channels))
            channel = self._channels.pop((choice_index, part_index))
            if channel is not None:
                self._keep_words((choice_index, part_index), channel)
                place = PartDelta(choice_index=choice_index, part_index=part_index)
                try:
                    passed += _delta(place, channel, channel.close())
                except BlockedError as blocked:
                    passed += _delta(place, channel, said(blocked.parts))
                    self._forget(choice_index)
            passed += self._resume(choice_index)
        return passed

    def _feed(self, event: ChatEvent) -> Iterator[ChatEvent]:
        match event.WhichOneof("event"):
            case "part_start" | "part_delta" | "part_end":
                yield from self._feed_part(event)
            case "choice_end":
                yield from self._end_choice(event)
            case "end":
                self._guard_metadata(event.end, is_beside_changed=bool(self._changed))
                yield event
            case _:
                yield event

    def _feed_part(self, event: ChatEvent, *, has_waited: bool = False) -> Iterator[ChatEvent]:
        """An event of a part; one that has waited is only copied, since copies of this guard share it."""
        place = _place_of(event)
        if place.choice_index in self._stopped:
            return
        if self._must_wait(place):
            self._waiting.setdefault(place.choice_index, _Kept()).append(event)
            return
        if has_waited:
            event = deepcopy(event)
            place = _place_of(event)
        if isinstance(place, PartStart):
            yield from self._start(event, place)
        elif isinstance(place, PartDelta):
            yield from self._grow(event, place)
        else:
            yield from self._finish(place.choice_index, place.part_index)
            if place.choice_index not in self._stopped:
                yield event
            yield from self._resume(place.choice_index)

    def _end_choice(self, event: ChatEvent) -> Iterator[ChatEvent]:
        choice_index = event.choice_end.choice_index
        while open_parts := self._open_parts(choice_index):
            yield from self._finish(choice_index, open_parts[0])
            yield from self._resume(choice_index)
        if choice_index not in self._stopped:
            self._guard_metadata(event.choice_end, is_beside_changed=choice_index in self._changed)
            yield event

    def _must_wait(self, place: PartStart | PartDelta | PartEnd) -> bool:
        """Whether a part before this one may yet be stopped, or be a text that this one goes on with.

        What begins behind a part that waits, waits too.
        """
        choice_index, part_index = place.choice_index, place.part_index
        if self._may_stop:
            return any(
                open_choice == choice_index and open_part < part_index and channel is not None
                for (open_choice, open_part), channel in self._channels.items()
            )
        if (choice_index, part_index) in self._channels:
            return False
        if choice_index in self._waiting:
            return True
        before = self._channels.get((choice_index, part_index - 1))
        if before is None or not before.goes_on or not isinstance(place, PartStart):
            return False
        kind = place.part.WhichOneof("kind")
        return kind is not None and part_of(kind) == _TEXT

    def _resume(self, choice_index: int) -> Iterator[ChatEvent]:
        """What need not wait any more now that a part has ended."""
        for event in self._waiting.pop(choice_index, ()):
            yield from self._feed_part(event, has_waited=True)

    def _open_parts(self, choice_index: int) -> list[int]:
        return [part_index for open_choice, part_index in self._channels if open_choice == choice_index]

    def _forget(self, choice_index: int) -> None:
        """Nothing more is passed on of a choice."""
        self._stopped.add(choice_index)
        self._changed.add(choice_index)
        self._waiting.pop(choice_index, None)
        for part_index in self._open_parts(choice_index):
            del self._channels[choice_index, part_index]

    def _start(self, event: ChatEvent, start: PartStart) -> Iterator[ChatEvent]:
        key = (start.choice_index, start.part_index)
        try:
            self._channels[key] = self._open(start.part, key, self._words_before(key))
        except _StoppedError as stopped:
            if stopped.is_passed_on:
                yield event
                self._channels[key] = None
            yield from self._stop_choice(start.choice_index)
            return
        yield event

    def _grow(self, event: ChatEvent, delta: PartDelta) -> Iterator[ChatEvent]:
        key = (delta.choice_index, delta.part_index)
        channel = self._channels.get(key)
        kind = delta.WhichOneof("delta")
        if channel is None and kind == "provider_signature":
            if key not in self._rewritten and not self._tells(delta.provider_signature, _TEXT):
                yield event
        elif channel is None or kind not in (channel.delta, "citation", "provider_signature"):
            yield event
        elif kind == "citation":
            channel.citations.append(delta.citation)
        elif kind == "provider_signature":
            channel.signature = delta.provider_signature
        else:
            try:
                text = channel.feed(getattr(delta, channel.delta))
            except BlockedError as blocked:
                yield from _delta(delta, channel, said(blocked.parts))
                yield from self._stop_choice(delta.choice_index)
                return
            if text or delta.logprobs:
                setattr(delta, channel.delta, text)
                yield event

    def _finish(self, choice_index: int, part_index: int) -> Iterator[ChatEvent]:
        """What a part still has to say when it ends."""
        channel = self._channels.pop((choice_index, part_index), None)
        if channel is None:
            return
        self._keep_words((choice_index, part_index), channel)
        place = PartDelta(choice_index=choice_index, part_index=part_index)
        try:
            yield from _delta(place, channel, channel.close())
        except BlockedError as blocked:
            yield from _delta(place, channel, said(blocked.parts))
            self._channels[choice_index, part_index] = None
            yield from self._stop_choice(choice_index)
            return
        for citation in channel.citations:
            yield _event(place, citation=self._guarded(citation, channel, choice_index))
        if channel.is_changed:
            self._changed.add(choice_index)
        elif channel.signature and not self._tells(channel.signature, channel.part_kind):
            yield _event(place, provider_signature=channel.signature)

    def _stop_choice(self, choice_index: int) -> Iterator[ChatEvent]:
        for part_index in self._open_parts(choice_index):
            yield ChatEvent(part_end=PartEnd(choice_index=choice_index, part_index=part_index))
        self._forget(choice_index)
        yield ChatEvent(choice_end=ChoiceEnd(choice_index=choice_index, finish=_STOPPED))

    def _words_before(self, key: tuple[int, int]) -> str:
        """The last words right before a part that begins: a model may cut one sentence into several parts."""
        choice_index, part_index = key
        return self._last_words.pop((choice_index, part_index - 1), "")

    def _keep_words(self, key: tuple[int, int], channel: _Channel) -> None:
        if channel.goes_on:
            self._last_words[key] = channel.last_words

    def _open(
        self, part: ContentPart, key: tuple[int, int], before: str = "", *, in_result: bool = False
    ) -> _Channel | None:
        """Guards what is known of a part; gives the channel of a part that grows. Raises _StoppedError.

        ``key`` tells the choice and the part of it that it is, or is in; ``before`` the words before it.
        """
        kind = part.WhichOneof("kind")
        if kind is None:
            return None
        part_kind = part_of(kind, in_result=in_result)
        is_changed_beside = self._guard_beside(part, kind, part_kind)
        if kind not in _TEXT_FIELDS:
            if is_changed_beside:
                self._rewritten.add(key)
            self._guard_whole(part, key)
            return None
        field, delta = _TEXT_FIELDS[kind]
        content = getattr(part, kind)
        is_json = self._is_json if kind == "text" else kind == "tool_call" and not part.tool_call.free_form
        open_text = partial(self._open_text, part_kind)
        context = before if part_kind == _TEXT else ""
        channel = _Channel(
            JsonGuard(open_text) if is_json else open_text(context),
            delta,
            part_kind,
            self._require_time,
            context,
        )
        channel.is_changed_beside = is_changed_beside
        channel.signature = part.provider_signature
        part.ClearField("provider_signature")
        if kind == "text":
            for citation in part.text.citations:
                kept = Citation()
                kept.CopyFrom(citation)
                channel.citations.append(kept)
            part.text.ClearField("citations")
        try:
            setattr(content, field, channel.feed(getattr(content, field)))
        except BlockedError as blocked:
            setattr(content, field, said(blocked.parts))
            raise _StoppedError(is_passed_on=True) from None
        return channel

    def _end(self, part: ContentPart, channel: _Channel, choice_index: int) -> None:
        """Puts in what a whole part has to say at its end. Raises _StoppedError."""
        kind = part.WhichOneof("kind") or ""
        field, _ = _TEXT_FIELDS[kind]
        content = getattr(part, kind)
        try:
            setattr(content, field, getattr(content, field) + channel.close())
        except BlockedError as blocked:
            setattr(content, field, getattr(content, field) + said(blocked.parts))
            raise _StoppedError(is_passed_on=True) from None
        if kind == "text":
            part.text.citations.extend(
                self._guarded(citation, channel, choice_index) for citation in channel.citations
            )
        if channel.is_changed:
            self._changed.add(choice_index)
        elif channel.signature and not self._tells(channel.signature, channel.part_kind):
            part.provider_signature = channel.signature

    def _guard_beside(self, part: ContentPart, kind: str, part_kind: GuardrailPart.ValueType) -> bool:
        """Guards what a part says beside a text that grows; gives whether it changed it.

        Raises _StoppedError.
        """
        is_changed = False
        for text in self._texts_beside(part, kind):
            if text.is_unread:
                self._note_unread(part_kind)
            if not text.text:
                continue
            try:
                guarded = self._guarded_text(text.text, part_kind, is_json=text.is_json)
            except BlockedError:
                raise _StoppedError(is_passed_on=False) from None
            if guarded != text.text:
                text.write(guarded)
                is_changed = True
        return is_changed

    def _texts_beside(self, part: ContentPart, kind: str) -> Iterator[MediaText]:
        content = getattr(part, kind)
        match kind:
            case "provider":
                yield _text(content, "block_json", is_json=True)
            case "tool_call" | "tool_result":
                is_own = content.provider_executed and IDENTIFIER.fullmatch(content.tool_name)
                if not is_own and content.tool_name not in self._tool_names:
                    yield _text(content, "tool_name")
            case "document":
                yield _text(content.source, "filename")
                yield read_media(content.source)
                yield _text(content, "title")
                yield _text(content, "context")
            case "image" | "audio" | "video":
                yield _text(content.source, "filename")
                yield _text(content.source, "inline_text")
                # Of a stream the bytes come later, and nothing is to depend on that.
                yield MediaText(is_unread=True)
            case _:
                pass

    def _guard_whole(self, part: ContentPart, key: tuple[int, int]) -> None:
        """Guards what is within a part that does not grow. Raises _StoppedError."""
        if part.HasField("tool_result"):
            for index, each in enumerate(part.tool_result.parts):
                try:
                    channel = self._open(each, key, in_result=True)
                    if channel is not None:
                        self._end(each, channel, key[0])
                        if channel.is_changed:
                            self._rewritten.add(key)
                except _StoppedError as stopped:
                    del part.tool_result.parts[index + stopped.is_passed_on :]
                    part.ClearField("provider_signature")
                    raise _StoppedError(is_passed_on=True) from None
        if key in self._rewritten:
            self._changed.add(key[0])
        if key in self._rewritten or self._tells(part.provider_signature, _TEXT):
            part.ClearField("provider_signature")

    def _note_unread(self, part_kind: GuardrailPart.ValueType) -> None:
        """Raises _StoppedError where a rule wants to have read what cannot be."""
        for tally in self._tallies_for(part_kind):
            tally.note_unread(part_kind)
            if tally.is_stopped:
                raise _StoppedError(is_passed_on=False)

    def _guarded(self, citation: Citation, channel: _Channel, choice_index: int) -> Citation:
        """A citation with guarded words, placed in the text as it is now; what must be stopped is left out.

        Its signature goes where it has such words too: providers write into it what they want back.
        """
        citation = deepcopy(citation)
        is_changed = False
        for field in ("cited_text", "title", "uri"):
            source = getattr(citation, field)
            try:
                text = self._guarded_text(source, channel.part_kind)
            except BlockedError:
                text = ""
            if text != source:
                is_changed = True
                self._changed.add(choice_index)
                citation.ClearField(field)
                if text:
                    setattr(citation, field, text)
        if is_changed or self._tells(citation.provider_signature, channel.part_kind):
            citation.ClearField("provider_signature")
        return channel.placed(citation)

    def _guard_metadata(
        self, message: ChatCompletion | Choice | ChoiceEnd | StreamEnd, *, is_beside_changed: bool
    ) -> None:
        """Leaves out what a provider reports where it says, or may say, what was taken out.

        Beside changed words it goes whatever it says: a piece of them may tell nothing by itself.
        """
        if message.HasField("provider_metadata") and (
            is_beside_changed or self._finds(_to_json(from_struct(message.provider_metadata)), _TEXT)
        ):
            message.ClearField("provider_metadata")

    def _guarded_text(self, text: str, part_kind: GuardrailPart.ValueType, *, is_json: bool = False) -> str:
        """A text that comes whole as rules leave it. Raises BlockedError."""
        open_text = partial(self._open_text, part_kind)
        channel = _Channel(
            JsonGuard(open_text) if is_json else open_text(""), "", part_kind, self._require_time
        )
        return channel.feed(text) + channel.close()

    def _tells(self, signature: bytes, part_kind: GuardrailPart.ValueType) -> bool:
        """Whether a signature is JSON, of which formats make fields, and says what rules take out."""
        return _is_json(signature) and self._finds(signature.decode(errors="replace"), part_kind)

    def _finds(self, json_text: str, part_kind: GuardrailPart.ValueType) -> bool:
        """Whether rules that change answers find anything in JSON that cannot be changed by them."""
        tallies = [tally for tally in self._tallies_for(part_kind) if tally.rule.action != LOG]
        if _is_plain(tallies, json_text, is_json=True):
            return False
        guard = JsonGuard(lambda context: TextGuard(tallies, context=context, window=self._window))
        try:
            for start in range(0, len(json_text), STEP):
                self._require_time()
                guard.feed(json_text[start : start + STEP])
            guard.close()
        except BlockedError:
            return True
        return guard.is_changed

    def _tallies_for(self, part_kind: GuardrailPart.ValueType) -> list[Tally]:
        """The books of the rules that read such parts."""
        return [tally for tally in self.tallies if part_kind in tally.rule.parts]

    def _require_time(self) -> None:
        if self.is_given_up:
            raise CheckTimeoutError

    def _open_text(self, part_kind: GuardrailPart.ValueType, context: str) -> TextGuard:
        return TextGuard(
            self._tallies_for(part_kind), context=context, window=self._window, restores_from=self._vault
        )


class _StoppedError(Exception):
    """A part is stopped; ``is_passed_on`` tells whether what came before the offence is kept."""

    def __init__(self, *, is_passed_on: bool) -> None:
        super().__init__()
        self.is_passed_on = is_passed_on


def size_beside(answer: ChatCompletion) -> int:
    """How much there is beside an answer's words, roughly, in characters that take as long.

    That is documents, names of files, citations, what is reported, and what each text takes however short.
    """
    beside_choices = sum(
        choice.provider_metadata.ByteSize() + sum(map(_whole_size, choice.message.parts))
        for choice in answer.choices
    )
    return answer.provider_metadata.ByteSize() + beside_choices


def size_beside_of(events: Iterable[ChatEvent]) -> int:
    """The same of events of a stream."""
    return sum(map(_event_size, events))


def _event_size(event: ChatEvent) -> int:
    match event.WhichOneof("event"):
        case "part_start":
            return _part_size(event.part_start.part)
        case "part_delta":
            delta = event.part_delta
            return _citation_size(delta.citation) if delta.HasField("citation") else 0
        case "part_end":
            return CHARACTERS_OF_TEXT
        case "choice_end":
            return event.choice_end.provider_metadata.ByteSize()
        case "end":
            return event.end.provider_metadata.ByteSize()
        case _:
            return 0


def _whole_size(part: ContentPart) -> int:
    return CHARACTERS_OF_TEXT + _part_size(part)


def _part_size(part: ContentPart) -> int:
    size = 0
    match part.WhichOneof("kind"):
        case "text":
            size += sum(map(_citation_size, part.text.citations))
        case "tool_result":
            size += sum(map(_whole_size, part.tool_result.parts))
        case "document":
            document = part.document
            size += document.ByteSize()
            size += CHARACTERS_OF_TEXT * sum(
                map(bool, (document.source.filename, document.title, document.context))
            )
        case "image" | "audio" | "video" as kind:
            source = getattr(part, kind).source
            for text in (source.filename, source.inline_text):
                size += len(text) + CHARACTERS_OF_TEXT * bool(text)
        case _:
            pass
    return size


def _citation_size(citation: Citation) -> int:
    texts = (citation.cited_text, citation.title, citation.uri)
    return citation.ByteSize() + CHARACTERS_OF_TEXT * sum(map(bool, texts))


def _text(message: Message, field: str, *, is_json: bool = False) -> MediaText:
    return MediaText(getattr(message, field), partial(setattr, message, field), is_json)


def _place_of(event: ChatEvent) -> PartStart | PartDelta | PartEnd:
    if event.HasField("part_start"):
        return event.part_start
    return event.part_delta if event.HasField("part_delta") else event.part_end


def _last_of(before: str, text: str) -> str:
    """The last words of a text, which others may stand before."""
    return (before + text[-CONTEXT:])[-CONTEXT:]


def _is_json(signature: bytes) -> bool:
    return signature.startswith(b"{")


def _is_plain(tallies: Iterable[Tally], text: str, *, is_json: bool = False) -> bool:
    """Whether no rule can find anything in a text, where that is quick to tell."""
    if is_json and "\\" in text:
        return False  # there may be more to its strings than can be seen
    for tally in tallies:
        detector = tally.rule.detector
        if tally.failure or not isinstance(detector, Personal) or detector.may_find(text):
            return False
    return True


def _stop(choice: Choice) -> None:
    choice.finish.CopyFrom(_STOPPED)
    choice.ClearField("logprobs")
    choice.ClearField("provider_metadata")


def _delta(place: PartDelta, channel: _Channel, text: str) -> Iterator[ChatEvent]:
    if text:
        event = _event(place)
        setattr(event.part_delta, channel.delta, text)
        yield event


def _event(
    place: PartDelta, *, citation: Citation | None = None, provider_signature: bytes = b""
) -> ChatEvent:
    delta = PartDelta(choice_index=place.choice_index, part_index=place.part_index, citation=citation)
    if provider_signature:
        delta.provider_signature = provider_signature
    return ChatEvent(part_delta=delta)
