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
from collections.abc import Collection, Iterator
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
_REFUSED_FILE: Final = "refused.json"
_BEING_MADE: Final = "."
#: Up to which length an entry is looked for behind a damaged one.
_LOOKED_FOR_BYTES: Final = 2**16


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

    @classmethod
    def take(cls, folder: Path) -> "DeadJournal | None":
        """The journal in a folder, locked until it is closed; None when its process lives, or somebody
        settles it. Blocks. Raises OSError.
        """
        lock = _take_lock(folder)
        return None if lock is None else cls(folder, lock)

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
        """All entries with the positions behind them, in order. Blocks. Raises OSError.

        Raises JournalError at a damaged one. One that was being written when the process died is no loss,
        since nothing was done on its account: it is told in the log.
        """
        paths = _segments(self.folder)
        for path in paths:
            yield from _entries_of(path, is_last=path == paths[-1])

    def read_refused(self) -> frozenset[str]:
        """The ids of calls that the database has refused so far. Blocks. Raises JournalError."""
        try:
            return frozenset(map(str, orjson.loads((self.folder / _REFUSED_FILE).read_bytes())))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, TypeError) as error:
            raise JournalError(f"{_REFUSED_FILE} cannot be read: {error}") from None

    def note_refused(self, request_ids: Collection[str]) -> None:
        """Keeps the ids of calls that the database has refused, to try them again. Blocks. Raises OSError."""
        being_made = self.folder / f"{_BEING_MADE}{_REFUSED_FILE}"
        being_made.write_bytes(orjson.dumps(sorted(request_ids)))
        being_made.rename(self.folder / _REFUSED_FILE)

    def close(self, *, delete: bool) -> None:
        """Lets go of it; ``delete`` when all of it is settled. Blocks."""
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def journal_folders(root: Path) -> list[Path]:
    """Where the journals below ``root`` are, of living processes too. Blocks. Raises OSError."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(_BEING_MADE))


def place_of(position: int) -> str:
    """Where a position is, for people."""
    return f"byte {position & (1 << _SEGMENT_SHIFT) - 1} of {_segment_name(position >> _SEGMENT_SHIFT)}"


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
    return os.open(folder / _segment_name(number), flags, 0o600)


def _segment_name(number: int) -> str:
    return f"{number:08d}.segment"


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
    while (payload := _payload_at(data, offset)) is not None:
        offset += _FRAME.size + len(payload)
        yield base + offset, payload
    if offset != len(data):
        if _is_damaged(data, offset, is_last=is_last):
            raise JournalError(f"{path} is damaged at byte {offset} of {len(data)}")
        level = logging.INFO if is_last else logging.ERROR
        _LOG.log(level, "%s can be read up to byte %d of %d", path, offset, len(data))


def _payload_at(data: bytes, offset: int) -> bytes | None:
    """The entry whose frame begins at ``offset``; None when there is none, or not all of it."""
    if offset + _FRAME.size > len(data):
        return None
    length, checksum = _FRAME.unpack_from(data, offset)
    start = offset + _FRAME.size
    payload = data[start : start + length]
    # A power cut may leave zeros, which would be an empty entry.
    return payload if length and len(payload) == length and zlib.crc32(payload) == checksum else None


def _is_damaged(data: bytes, offset: int, *, is_last: bool) -> bool:
    """Whether what cannot be read at ``offset`` was written as a whole, and not cut off by an end: then
    entries follow, or all of it is there and another segment follows.
    """
    if not is_last and offset + _FRAME.size <= len(data):
        length, _ = _FRAME.unpack_from(data, offset)
        if offset + _FRAME.size + length <= len(data):
            return True
    for start in range(offset + 1, len(data.rstrip(b"\0")) - _FRAME.size):
        length, _ = _FRAME.unpack_from(data, start)
        if 0 < length <= _LOOKED_FOR_BYTES and _payload_at(data, start) is not None:
            return True
    return False
