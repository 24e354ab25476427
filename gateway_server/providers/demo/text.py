"""The demo provider's tokens: up to four letters each, with the space before them."""

import re
from typing import Final

_TOKEN: Final = re.compile(r"\s*\S{1,4}|\s+")


def split_tokens(text: str) -> list[str]:
    """All tokens; joined they are the text."""
    return _TOKEN.findall(text)


def text_of(content: object) -> str:
    """The text of a message's content, whole or in blocks; other blocks have none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block for block in content if isinstance(block, dict)]
    return "\n".join(block["text"] for block in blocks if isinstance(block.get("text"), str))
