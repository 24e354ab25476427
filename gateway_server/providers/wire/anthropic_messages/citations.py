"""Citations in both directions.

What a citation has no field for goes into its signature as JSON, so that the next turn can hold the same
citation again: the sealed place of a web result, the blocks of a search result.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from aigateway.v1.content_pb2 import Citation, DocumentLocation, LocationUnit
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    get_count,
    get_text,
)

_MAX_INT32: Final = 2**31 - 1

#: Places in documents: what each counts, and the keys of its start and end.
_DOCUMENT_PLACES: Final = {
    "char_location": (LocationUnit.LOCATION_UNIT_CHARACTER, "start_char_index", "end_char_index"),
    "page_location": (LocationUnit.LOCATION_UNIT_PAGE, "start_page_number", "end_page_number"),
    "content_block_location": (LocationUnit.LOCATION_UNIT_BLOCK, "start_block_index", "end_block_index"),
}
_PLACE_BY_UNIT: Final = {unit: (kind, start, end) for kind, (unit, start, end) in _DOCUMENT_PLACES.items()}
#: Places elsewhere, and the key of the address.
_ADDRESS_KEYS: Final = {"web_search_result_location": "url", "search_result_location": "source"}
#: What answers say of a place in a document and requests do not.
_ANSWER_ONLY: Final = frozenset({"file_id"})


def read_citation(cited: JsonObject, where: str) -> Citation:
    """A citation of an answer; one of a kind that is not known keeps all that it says in its signature."""
    kind = get_text(cited, "type", where)
    citation = Citation(cited_text=get_text(cited, "cited_text", where))
    if kind in _DOCUMENT_PLACES:
        unit, start, end = _DOCUMENT_PLACES[kind]
        citation.title = get_text(cited, "document_title", where)
        citation.document.document_index = _get_int32(cited, "document_index", where)
        citation.document.unit = unit
        citation.document.start = _get_int32(cited, start, where)
        citation.document.end = _get_int32(cited, end, where)
        known = {"type", "cited_text", "document_title", "document_index", start, end}
    elif kind in _ADDRESS_KEYS:
        citation.title = get_text(cited, "title", where)
        citation.uri = get_text(cited, _ADDRESS_KEYS[kind], where)
        known = {"cited_text", "title", _ADDRESS_KEYS[kind]}
    else:
        citation.title = get_text(cited, "title", where)
        known = set()
    rest = {key: value for key, value in cited.items() if key not in known and value is not None}
    if rest:
        citation.provider_signature = _dump(rest, where)
    return citation


def _get_int32(cited: JsonObject, key: str, where: str) -> int:
    return min(get_count(cited, key, where), _MAX_INT32)


def _dump(rest: JsonObject, where: str) -> bytes:
    try:
        return orjson.dumps(rest)
    except TypeError as error:
        raise MalformedAnswerError(f"{where} is nested too deeply") from error


def render_citations(citations: Sequence[Citation]) -> list[JsonObject]:
    """The citations of an earlier answer.

    Those of other providers that say less than a citation needs here are left out: they belong to the
    answer as it was shown, not to what the model reads.
    """
    rendered = (_render_citation(citation) for citation in citations)
    return [citation for citation in rendered if citation is not None]


def _render_citation(citation: Citation) -> JsonObject | None:
    rest = _read_signature(citation.provider_signature)
    if citation.WhichOneof("source") == "document":
        return _render_place(citation, citation.document, rest)
    kind = rest.get("type")
    if not isinstance(kind, str):
        return None
    if kind not in _ADDRESS_KEYS:
        return rest
    return {
        **rest,
        "cited_text": citation.cited_text,
        "title": citation.title or None,
        _ADDRESS_KEYS[kind]: citation.uri,
    }


def _render_place(citation: Citation, document: DocumentLocation, rest: JsonObject) -> JsonObject | None:
    if document.unit not in _PLACE_BY_UNIT:
        return None
    kind, start, end = _PLACE_BY_UNIT[document.unit]
    return {
        **{key: value for key, value in rest.items() if key not in _ANSWER_ONLY},
        "type": kind,
        "cited_text": citation.cited_text,
        "document_index": document.document_index,
        "document_title": citation.title or None,
        start: document.start,
        end: document.end,
    }


def _read_signature(signature: bytes) -> JsonObject:
    """What read_citation put there; a signature of another provider says nothing here."""
    if not signature.startswith(b"{"):
        return {}
    try:
        rest = orjson.loads(signature)
    except orjson.JSONDecodeError:
        return {}
    return rest if isinstance(rest, dict) else {}
