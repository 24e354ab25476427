"""Media that a call gives by address, put in as bytes for targets that take nothing else."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import (
    ContentPart,
    DocumentPart,
    MediaSource,
    Message,
    Role,
    ToolResultPart,
)
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.base import MediaFormat, Target
from gateway_server.providers.media_fetch import Allowance, FetchedMedia, MediaFetcher, MediaFetchError
from gateway_server.providers.media_fetch.media_types import MediaKind, plain_type, top_level

R = TypeVar("R", CreateChatCompletionRequest, CountTokensRequest)

#: Guards what goes to a model, as the guardrails of a call do; raises what blocks it.
Check = Callable[[CreateChatCompletionRequest], Awaitable[CreateChatCompletionRequest]]

#: What a check sees of a document: the role, whether a tool returned it, its media type, and its address.
_Seen = tuple[Role.ValueType, bool, str, str]

#: Other addresses are left to the format, which says what it makes of them.
_WEB: Final = re.compile(r"https?:", re.IGNORECASE)
#: Fetches of one call at the same time.
_PARALLEL: Final = 4
#: Different addresses that one call may have fetched.
_MAX_URIS: Final = 32
#: The turns in which callers give media; what a model made stands in the others.
_TURNS: Final = frozenset({Role.ROLE_USER, Role.ROLE_TOOL})


@dataclass(frozen=True, slots=True)
class MediaPlace:
    """A part of a request that has media by address: where it is, and what is there."""

    message: int
    part: int
    #: The part of a tool's result, None for a part of the turn itself.
    result_part: int | None
    kind: MediaKind
    uri: str

    @property
    def path(self) -> str:
        """The field, as errors name it."""
        within = "" if self.result_part is None else f".tool_result.parts[{self.result_part}]"
        return f"messages[{self.message}].parts[{self.part}]{within}.{self.kind}.source"

    def find(self, messages: Sequence[Message]) -> MediaSource:
        """The source in a request, or in its copy."""
        part = messages[self.message].parts[self.part]
        if self.result_part is not None:
            part = part.tool_result.parts[self.result_part]
        return _source_of(part, self.kind)


class CallMedia:
    """What is fetched for one call: each address once, whatever targets need it."""

    def __init__(self, fetcher: MediaFetcher | None, *, check: Check) -> None:
        """Without a fetcher nothing is ever fetched: formats refuse what they cannot take.

        ``check`` sees each document that was fetched, as it would have seen it in the request.
        """
        self._fetcher = fetcher
        self._check = check
        self._allowance: Allowance | None = None
        self._fetched: dict[tuple[MediaKind, str], FetchedMedia] = {}
        self._failed: dict[tuple[MediaKind, str], MediaFetchError] = {}
        #: Documents as the check has left them, by what it saw of them.
        self._checked: dict[_Seen, bytes] = {}
        #: Two targets may be made ready at the same time, for the same address.
        self._lock = asyncio.Lock()

    def wanted_by(
        self, media_format: MediaFormat | None, target: Target, messages: Sequence[Message]
    ) -> list[MediaPlace]:
        """The parts that have to be fetched before a target can be asked."""
        if self._fetcher is None or media_format is None:
            return []
        return [
            place
            for place, part in _places(messages)
            if media_format.wants_bytes(part, target, in_result=place.result_part is not None)
        ]

    async def inline(self, request: R, places: Sequence[MediaPlace]) -> R:
        """The request with bytes in these places.

        Raises INVALID_REQUEST; another target, which takes the address itself, may serve it all the same.
        """
        inlined = type(request)()
        inlined.CopyFrom(request)
        async with self._lock:
            await self._fetch(places)
            for place in places:
                _fill(place.find(inlined.messages), self._fetched[place.kind, place.uri], place)
            await self._check_documents(inlined, [place for place in places if place.kind == "document"])
        return inlined

    async def _check_documents(self, inlined: R, places: Sequence[MediaPlace]) -> None:
        """Has each document checked once, however many targets get it."""

        def key_of(place: MediaPlace) -> _Seen:
            role, mime_type = inlined.messages[place.message].role, place.find(inlined.messages).mime_type
            return role, place.result_part is not None, mime_type, place.uri

        missing = {key_of(place): place for place in places if key_of(place) not in self._checked}
        if missing:
            excerpts = [_excerpt(inlined.messages, place) for place in missing.values()]
            checked = await self._check(CreateChatCompletionRequest(messages=excerpts))
            for key, message in zip(missing, checked.messages, strict=True):
                self._checked[key] = _document_of(message).source.inline_data
        for place in places:
            place.find(inlined.messages).inline_data = self._checked[key_of(place)]

    async def _fetch(self, places: Sequence[MediaPlace]) -> None:
        """Fetches what has not been; raises for the first place whose address failed, now or before."""
        if self._fetcher is None:
            raise AssertionError("without a fetcher no part is wanted")
        self._raise_failure(places)
        missing: dict[tuple[MediaKind, str], MediaPlace] = {}
        for place in places:
            if (place.kind, place.uri) not in self._fetched:
                missing.setdefault((place.kind, place.uri), place)
        if not missing:
            return
        if len(self._fetched) + len(missing) > _MAX_URIS:
            raise _failure("messages", f"hold more than {_MAX_URIS} addresses to fetch")
        self._allowance = self._allowance or self._fetcher.begin()
        waiting = iter(missing)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_PARALLEL, len(missing))):
                    group.create_task(self._fetch_in_turn(waiting, self._fetcher, self._allowance))
        except* MediaFetchError:
            pass  # it is kept, and raised here without its group
        self._raise_failure(places)

    async def _fetch_in_turn(
        self, waiting: Iterator[tuple[MediaKind, str]], fetcher: MediaFetcher, allowance: Allowance
    ) -> None:
        """Fetches one address after another, with others who take from the same ``waiting``."""
        for kind, uri in waiting:
            try:
                self._fetched[kind, uri] = await fetcher.fetch(uri, kind, allowance)
            except MediaFetchError as error:
                self._failed[kind, uri] = error
                raise

    def _raise_failure(self, places: Sequence[MediaPlace]) -> None:
        for place in places:
            if failed := self._failed.get((place.kind, place.uri)):
                raise _failure(f"{place.path}.uri", str(failed))


def _places(messages: Sequence[Message]) -> Iterator[tuple[MediaPlace, ContentPart]]:
    """All media that are given by an address of the web."""
    for message_index, message in enumerate(messages):
        if message.role not in _TURNS:
            continue
        for part_index, part in enumerate(message.parts):
            if part.WhichOneof("kind") != "tool_result":
                if found := _find(part):
                    yield MediaPlace(message_index, part_index, None, *found), part
                continue
            for result_index, result_part in enumerate(part.tool_result.parts):
                if found := _find(result_part):
                    yield MediaPlace(message_index, part_index, result_index, *found), result_part


def _find(part: ContentPart) -> tuple[MediaKind, str] | None:
    """The kind and the address of a part, if it has media by an address of the web."""
    match part.WhichOneof("kind"):
        case "image" | "audio" | "video" | "document" as kind:
            uri = _source_of(part, kind).uri
            return (kind, uri) if _WEB.match(uri) else None
        case _:
            return None


def _source_of(part: ContentPart, kind: MediaKind) -> MediaSource:
    match kind:
        case "image":
            return part.image.source
        case "audio":
            return part.audio.source
        case "video":
            return part.video.source
        case "document":
            return part.document.source


def _fill(source: MediaSource, found: FetchedMedia, place: MediaPlace) -> None:
    """Puts bytes in the place of an address, and their type where the caller told none."""
    if not source.mime_type:
        source.mime_type = found.mime_type
    elif top_level(plain_type(source.mime_type)) != top_level(found.mime_type):
        raise _failure(f"{place.path}.mime_type", "is not the kind of media that is at the address")
    source.inline_data = found.data


def _excerpt(messages: Sequence[Message], place: MediaPlace) -> Message:
    """A turn of the same role with nothing but the document of one place."""
    source = place.find(messages)
    document = ContentPart(
        document=DocumentPart(source=MediaSource(inline_data=source.inline_data, mime_type=source.mime_type))
    )
    if place.result_part is not None:
        document = ContentPart(tool_result=ToolResultPart(parts=[document]))
    return Message(role=messages[place.message].role, parts=[document])


def _document_of(excerpt: Message) -> DocumentPart:
    part = excerpt.parts[0]
    return part.tool_result.parts[0].document if part.HasField("tool_result") else part.document


def _failure(field: str, description: str) -> GatewayError:
    """The caller's fault, and no provider's: but a target that takes the address may go on without us."""
    error = invalid_request(field, description)
    error.retryable = True
    return error
