"""Finds recorded provider traffic that stands beside the repository and is not part of it."""

import os
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]

#: What to do where it is absent.
SHARED_HINT = "no recorded traffic in $AIGW_SHARED_DIR or in ../shared beside the repository"


def find_shared_dir() -> Path | None:
    """Returns the directory that holds `wire/` and `specs/`, or None where there is none."""
    configured = os.environ.get("AIGW_SHARED_DIR")
    directory = Path(configured) if configured else _REPOSITORY.parent / "shared"
    return directory if (directory / "wire").is_dir() else None


def require_shared_dir() -> Path:
    """As find_shared_dir, for modules that are only collected where it exists."""
    directory = find_shared_dir()
    if directory is None:
        raise FileNotFoundError(SHARED_HINT)
    return directory
