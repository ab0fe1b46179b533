"""Write one upload: to the disk and through sha256 at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError
from registry.errors import ConflictError, ValidationError
from registry.storage.durable import disk_errors, start_storing, write_all
from registry.storage.hashing import ParallelHasher

if TYPE_CHECKING:
    from registry.storage.blobs import BlobStore

_STORE_BYTES = 8 << 20  # measured: twice as fast as 1 MiB, or as leaving it all to fsync
MARKER_SUFFIX = ".delivered"
_BATCH_CHUNKS = 512  # the system takes at most 1024 pieces in one call


class UploadIncompleteError(ConflictError):
    """Say that an upload was to be finished before its last byte was there.

    Attributes:
        expected: the length of the whole.
        actual: how much is staged.
    """

    def __init__(self, digest: Digest, *, expected: int, actual: int) -> None:
        super().__init__(
            f"blob {digest.short} has {actual} of {expected} bytes",
            hint=f"send the bytes from {actual} on",
        )
        self.expected = expected
        self.actual = actual


class OffsetMismatchError(ConflictError):
    """Say that an upload does not continue where the staged bytes end.

    Attributes:
        offset: how many bytes are staged, and where to continue.
    """

    def __init__(self, digest: Digest, *, expected: int, actual: int) -> None:
        super().__init__(
            f"blob {digest.short} continues at byte {expected}, not at {actual}",
            hint=f"send the bytes from {expected} on",
        )
        self.offset = self.expected = expected
        self.actual = actual


class UploadOverrunError(ValidationError):
    """Say that more bytes came than were announced."""


class UploadSession:
    """Be one locked, open upload; made by `Uploads.open`.

    Small writes are gathered to batches of 1 MiB; a batch is hashed in a second thread while this
    one writes it, and the disk begins to store it at once, so that finishing waits for little.

    Attributes:
        digest: the sha256 that the whole must have.
        size_bytes: the length of the whole.
        finished: whether `finish` has made a blob of it.
    """

    def __init__(self, descriptor: int, path: Path, *, digest: Digest, size_bytes: int) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self._descriptor = descriptor
        self._path = path
        self.finished = False
        self._written = os.lseek(descriptor, 0, os.SEEK_END)
        if self._written > size_bytes:  # it was announced shorter before: begin anew
            os.ftruncate(descriptor, 0)
            self._written = os.lseek(descriptor, 0, os.SEEK_SET)
        self._delivered = 0 < size_bytes == delivered_bytes(path) and not self._written
        self._storing = self._written
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._hasher = ParallelHasher()
        if self._written:
            self._hasher.update(_staged_chunks(descriptor, self._written))

    @property
    def offset(self) -> int:
        """Return how many bytes of the whole have come."""
        return self.size_bytes if self._delivered else self._written + self._batch_bytes

    @property
    def complete(self) -> bool:
        """Tell whether every byte has come."""
        return self.offset == self.size_bytes

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            UploadOverrunError: they are more than were announced; none of them is kept.
            StorageError: the disk failed.
        """
        if self.offset + len(data) > self.size_bytes:
            raise UploadOverrunError(
                f"more bytes came for blob {self.digest.short} than were announced",
                field="size_bytes",
                expected=f"{self.size_bytes} bytes",
                actual=f"at least {self.offset + len(data)} bytes",
                hint="announce the length that the file has",
            )
        self._batch.append(bytes(data))
        self._batch_bytes += len(data)
        if self._batch_bytes >= CHUNK_BYTES or len(self._batch) >= _BATCH_CHUNKS:
            self._flush()

    def finish(self, store: BlobStore) -> None:
        """Verify the whole, hand it to the store and remove it from the staging folder.

        Raises:
            UploadIncompleteError: bytes are missing still; what has come is kept.
            OffsetMismatchError: what an earlier session delivered was collected meanwhile.
            DigestMismatchError: the bytes are not those of the digest; they are thrown away.
            StorageError: the disk or the store failed; what has come is kept.
        """
        if self._delivered:
            self._require_stored(store)
        else:
            self._store(store)
        self.finished = True

    def _require_stored(self, store: BlobStore) -> None:
        """Check that what an earlier session delivered is in the store still."""
        if store.stat(self.digest) is None:
            marker_of(self._path).unlink(missing_ok=True)
            raise OffsetMismatchError(self.digest, expected=0, actual=self.size_bytes)

    def _store(self, store: BlobStore) -> None:
        if not self.complete:
            raise UploadIncompleteError(self.digest, expected=self.size_bytes, actual=self.offset)
        self._flush(last=True)
        actual = self._hasher.digest()
        if actual != self.digest:
            with disk_errors("discard", self._path):
                self._path.unlink(missing_ok=True)
            raise DigestMismatchError(self.digest, actual)
        with disk_errors("mark", self._path):
            marker_of(self._path).write_text(str(self.size_bytes))
        store.put_file(self.digest, self._path, verified=True)
        with disk_errors("remove", self._path):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Bring what has come to the file, and stop; called when the context is left."""
        try:
            self._write_batch()
        finally:
            self._hasher.close()

    def _flush(self, *, last: bool = False) -> None:
        """Hash and write the batch: at once, or side by side if more is to come."""
        batch = tuple(self._batch)
        if last:
            self._hasher.update_now(batch)
        else:
            self._hasher.update(batch)
        self._write_batch()

    def _write_batch(self) -> None:
        batch, self._batch = self._batch, []
        size, self._batch_bytes = self._batch_bytes, 0
        if not batch:
            return
        with disk_errors("stage an upload in", self._path):
            written = os.writev(self._descriptor, batch)
            if written < size:
                write_all(self._descriptor, memoryview(b"".join(batch))[written:])
        self._written += size
        if self._written - self._storing >= _STORE_BYTES:
            start_storing(self._descriptor, self._storing, self._written - self._storing)
            self._storing = self._written


def marker_of(path: Path) -> Path:
    """Return where it is noted that a staged file was verified and goes over to the store."""
    return path.with_suffix(MARKER_SUFFIX)


def delivered_bytes(path: Path) -> int:
    """Return the length that a marker notes for a staged file, or 0."""
    with suppress(FileNotFoundError):
        noted = marker_of(path).read_text()
        return int(noted) if noted.isdecimal() else 0
    return 0


def _staged_chunks(descriptor: int, size_bytes: int) -> Iterator[bytes]:
    """Read what was staged before, without moving the position."""
    for begin in range(0, size_bytes, CHUNK_BYTES):
        yield os.pread(descriptor, min(CHUNK_BYTES, size_bytes - begin), begin)
