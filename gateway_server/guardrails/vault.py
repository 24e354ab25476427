"""Values that were masked on the way in, to be put back on the way out; for one call, in memory alone."""

import re
from collections import Counter
from typing import Final

_PLACEHOLDER: Final = re.compile(r"\[[A-Z_]{1,40}_\d{1,6}\]")
_BEGINNING: Final = re.compile(r"\[(?:[A-Z_]{0,40}|[A-Z_]{1,40}_\d{0,6})$")


class Vault:
    """Numbers values by kind, the same value by the same number."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._placeholders: dict[tuple[str, str], str] = {}
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._values)

    def copy(self) -> "Vault":
        """Another that has the same values and numbers."""
        copied = Vault()
        copied._values = dict(self._values)
        copied._placeholders = dict(self._placeholders)
        copied._counts = Counter(self._counts)
        return copied

    def put(self, kind: str, value: str) -> str:
        """The value's placeholder: ``[EMAIL_1]``."""
        placeholder = self._placeholders.get((kind, value))
        if placeholder is None:
            self._counts[kind] += 1
            placeholder = self._placeholders[kind, value] = f"[{kind}_{self._counts[kind]}]"
            self._values[placeholder] = value
        return placeholder

    def get(self, placeholder: str) -> str | None:
        """The value behind a placeholder, None when it is none of this call."""
        return self._values.get(placeholder)


class Restorer:
    """Finds a call's placeholders in a text that comes in pieces."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._held = ""

    def feed(self, text: str) -> list[tuple[str, str | None]]:
        """Text that is decided: in its own words, and with what to put in its place, None to leave it."""
        return self._advance(self._held + text, is_last=False)

    def close(self) -> list[tuple[str, str | None]]:
        """The rest: the text has ended."""
        return self._advance(self._held, is_last=True)

    def _advance(self, text: str, *, is_last: bool) -> list[tuple[str, str | None]]:
        beginning = None if is_last else _BEGINNING.search(text)
        end = len(text) if beginning is None else beginning.start()
        self._held = text[end:]
        pieces: list[tuple[str, str | None]] = []
        place = 0
        for found in _PLACEHOLDER.finditer(text, 0, end):
            value = self._vault.get(found.group())
            if value is not None:
                if found.start() > place:
                    pieces.append((text[place : found.start()], None))
                pieces.append((found.group(), value))
                place = found.end()
        if place < end:
            pieces.append((text[place:end], None))
        return pieces
