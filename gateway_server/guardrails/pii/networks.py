"""Addresses of machines."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from gateway_server.guardrails.pii.characters import LONG_DASHES
from gateway_server.guardrails.pii.matches import FREE_BEFORE, Match, last_word, words

_IPV4: Final = re.compile(
    FREE_BEFORE + r"(?<![A-Za-z0-9]_)(?<![.\-])\d{1,3}(?:\.\d{1,3}){3}(?![A-Za-z0-9\-]|_[A-Za-z0-9]|\.\d)"
)
_IPV6: Final = re.compile(
    FREE_BEFORE + r"(?<![A-Za-z0-9]_)(?<![:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}"
    r"(?![A-Za-z0-9:]|_[A-Za-z0-9])"
)
#: Long dashes part addresses from whatever is beside them; of the names of hosts they are no part.
PARTING_DASH: Final = re.compile(f"[{LONG_DASHES}]")
_VERSION_WORD: Final = words(r"version|release|upgrade|build|firmware|\bv\b")


def find_ip_address(text: str, start: int) -> Iterator[Match]:
    """IPv4 and IPv6 addresses; version numbers that look like one are none where a word tells."""
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text, start):
            try:
                address = ipaddress.ip_address(found.group())
            except ValueError:
                continue
            if address.version == 4 and last_word(_VERSION_WORD, text, found.start()) >= 0:
                continue
            if len(found.group()) > 3:
                yield Match(found.start(), found.end(), "IP_ADDRESS", 0.9)
