"""A process's journal: what it is about to do and what came of it, in files that outlive the process.

An entry is appended with one write to the page cache, so it is there after ``kill -9``. The files of one
process lie in a folder of its own, held by a lock for as long as it lives. See docs/decisions/money.md.

A frame is the payload's length and its CRC-32, four bytes each, little-endian, then the payload. A position
is the number of a segment times 2**40, plus an offset in its file; positions rise.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

import orjson

_LOG: Final = logging.getLogger(__name__)

_VERSION: Final = 1
_FRAME: Final = struct.Struct("<II")
_SEGMENT_SHIFT: Final = 40
_SEGMENT_BYTES: Final = 16 * 2**20
_LOCK_FILE: Final = "lock"
_IDENTITY_FILE: Final = "journal.json"
_BEING_MADE: Final = "."


class JournalError(Exception):
    """The journal cannot be written, or read; the message says why."""


class Journal:
    """The journal of this process. Its owner opens it before anything happens and closes it last."""

    def __init__(self, folder: Path, lock: int, *, segment_bytes: int = _SEGMENT_BYTES) -> None:
        self.folder = folder
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._number = 1
        self._offset = 0
        self._file = _open_segment(folder, self._number)
        self._broken = False

    @classmethod
    def open(
        cls, root: Path, gateway_id: str, *, store_id: str, segment_bytes: int = _SEGMENT_BYTES
    ) -> "Journal":
        """Makes the journal of a new process below ``root``. Blocks. Raises OSError."""
        folder, being_made = root / gateway_id, root / f"{_BEING_MADE}{gateway_id}"
        being_made.mkdir(mode=0o700, parents=True)
        lock = _take_lock(being_made)
        if lock is None:
            raise BlockingIOError(f"somebody else has {being_made}")
        identity = {"version": _VERSION, "gateway_id": gateway_id, "store_id": store_id}
        (being_made / _IDENTITY_FILE).write_bytes(orjson.dumps(identity))
        being_made.rename(folder)  # whoever looks for dead ones sees it with its lock taken, or not at all
        return cls(folder, lock, segment_bytes=segment_bytes)

    @property
    def position(self) -> int:
        """Where the next entry begins."""
        return (self._number << _SEGMENT_SHIFT) + self._offset

    def append(self, payload: bytes) -> int:
        """Keeps an entry, which must not be empty; the position behind it.

        Raises JournalError, and keeps nothing then, nor later until ``rotate`` has begun another segment.
        """
        frame = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        if self._broken:
            raise JournalError("a write to it failed")
        try:
            written = os.write(self._file, frame)
        except OSError as error:
            written = 0
            reason = error.strerror or type(error).__name__
        else:
            reason = "the disk took only a part of it"
        if written != len(frame):
            self._broken = True  # what came behind a torn entry could not be read: on with another segment
            raise JournalError(f"the journal cannot be written: {reason}")
        self._offset += len(frame)
        return self.position

    async def rotate(self) -> bool:
        """Begins another segment when this one is long or torn; whether it did. Raises OSError."""
        if self._offset < self._segment_bytes and not self._broken:
            return False
        file = await asyncio.to_thread(_open_segment, self.folder, self._number + 1)
        old, self._file = self._file, file
        self._number += 1
        self._offset = 0
        self._broken = False
        await asyncio.to_thread(os.close, old)
        return True

    async def forget(self, before: int) -> None:
        """Deletes segments that have nothing from position ``before`` on."""
        first = min(before >> _SEGMENT_SHIFT, self._number)
        if first > 1:
            await asyncio.to_thread(_delete_segments, self.folder, first)

    def close(self, *, delete: bool) -> None:
        """Ends the journal; ``delete`` when all of it is settled. Blocks."""
        os.close(self._file)
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


class DeadJournal:
    """The journal of a process that is gone, held by a lock so that nobody else settles it meanwhile."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.gateway_id = folder.name
        self._lock = lock

    def read_store_id(self) -> str | None:
        """Which database it belongs to; None when it is on its way to be deleted.

        Blocks. Raises JournalError when that cannot be read.
        """
        try:
            identity = orjson.loads((self.folder / _IDENTITY_FILE).read_bytes())
            version, store_id = identity["version"], str(identity["store_id"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(f"it cannot be read: {error}") from None
        if version != _VERSION:
            raise JournalError(f"it has version {version}")
        return store_id

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """All entries with the positions behind them, in order. Blocks.

        What cannot be read is told in the log: an entry that was being written when the process died is no
        loss, since nothing was done on its account.
        """
        paths = _segments(self.folder)
        for path in paths:
            yield from _entries_of(path, is_last=path == paths[-1])

    def close(self, *, delete: bool) -> None:
        """Lets go of it; ``delete`` when all of it is settled. Blocks."""
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def dead_journals(root: Path, *, but: Container[str] = ()) -> Iterator[DeadJournal]:
    """The journals below ``root`` whose processes are gone, one by one, ``but`` some by name. Blocks.

    Each is locked until the caller closes it.
    """
    if not root.is_dir():
        return
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith(_BEING_MADE) or folder.name in but:
            continue
        lock = _take_lock(folder)
        if lock is not None:
            yield DeadJournal(folder, lock)


def _take_lock(folder: Path) -> int | None:
    """A lock on a journal until it is closed; None when its process lives, or somebody settles it."""
    try:
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None  # settled and deleted just now
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _open_segment(folder: Path, number: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    return os.open(folder / f"{number:08d}.segment", flags, 0o600)


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def _delete_segments(folder: Path, before: int) -> None:
    """Oldest first: what ends something never goes before what began it."""
    for path in _segments(folder):
        if int(path.stem) < before:
            path.unlink()


def _entries_of(path: Path, *, is_last: bool) -> Iterator[tuple[int, bytes]]:
    data = path.read_bytes()
    base = int(path.stem) << _SEGMENT_SHIFT
    offset = 0
    while offset + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, offset)
        start = offset + _FRAME.size
        payload = data[start : start + length]
        # A power cut may leave zeros, which would be an empty entry.
        if not length or len(payload) != length or zlib.crc32(payload) != checksum:
            break
        offset = start + length
        yield base + offset, payload
    if offset != len(data):
        level = logging.INFO if is_last else logging.ERROR
        _LOG.log(level, "%s can be read up to byte %d of %d", path, offset, len(data))
