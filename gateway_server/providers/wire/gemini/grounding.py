"""What an answer rests on, as citations of the spans of its texts.

The provider counts in bytes and means the whole answer, so that each span is held against the words that
it is said to have. What fits nowhere stays in the metadata of the choice, where all of it is anyway.
"""

from dataclasses import dataclass

from aigateway.v1.content_pb2 import Citation
from gateway_server.providers.wire.json_values import (
    JsonObject,
    as_object,
    get_count,
    get_list,
    get_object,
    get_text,
)


@dataclass(frozen=True, slots=True)
class _Support:
    """A span, in bytes, the words there, empty when they are not told, and the sources."""

    start: int
    end: int
    words: bytes
    sources: list[Citation]


class Grounding:
    """The spans of one candidate that wait for the text which they belong to."""

    def __init__(self, candidate: JsonObject, where: str) -> None:
        self._waiting = [*_read_supports(candidate, where), *_read_recitations(candidate, where)]

    def place(self, text: str) -> list[Citation]:
        """The citations of this text; each is placed once."""
        if not self._waiting or not text:
            return []
        data = text.encode()
        placed: list[Citation] = []
        waiting: list[_Support] = []
        for support in self._waiting:
            span = _find_span(support, data)
            if span is None:
                waiting.append(support)
            else:
                placed.extend(_cite(source, span) for source in support.sources)
        self._waiting = waiting
        return placed


def _read_supports(candidate: JsonObject, where: str) -> list[_Support]:
    grounding = get_object(candidate, "groundingMetadata", where)
    if grounding is None:
        return []
    at = f"{where}.groundingMetadata"
    chunks = [
        _read_chunk(as_object(chunk, f"{at}.groundingChunks[]"), f"{at}.groundingChunks[]")
        for chunk in get_list(grounding, "groundingChunks", at)
    ]
    supports: list[_Support] = []
    at = f"{at}.groundingSupports"
    for item in get_list(grounding, "groundingSupports", f"{where}.groundingMetadata"):
        support = as_object(item, f"{at}[]")
        segment = get_object(support, "segment", f"{at}[]") or {}
        sources = [
            chunks[index]
            for index in get_list(support, "groundingChunkIndices", f"{at}[]")
            if type(index) is int and 0 <= index < len(chunks)
        ]
        supports.append(_read_span(segment, sources, f"{at}[].segment"))
    return supports


def _read_chunk(chunk: JsonObject, where: str) -> Citation:
    """A page, a place on the map, or a piece of a document that was searched."""
    for kind in ("web", "retrievedContext", "maps"):
        source = get_object(chunk, kind, where)
        if source is not None:
            citation = Citation(
                title=get_text(source, "title", where), cited_text=get_text(source, "text", where)
            )
            if uri := get_text(source, "uri", where):
                citation.uri = uri
            return citation
    return Citation()


def _read_recitations(candidate: JsonObject, where: str) -> list[_Support]:
    """Passages that the model had read elsewhere, of which the words are not told."""
    recited = get_object(candidate, "citationMetadata", where)
    if recited is None:
        return []
    at = f"{where}.citationMetadata.citationSources"
    supports: list[_Support] = []
    for item in get_list(recited, "citationSources", f"{where}.citationMetadata"):
        source = as_object(item, f"{at}[]")
        citation = Citation(title=get_text(source, "title", f"{at}[]"))
        if uri := get_text(source, "uri", f"{at}[]"):
            citation.uri = uri
        supports.append(_read_span(source, [citation], f"{at}[]"))
    return supports


def _read_span(source: JsonObject, sources: list[Citation], where: str) -> _Support:
    return _Support(
        start=get_count(source, "startIndex", where),
        end=get_count(source, "endIndex", where),
        words=get_text(source, "text", where).encode(),
        sources=sources,
    )


def _find_span(support: _Support, data: bytes) -> tuple[int, int] | None:
    """Where the span is in a text, in code points; None when it is not in this one."""
    start, end = support.start, support.end
    if support.words and data[start:end] != support.words:
        # Counted from elsewhere; the words tell if they stand here once.
        start = data.find(support.words)
        end = start + len(support.words)
        if start < 0 or data.find(support.words, start + 1) >= 0:
            return None
    if not start < end <= len(data):
        return None
    try:
        before = len(data[:start].decode())
        return before, before + len(data[start:end].decode())
    except UnicodeDecodeError:
        return None


def _cite(source: Citation, span: tuple[int, int]) -> Citation:
    citation = Citation(start_index=span[0], end_index=span[1])
    citation.MergeFrom(source)
    return citation
