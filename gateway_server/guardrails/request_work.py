"""How much work the texts of a request are."""

from collections.abc import Iterable
from typing import Final

from gateway_server.guardrails.json_work import CHARACTERS_OF_TEXT, values_in
from gateway_server.guardrails.request_texts import Slot

#: What a place takes where nothing stands, and a value in JSON: the whole is judged, not each of them.
_CHARACTERS_OF_PLACE: Final = 10
_CHARACTERS_OF_VALUE: Final = 50


def request_work(slots: Iterable[Slot]) -> int:
    """In characters of prose that take as long."""
    return sum(_in_slot(slot.text, is_json=slot.is_json) for slot in slots)


def _in_slot(text: str, *, is_json: bool) -> int:
    if not text:
        return _CHARACTERS_OF_PLACE
    return CHARACTERS_OF_TEXT + len(text) + (_CHARACTERS_OF_VALUE * values_in(text) if is_json else 0)
