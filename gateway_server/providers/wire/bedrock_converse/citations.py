"""Citations in both directions.

A citation's signature holds the whole of it as JSON, under the provider's name, so that the next turn can
hold it again as it came.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from aigateway.v1.content_pb2 import Citation, LocationUnit
from gateway_server.providers.wire.bedrock_converse.context import PROVIDER_TYPE
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_count,
    get_list,
    get_object,
    get_text,
)

_MAX_INT32: Final = 2**31 - 1
_UNITS: Final = {
    "documentChar": LocationUnit.LOCATION_UNIT_CHARACTER,
    "documentPage": LocationUnit.LOCATION_UNIT_PAGE,
    "documentChunk": LocationUnit.LOCATION_UNIT_BLOCK,
}


def read_citation(cited: JsonObject, where: str) -> Citation:
    """A citation of an answer."""
    pieces = [
        get_text(as_object(piece, f"{where}.sourceContent[]"), "text", f"{where}.sourceContent[]")
        for piece in get_list(cited, "sourceContent", where)
    ]
    citation = Citation(title=get_text(cited, "title", where), cited_text="".join(pieces))
    location = get_object(cited, "location", where) or {}
    source = get_text(cited, "source", where)
    place = next((kind for kind in _UNITS if kind in location), None)
    if place is not None:
        _read_place(citation, place, get_object(location, place, f"{where}.location") or {}, where)
    elif web := get_object(location, "web", f"{where}.location"):
        citation.uri = get_text(web, "url", f"{where}.location.web")
    elif source:
        citation.uri = source
    try:
        citation.provider_signature = orjson.dumps({PROVIDER_TYPE: cited})
    except TypeError as error:
        raise MalformedAnswerError(f"{where} is nested too deeply") from error
    return citation


def _read_place(citation: Citation, kind: str, place: JsonObject, where: str) -> None:
    at = f"{where}.location.{kind}"
    citation.document.unit = _UNITS[kind]
    citation.document.document_index = min(get_count(place, "documentIndex", at), _MAX_INT32)
    citation.document.start = min(get_count(place, "start", at), _MAX_INT32)
    citation.document.end = min(get_count(place, "end", at), _MAX_INT32)


def render_citations(citations: Sequence[Citation]) -> list[JsonObject]:
    """The citations of an earlier answer of this provider.

    Those of others are left out: they belong to the answer as it was shown, not to what the model reads.
    """
    rendered = (_read_signature(citation.provider_signature) for citation in citations)
    return [citation for citation in rendered if citation is not None]


def _read_signature(signature: bytes) -> JsonObject | None:
    if not signature.startswith(b'{"%b":' % PROVIDER_TYPE.encode()):
        return None
    try:
        cited = orjson.loads(signature).get(PROVIDER_TYPE)
    except orjson.JSONDecodeError:
        return None
    return cited if isinstance(cited, dict) else None
