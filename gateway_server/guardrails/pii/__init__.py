"""Personal data: what finds it in a text, whole or streamed, with the same result for every cutting."""

from collections.abc import Mapping
from typing import Final

from gateway_server.guardrails.pii.blocks import MIN_WINDOW, WINDOW
from gateway_server.guardrails.pii.emails import find_email
from gateway_server.guardrails.pii.matches import Match, Recognizer
from gateway_server.guardrails.pii.networks import find_ip_address
from gateway_server.guardrails.pii.numbers import find_card, find_iban, find_ssn
from gateway_server.guardrails.pii.phones import find_phone
from gateway_server.guardrails.pii.scanner import (
    SHORT_DECIMAL,
    Found,
    Piece,
    PiiScanner,
    ascii_worth_of,
    scan,
    spans,
)

__all__ = [
    "DEFAULT_ENTITY_TYPES",
    "MIN_WINDOW",
    "RECOGNIZERS",
    "SHORT_DECIMAL",
    "WINDOW",
    "Found",
    "Match",
    "Piece",
    "PiiScanner",
    "Recognizer",
    "ascii_worth_of",
    "scan",
    "spans",
]

RECOGNIZERS: Final[Mapping[str, Recognizer]] = {
    "US_SSN": find_ssn,
    "CREDIT_CARD": find_card,
    "EMAIL_ADDRESS": find_email,
    "PHONE_NUMBER": find_phone,
    "IP_ADDRESS": find_ip_address,
    "IBAN_CODE": find_iban,
}
DEFAULT_ENTITY_TYPES: Final = ("US_SSN", "CREDIT_CARD", "EMAIL_ADDRESS", "PHONE_NUMBER")
