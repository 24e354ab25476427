"""Identifiers that sort by the time they were made."""

import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """26 characters: 48 bits of milliseconds and 80 random bits in Crockford's base 32: a ULID, lower case.

    Format: https://github.com/ulid/spec
    """
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    digits = [""] * 26
    for place in range(25, -1, -1):
        digits[place] = _ALPHABET[value & 31]
        value >>= 5
    return "".join(digits)
