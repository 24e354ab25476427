"""Characters that look like others, and characters that nobody sees."""

import unicodedata
from typing import Final

#: Zero-width, bidirectional, tag and variation characters, fillers, soft hyphen, and what is kept for more of
#: them: they show nothing and part nothing.
UNSEEN: Final = (
    *(range(code, code + 1) for code in (0xAD, 0x34F, 0x61C, 0x3164, 0xFEFF, 0xFFA0)),
    range(0x115F, 0x1161), range(0x17B4, 0x17B6), range(0x180B, 0x1810), range(0x200B, 0x2010),
    range(0x202A, 0x202F), range(0x2060, 0x2070), range(0xFE00, 0xFE10), range(0xFFF0, 0xFFFC),
    range(0x1BCA0, 0x1BCA4), range(0x1D173, 0x1D17B), range(0xE0000, 0xE1000),
)  # fmt: skip
#: The same for a class of a regular expression.
INVISIBLE: Final = "".join(f"{chr(codes[0])}-{chr(codes[-1])}" for codes in UNSEEN)

#: Dashes that part words where a hyphen would join them.
LONG_DASHES: Final = "\u2013\u2014\u2015"
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
