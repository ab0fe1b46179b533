"""Stage uploads in a local folder until their last byte is there, so that they can be resumed.

There is one staged file for each namespace and digest: what one namespace sends is never seen by
another. A staged file is locked by the session that writes it, grows only at its end, and keeps
what arrived when the process dies. While a whole and verified file goes over to the store, a
marker says that this namespace delivered it: a crash before the end asks for no byte again. Put
the folder on the filesystem of a local store, and a finished upload becomes a blob by one rename.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from registry.digest import Digest
from registry.errors import ConflictError, StorageError, ValidationError
from registry.storage.durable import PART_SUFFIX, disk_errors
from registry.storage.upload_session import (
    MARKER_SUFFIX,
    OffsetMismatchError,
    UploadSession,
    delivered_bytes,
    marker_of,
)

DEFAULT_MAX_BLOB_BYTES = 64 << 30
DEFAULT_MAX_STAGED_BYTES = 256 << 30


class UploadBusyError(ConflictError):
    """Say that another session is sending this very blob."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(
            f"blob {digest.short} is being uploaded by another session",
            hint="wait until it ends, then ask again what is missing",
        )
        self.digest = digest


class BlobTooLargeError(ValidationError):
    """Say that a blob is larger than this hub accepts."""


class StagingFullError(StorageError):
    """Say that too many bytes of unfinished uploads are waiting already."""


class Uploads:
    """Keep the staged files of one hub."""

    def __init__(
        self,
        root: Path,
        *,
        max_blob_bytes: int = DEFAULT_MAX_BLOB_BYTES,
        max_staged_bytes: int = DEFAULT_MAX_STAGED_BYTES,
    ) -> None:
        """Open the staging folder, and make it if it is not there.

        Args:
            root: the folder.
            max_blob_bytes: the largest blob to accept.
            max_staged_bytes: how much all unfinished uploads together may take; what other
                processes have announced but not sent is not counted.
        """
        self.root = root.absolute()
        self.max_blob_bytes = max_blob_bytes
        self.max_staged_bytes = max_staged_bytes
        self._announced: dict[Path, int] = {}
        self._lock = threading.Lock()
        with disk_errors("make the upload folder", self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def offset(self, namespace: str, digest: Digest) -> int:
        """Return how many bytes of a blob have arrived: 0 if none."""
        path = self._path(namespace, digest)
        with disk_errors("look at", path), suppress(FileNotFoundError):
            if staged := path.stat().st_size:
                return staged
        return delivered_bytes(path)

    @contextmanager
    def open(
        self, namespace: str, digest: Digest, *, offset: int, size_bytes: int
    ) -> Iterator[UploadSession]:
        """Continue an upload, or begin one, and keep everybody else from it.

        Leaving the context keeps what was written, unless `finish` made a blob of it.

        Args:
            namespace: whose upload it is.
            digest: the sha256 of the whole.
            offset: where the bytes to come begin; it must be what is staged.
            size_bytes: the length of the whole.

        Raises:
            UploadBusyError: another session, here or in another process, has it open.
            OffsetMismatchError: `offset` is not what is staged.
            BlobTooLargeError: the whole would be larger than this hub accepts.
            StagingFullError: unfinished uploads would take more than this hub allows.
            StorageError: the disk failed.
        """
        self._check_size(digest, size_bytes)
        path = self._path(namespace, digest)
        with disk_errors("stage an upload in", path):
            descriptor = _lock_file(path, create=True)
        if descriptor is None:
            raise UploadBusyError(digest)
        try:
            session = UploadSession(descriptor, path, digest=digest, size_bytes=size_bytes)
            with self._announce(path, offset, size_bytes), closing(session):
                if session.offset != offset:
                    raise OffsetMismatchError(digest, expected=session.offset, actual=offset)
                yield session
            if session.finished:
                marker_of(path).unlink(missing_ok=True)
        finally:
            _close(descriptor, path)

    def discard_stale(self, *, older_than_s: float) -> int:
        """Remove uploads that nobody continued for a while, and return how many."""
        limit, count = time.time() - older_than_s, 0
        with disk_errors("clean", self.root):
            for path in self.root.glob(f"*{PART_SUFFIX}"):
                with suppress(FileNotFoundError):
                    count += _discard(path, unchanged_since=limit)
            for marker in self.root.glob(f"*{MARKER_SUFFIX}"):
                with suppress(FileNotFoundError):
                    if marker.stat().st_mtime <= limit:
                        marker.unlink()
        return count

    def staged_bytes(self) -> int:
        """Return how many bytes all unfinished uploads take now."""
        total = 0
        with disk_errors("look at", self.root):
            for path in self.root.glob(f"*{PART_SUFFIX}"):
                with suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    def _path(self, namespace: str, digest: Digest) -> Path:
        name = sha256(f"{namespace}\0{digest}".encode()).hexdigest()
        return self.root / f"{name}{PART_SUFFIX}"

    def _check_size(self, digest: Digest, size_bytes: int) -> None:
        if 0 <= size_bytes <= self.max_blob_bytes:
            return
        raise BlobTooLargeError(
            f"blob {digest.short} has a size that is not accepted here",
            field="size_bytes",
            expected=f"0 to {self.max_blob_bytes} bytes",
            actual=f"{size_bytes} bytes",
            hint="send smaller files, or ask the administrator to raise the limit",
        )

    @contextmanager
    def _announce(self, path: Path, offset: int, size_bytes: int) -> Iterator[None]:
        """Count the bytes to come as if they were staged already."""
        with self._lock:
            self._announced[path] = size_bytes
            total = self._total_bytes()
            if total > self.max_staged_bytes:
                self._announced.pop(path, None)
                raise StagingFullError(
                    f"unfinished uploads would take {total} bytes, and {self.max_staged_bytes} "
                    f"are allowed ({size_bytes - offset} of them for this one)",
                    hint="try again later, or ask the administrator to raise the limit",
                )
        try:
            yield
        finally:
            with self._lock:
                self._announced.pop(path, None)

    def _total_bytes(self) -> int:
        total = sum(self._announced.values())
        with disk_errors("look at", self.root):
            for path in self.root.glob(f"*{PART_SUFFIX}"):
                if path not in self._announced:
                    with suppress(FileNotFoundError):
                        total += path.stat().st_size
        return total


def _lock_file(path: Path, *, create: bool) -> int | None:
    """Open and lock the file that has this name now; None if somebody else holds it."""
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)  # it was finished or discarded between our opening and locking


def _is_named(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _discard(path: Path, *, unchanged_since: float) -> bool:
    """Remove a staged file unless a session holds it or wrote to it since.

    What was written to is not even locked, so that nobody who continues it is turned away.
    """
    if path.stat().st_mtime > unchanged_since:
        return False
    descriptor = _lock_file(path, create=False)
    if descriptor is None:
        return False
    try:
        stale = os.fstat(descriptor).st_mtime <= unchanged_since
        if stale:
            path.unlink()
        return stale
    finally:
        os.close(descriptor)


def _close(descriptor: int, path: Path) -> None:
    """Unlock a staged file, and remove it if nothing is in it."""
    with disk_errors("close", path):
        try:
            if os.fstat(descriptor).st_size == 0 and _is_named(descriptor, path):
                path.unlink()
        finally:
            os.close(descriptor)
