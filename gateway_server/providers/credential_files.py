"""Files with credentials, kept in memory and read again when they change, off the event loop."""

import asyncio
import logging
import os
import stat
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from gateway_server.tasks import end_task

_log: Final = logging.getLogger(__name__)

_MAX_BYTES: Final = 64 * 1024
#: Longer than the times of any file system are coarse.
_SETTLED_NANOS: Final = 3_000_000_000

#: What tells one state of a file from another: device, inode, size, and both times of change.
_State = tuple[int, int, int, int, int]


class _UnusableFileError(Exception):
    """A file that holds no credential that may be used; the message says why, without its path."""


class CredentialFile:
    """One file. ``secret`` is what it held when it was last looked at, empty when that cannot be used."""

    __slots__ = ("__weakref__", "_fault", "_folders", "_path", "_secret", "_state")

    def __init__(self, path: Path, folders: tuple[Path, ...]) -> None:
        self._path = path
        self._folders = folders
        self._state: _State | None = None
        self._secret = ""
        self._fault = ""

    def __repr__(self) -> str:
        return f"CredentialFile({str(self._path)!r})"

    @property
    def secret(self) -> str:
        """The secret, without the blanks around it."""
        return self._secret

    def refresh(self) -> None:
        """Looks at the file, and reads it if it has changed. Blocks."""
        try:
            state = _state_of(os.stat(self._path))  # noqa: PTH116 -- one call, many times
            if state == self._state:
                return
            secret, state = _read(self._path, self._folders)
            # What was written just now may be written once more without any of its marks changing.
            self._state = state if time.time_ns() - state[-1] > _SETTLED_NANOS else None
            fault = "" if secret else "it is empty"
        except (OSError, ValueError, _UnusableFileError) as error:
            self._state = None
            secret, fault = "", _explain(error)
        if fault != self._fault:
            _log.log(
                logging.ERROR if fault else logging.INFO,
                "the credential file %s %s",
                self._path,
                f"cannot be used: {fault}" if fault else "can be used again",
            )
        elif secret != self._secret and self._secret:
            _log.info("the credential file %s has a new secret", self._path)
        self._secret, self._fault = secret, fault


class CredentialFiles:
    """All files that somebody holds, each looked at every ``interval`` seconds.

    Its owner starts and closes it. Only files below ``folders`` are read, also where a link leads elsewhere.
    """

    def __init__(self, folders: tuple[Path, ...], *, interval: float) -> None:
        self._folders = folders
        self._interval = interval
        self._files: weakref.WeakValueDictionary[Path, CredentialFile] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    def open(self, path: Path) -> CredentialFile:
        """The file, as it is now; kept up to date for as long as somebody holds it. Blocks."""
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = CredentialFile(path, self._folders)
            file.refresh()
        return file

    def refresh(self) -> None:
        """Looks at all files now. Blocks."""
        with self._lock:
            for file in list(self._files.values()):
                file.refresh()

    async def start(self) -> None:
        """Looks at the files from now on."""
        self._task = asyncio.create_task(self._run(), name="credential files")

    async def close(self) -> None:
        """Stops looking."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if self._files:
                await asyncio.to_thread(self.refresh)


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder, by their texts alone."""
    return ".." not in path.parts and path != folder and path.is_relative_to(folder)


def _read(path: Path, folders: tuple[Path, ...]) -> tuple[str, _State]:
    """The secret in a file, and the state in which it was read."""
    real = path.resolve(strict=True)
    if not any(is_below(real, folder.resolve()) for folder in folders):
        raise _UnusableFileError("it is below none of the folders in credential_dirs")
    # Not blocking: who opens a pipe would wait for its writer.
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _UnusableFileError("it is no plain file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > _MAX_BYTES:
        raise _UnusableFileError(f"it has more than {_MAX_BYTES} bytes")
    return data.decode().strip(), _state_of(status)


def _state_of(status: os.stat_result) -> _State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _explain(error: Exception) -> str:
    """Why, in words that hold nothing of the file."""
    match error:
        case _UnusableFileError():
            return str(error)
        case OSError():
            return (error.strerror or "it cannot be read").lower()
        case _:
            return "it is not text"
