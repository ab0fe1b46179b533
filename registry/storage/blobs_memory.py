"""Keep blobs in memory: for tests, trials and demonstrations; gone with the process."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError, verified
from registry.storage.blobs import (
    BlobNotFoundError,
    BlobStat,
    check_record_key,
    check_record_prefix,
    check_record_size,
    clip_range,
)


class MemoryBlobStore:
    """Be a `BlobStore` whose blobs and records live in this process."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, tuple[bytes, datetime]] = {}
        self._records: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put_file(self, digest: Digest, path: Path, *, verified: bool = False) -> None:
        """Store the bytes of a file; they are hashed again, whatever the caller says."""
        del verified
        self.put_bytes(digest, path.read_bytes())

    def put_bytes(self, digest: Digest, data: bytes) -> None:
        """Store bytes."""
        actual = Digest.of(data)
        if actual != digest:
            raise DigestMismatchError(digest, actual)
        with self._lock:
            self._blobs[digest] = (bytes(data), datetime.now(UTC))

    def stat(self, digest: Digest) -> BlobStat | None:
        """Return size and time of a blob, or None."""
        entry = self._blobs.get(digest)
        return BlobStat(len(entry[0]), entry[1]) if entry else None

    def read(self, digest: Digest, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield bytes in chunks, verified if they are the whole."""
        data = self._bytes(digest)
        begin, end = clip_range(len(data), start=start, length=length)
        chunks = (data[at : min(at + CHUNK_BYTES, end)] for at in range(begin, end, CHUNK_BYTES))
        return verified(chunks, digest) if end - begin == len(data) else chunks

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for random reads."""
        return io.BytesIO(self._bytes(digest))

    def delete(self, digest: Digest) -> None:
        """Forget a blob."""
        with self._lock:
            self._blobs.pop(digest, None)

    def list(self) -> Iterator[tuple[Digest, BlobStat]]:
        """Yield every blob, in order of digest."""
        with self._lock:
            entries = sorted(self._blobs.items())
        return ((digest, BlobStat(len(data), at)) for digest, (data, at) in entries)

    def presigned_url(self, digest: Digest, *, expires_s: int) -> str | None:
        """Return None: nobody else can reach this memory."""
        del digest, expires_s
        return None

    def write_record(self, key: str, data: bytes) -> None:
        """Write or overwrite a record."""
        check_record_key(key)
        check_record_size(key, data)
        with self._lock:
            self._records[key] = bytes(data)

    def create_record(self, key: str, data: bytes) -> bool:
        """Write a record if there is none; return whether it has these bytes now."""
        check_record_key(key)
        check_record_size(key, data)
        with self._lock:
            return self._records.setdefault(key, bytes(data)) == data

    def read_record(self, key: str) -> bytes | None:
        """Return a record's bytes, or None."""
        return self._records.get(check_record_key(key))

    def list_records(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted."""
        check_record_prefix(prefix)
        with self._lock:
            keys = sorted(self._records)
        return (key for key in keys if key.startswith(prefix))

    def delete_record(self, key: str) -> None:
        """Forget a record."""
        check_record_key(key)
        with self._lock:
            self._records.pop(key, None)

    def discard_stale(self, *, older_than_s: float) -> int:
        """Return 0: a write to memory is never interrupted half-way."""
        del older_than_s
        return 0

    def _bytes(self, digest: Digest) -> bytes:
        entry = self._blobs.get(digest)
        if entry is None:
            raise BlobNotFoundError(digest)
        return entry[0]
