"""What happened in a run, in lines for its summary."""

from __future__ import annotations

from typing import Final

LINES: Final[list[str]] = []
