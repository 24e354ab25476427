"""Characters that look like others, and characters that nobody sees."""

import unicodedata
from typing import Final

#: Zero-width, bidirectional, tag and variation characters, soft hyphen: they show nothing and part nothing.
INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f"
)

_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_SPACES: Final = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
_DOTS: Final = "\u2024\u3002\uff0e\uff61"
_FULL_WIDTH: Final = range(0xFF01, 0xFF5F)
_FULL_WIDTH_OFFSET: Final = 0xFEE0


def _plain_characters() -> dict[int, str]:
    table = {code: chr(code - _FULL_WIDTH_OFFSET) for code in _FULL_WIDTH}
    # No text has them but by mistake, and not every library takes them.
    table |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
    table |= dict.fromkeys(map(ord, _DASHES), "-")
    table |= dict.fromkeys(map(ord, _SPACES), " ")
    table |= dict.fromkeys(map(ord, _DOTS), ".")
    for code in range(0x80, 0x20000):
        if unicodedata.category(chr(code)) == "Nd":
            table[code] = str(unicodedata.decimal(chr(code)))
    return table


_PLAIN: Final = _plain_characters()


def plain(text: str) -> str:
    """The text with ASCII digits, letters, dashes, dots and spaces for what looks like them; same length."""
    return text if text.isascii() else text.translate(_PLAIN)
