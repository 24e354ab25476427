"""Files that hold a secret of the gateway's own, readable by their owner alone. All of this blocks."""

import logging
import os
import secrets
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger(__name__)


def read_secret_file(path: Path) -> str:
    """The text of the file; warns when others than its owner can read it. Raises OSError."""
    text = path.read_text()
    if path.stat().st_mode & 0o077:
        _log.warning("%s can be read by others than its owner; it should have mode 0600", path)
    return text


def create_secret_file(path: Path, text: str) -> None:
    """Makes the file whole or not at all, and leaves one that another process made first. Raises OSError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink()
