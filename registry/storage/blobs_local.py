"""Keep blobs in a local folder: `blobs/sha256/ab/cd/<hex>` and `records/<key>`.

A blob appears by one rename, after its bytes were verified and brought to the disk; until then it
stands in `aside/`, where `discard_stale` finds what a crash left. Any number of processes may
share the folder.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError, verified
from registry.errors import ValidationError
from registry.storage.blobs import (
    BlobNotFoundError,
    BlobStat,
    check_record_key,
    check_record_prefix,
    check_record_size,
    clip_range,
)
from registry.storage.durable import Folders, disk_errors, sync_folder, write_all, written_aside

_BLOB_MODE = 0o400


class LocalBlobStore:
    """Be a `BlobStore` in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        """Open the store, and make its folder if it is not there.

        Args:
            root: the store's folder.

        Raises:
            StorageError: the folder cannot be made or written.
        """
        self.root = root.absolute()
        self._blobs = self.root / "blobs" / "sha256"
        self._records = self.root / "records"
        self._aside = self.root / "aside"
        self._folders = Folders(self.root)
        with disk_errors("make the store's folder", self.root):
            for folder in (self._blobs, self._records, self._aside):
                self._folders.ensure(folder)

    def put_file(self, digest: Digest, path: Path, *, verified: bool = False) -> None:
        """Store a file: moved if it is on this filesystem and has no other name, else copied."""
        with disk_errors(f"store blob {digest.short} from", path):
            if self._is_movable(path) and self._move(digest, path, verified=verified):
                return
            with path.open("rb", buffering=0) as source:
                self._put_chunks(digest, iter(lambda: source.read(CHUNK_BYTES), b""))

    def put_bytes(self, digest: Digest, data: bytes) -> None:
        """Store a small blob from memory."""
        with disk_errors(f"store blob {digest.short} in", self.root):
            self._put_chunks(digest, (data,))

    def stat(self, digest: Digest) -> BlobStat | None:
        """Return size and time of a blob, or None."""
        path = self._blob_path(digest)
        with disk_errors("look at", path):
            try:
                return _blob_stat(path.stat())
            except FileNotFoundError:
                return None

    def read(self, digest: Digest, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield bytes in chunks of 1 MiB, verified if they are the whole."""
        chunks = self._chunks(digest, start, length)
        whole = next(chunks) == b"whole"  # the file is open now, and closed when chunks end
        return verified(chunks, digest) if whole else chunks

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for random reads."""
        path = self._blob_path(digest)
        with disk_errors("open", path):
            try:
                return path.open("rb")
            except FileNotFoundError:
                raise BlobNotFoundError(digest) from None

    def delete(self, digest: Digest) -> None:
        """Remove a blob."""
        path = self._blob_path(digest)
        with disk_errors("remove", path):
            path.unlink(missing_ok=True)

    def list(self) -> Iterator[tuple[Digest, BlobStat]]:
        """Yield every blob, in order of digest; what has no digest for a name is passed over."""
        with disk_errors("list", self._blobs):
            for entry in _sorted_files(self._blobs, depth=2):
                with suppress(ValidationError, FileNotFoundError):
                    yield Digest(entry.name), _blob_stat(entry.stat())

    def presigned_url(self, digest: Digest, *, expires_s: int) -> str | None:
        """Return None: a local file has no URL."""
        del digest, expires_s
        return None

    def write_record(self, key: str, data: bytes) -> None:
        """Write or overwrite a record: on the disk when this returns."""
        path = self._record_path(key)
        check_record_size(key, data)
        with disk_errors("write record", path):
            self._folders.ensure(path.parent)
            with written_aside(self._aside) as (descriptor, aside):
                write_all(descriptor, data)
                os.fsync(descriptor)
                aside.replace(path)
            sync_folder(path.parent)

    def create_record(self, key: str, data: bytes) -> bool:
        """Write a record if there is none; return whether it has these bytes now."""
        path = self._record_path(key)
        check_record_size(key, data)
        with disk_errors("create record", path):
            self._folders.ensure(path.parent)
            with written_aside(self._aside) as (descriptor, aside):
                write_all(descriptor, data)
                os.fsync(descriptor)
                with suppress(FileExistsError):
                    path.hardlink_to(aside)
            sync_folder(path.parent)
        return self.read_record(key) == data

    def read_record(self, key: str) -> bytes | None:
        """Return a record's bytes, or None."""
        path = self._record_path(key)
        with disk_errors("read record", path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def list_records(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted."""
        check_record_prefix(prefix)
        return self._walk_records(prefix.rpartition("/")[0], prefix)

    def delete_record(self, key: str) -> None:
        """Remove a record: gone from the disk when this returns."""
        path = self._record_path(key)
        with disk_errors("remove record", path):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            sync_folder(path.parent)

    def discard_stale(self, *, older_than_s: float) -> int:
        """Remove what interrupted writes left in `aside/`, and return how many files."""
        limit, count = time.time() - older_than_s, 0
        with disk_errors("clean", self._aside):
            for entry in _sorted_files(self._aside, depth=0):
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime <= limit:
                        Path(entry.path).unlink()
                        count += 1
        return count

    def _blob_path(self, digest: Digest) -> Path:
        return self._blobs / digest.hex[:2] / digest.hex[2:4] / digest.hex

    def _record_path(self, key: str) -> Path:
        return self._records / check_record_key(key)

    def _is_movable(self, path: Path) -> bool:
        """Tell whether a file has this one name and stands on the store's filesystem."""
        status = path.lstat()
        return (
            stat_bits.S_ISREG(status.st_mode)
            and status.st_nlink == 1
            and status.st_dev == self._aside.stat().st_dev
        )

    def _move(self, digest: Digest, path: Path, *, verified: bool) -> bool:
        """Move a file into place; return False where the system cannot."""
        with path.open("rb", buffering=0) as source:
            if not verified:
                _require(digest, Digest.of_stream(source))
            os.utime(source.fileno())
            os.fchmod(source.fileno(), _BLOB_MODE)
            os.fsync(source.fileno())
        try:
            self._publish(digest, path)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise
        return True

    def _put_chunks(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        """Write chunks aside, verify them, and publish."""
        hasher = sha256()
        with written_aside(self._aside, mode=_BLOB_MODE) as (descriptor, aside):
            for chunk in chunks:
                hasher.update(chunk)
                write_all(descriptor, chunk)
            _require(digest, Digest(hasher.hexdigest()))
            os.fsync(descriptor)
            self._publish(digest, aside)

    def _publish(self, digest: Digest, path: Path) -> None:
        target = self._blob_path(digest)
        self._folders.ensure(target.parent)
        path.replace(target)
        sync_folder(target.parent)

    def _chunks(self, digest: Digest, start: int, length: int | None) -> Iterator[bytes]:
        """Yield first whether the range is the whole, once the file is open; then its bytes."""
        path = self._blob_path(digest)
        with disk_errors("read", path):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise BlobNotFoundError(digest) from None
            try:
                size = os.fstat(descriptor).st_size
                begin, end = clip_range(size, start=start, length=length)
                yield b"whole" if end - begin == size else b"part"
                while begin < end:
                    chunk = os.pread(descriptor, min(CHUNK_BYTES, end - begin), begin)
                    if not chunk:
                        return
                    begin += len(chunk)
                    yield chunk
            finally:
                os.close(descriptor)

    def _walk_records(self, folder: str, prefix: str) -> Iterator[str]:
        path = self._records / folder if folder else self._records
        with disk_errors("list records in", path):
            try:
                entries = sorted(os.scandir(path), key=_key_order)
            except (FileNotFoundError, NotADirectoryError):
                return
        for entry in entries:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if f"{key}/".startswith(prefix[: len(key) + 1]):
                    yield from self._walk_records(key, prefix)
            elif key.startswith(prefix):
                yield key


def _key_order(entry: os.DirEntry[str]) -> str:
    """Sort a folder as the keys below it sort: its name with a slash."""
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _sorted_files(folder: Path, *, depth: int) -> Iterator[os.DirEntry[str]]:
    """Yield the files `depth` folders below one, in order of their names."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if depth and entry.is_dir(follow_symlinks=False):
            yield from _sorted_files(Path(entry.path), depth=depth - 1)
        elif not depth and entry.is_file(follow_symlinks=False):
            yield entry


def _blob_stat(status: os.stat_result) -> BlobStat:
    return BlobStat(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _require(expected: Digest, actual: Digest) -> None:
    if actual != expected:
        raise DigestMismatchError(expected, actual)
