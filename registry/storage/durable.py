"""Write files that survive a crash: whole or not at all, and still there after a power cut.

A file is written aside, brought to the disk, and renamed into place; then the folder that holds
its name is brought to the disk too. What is written here belongs to tenants: nobody but the owner
of the process may read it.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.errors import StorageError

PART_SUFFIX = ".part"
_REMEMBERED_FOLDERS = 20_000
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space, then try again",
    errno.EDQUOT: "the disk quota is used up: free some space, then try again",
    errno.EFBIG: "the file is larger than the system allows: raise the limit (`ulimit -f`)",
    errno.EACCES: "give the user that runs this the right to read and write there",
    errno.EPERM: "give the user that runs this the right to read and write there",
    errno.EROFS: "the disk is mounted read-only",
    errno.EMFILE: "too many open files: raise the limit (`ulimit -n`)",
    errno.EIO: "the disk itself fails: check it, and restore from a copy",
}


@contextmanager
def disk_errors(operation: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `StorageError` that names the operation, the path and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(
            f"cannot {operation} {path}: {reason}", hint=_HINTS.get(error.errno or 0, "")
        ) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it, however little each call takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def start_storing(descriptor: int, begin: int, size_bytes: int) -> None:
    """Let the disk begin to store what was just written, so that a later fsync waits for less."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is only advice
            os.posix_fadvise(descriptor, begin, size_bytes, os.POSIX_FADV_DONTNEED)


class Folders:
    """Make folders whose own names are on the disk before anything is put into them.

    Which folders are known to be safe is remembered, so that each is brought to the disk once in
    the life of a process, also where another process made it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._safe: set[Path] = set()
        self._lock = threading.Lock()

    def ensure(self, folder: Path) -> None:
        """Make a folder below the root, and every one between that is missing."""
        if folder in self._safe:
            return
        if folder == self._root:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            self.ensure(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
        with self._lock:
            if len(self._safe) >= _REMEMBERED_FOLDERS:
                self._safe.clear()
            self._safe.add(folder)


@contextmanager
def written_aside(folder: Path, *, mode: int = 0o600) -> Iterator[tuple[int, Path]]:
    """Open a new file of a random name in a folder; what is still there at the end is removed.

    Yields:
        The open descriptor (read and write) and the path.
    """
    path = folder / f"{secrets.token_hex(16)}{PART_SUFFIX}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            path.unlink()
