"""State what a blob store must do; `registry.storage.stores.open_store` opens one.

Blobs are keyed by the sha256 of their bytes. Records are small named documents that stand beside
them (manifests, moves of refs, base models), so that a lost database can be rebuilt from the store
alone. Every store passes `tests/contracts/blob_store.py`; a new one is one file and one such class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from registry.digest import Digest
from registry.errors import NotFoundError, ValidationError

_RECORD_KEY = re.compile(r"[A-Za-z0-9_.-]{1,255}(?:/[A-Za-z0-9_.-]{1,255})*")
MAX_RECORD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BlobStat:
    """Describe a stored blob.

    Attributes:
        size_bytes: its length.
        stored_at: when the store received it last (UTC).
    """

    size_bytes: int
    stored_at: datetime


class BlobNotFoundError(NotFoundError):
    """Say that the store has no blob of this digest."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(
            f"no blob {digest} in the store",
            hint="run `adapters verify` to find what else is missing",
        )
        self.digest = digest


def check_record_key(key: str) -> str:
    """Return the key if it may name a record.

    Raises:
        ValidationError: it is empty, absolute, too long or has characters outside `A-Za-z0-9_.-/`.
    """
    if (
        len(key) > 900
        or not _RECORD_KEY.fullmatch(key)
        or any(p in {".", ".."} for p in key.split("/"))
    ):
        raise ValidationError(
            f"{key[:120]!r} cannot name a record",
            field="record key",
            expected="segments of A-Za-z0-9_.- joined by /, at most 900 characters",
            actual=key[:120],
        )
    return key


def check_record_prefix(prefix: str) -> str:
    """Return the prefix if it is empty or the beginning of a record's key.

    Raises:
        ValidationError: no record's key can begin so.
    """
    if prefix:
        check_record_key(f"{prefix}x")
    return prefix


def check_record_size(key: str, data: bytes) -> None:
    """Let through what is small enough to be a record.

    Raises:
        ValidationError: it is longer than `MAX_RECORD_BYTES`.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise ValidationError(
            f"record {key} is too long",
            field="record",
            expected=f"at most {MAX_RECORD_BYTES} bytes",
            actual=f"{len(data)} bytes",
        )


def clip_range(size_bytes: int, *, start: int, length: int | None) -> tuple[int, int]:
    """Return begin and end of what a blob of `size_bytes` has of a range, as slices do.

    Raises:
        ValidationError: start or length is negative.
    """
    if start < 0 or (length is not None and length < 0):
        raise ValidationError(
            "a range begins before the blob",
            field="range",
            expected="start and length of 0 or more",
            actual=f"start {start}, length {length}",
        )
    begin = min(start, size_bytes)
    return begin, size_bytes if length is None else min(begin + length, size_bytes)


class BlobStore(Protocol):
    """Keep blobs by digest, and small records by name.

    All methods may raise `StorageError`; what `put` acknowledged survives a crash. A key is either
    a record or the beginning of others' keys (`a` and `a/b` do not go together).
    """

    def put_file(self, digest: Digest, path: Path, *, verified: bool = False) -> None:
        """Store the bytes of a local file, which the store may move away.

        Storing what is there already succeeds, refreshes `stored_at` and mends a damaged copy.

        Args:
            digest: the sha256 of the file.
            path: where the file is.
            verified: whether the caller has just hashed these very bytes and nobody else can
                write them; the store then need not hash them again.

        Raises:
            DigestMismatchError: the file's bytes are not those of `digest`; nothing is stored.
        """

    def put_bytes(self, digest: Digest, data: bytes) -> None:
        """Store a small blob from memory.

        Raises:
            DigestMismatchError: `data` is not the bytes of `digest`.
        """

    def stat(self, digest: Digest) -> BlobStat | None:
        """Return size and time of a blob, or None if it is not there."""

    def read(self, digest: Digest, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes `[start, start + length)` in chunks of about 1 MiB.

        A read of the whole is verified: the last chunk comes only if the digest matches.

        Raises:
            BlobNotFoundError: it is not there (raised at the call, before the first chunk).
            DigestMismatchError: the stored bytes are damaged.
        """

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for random reads (seek, tell, read); used to parse headers, not verified.

        Raises:
            BlobNotFoundError: it is not there.
        """

    def delete(self, digest: Digest) -> None:
        """Remove a blob; removing what is not there succeeds."""

    def list(self) -> Iterator[tuple[Digest, BlobStat]]:
        """Yield every stored blob, in order of digest."""

    def presigned_url(self, digest: Digest, *, expires_s: int) -> str | None:
        """Return a URL that lets its holder fetch the blob, or None if it has none."""

    def write_record(self, key: str, data: bytes) -> None:
        """Write or overwrite a record, atomically and durably."""

    def create_record(self, key: str, data: bytes) -> bool:
        """Write a record only if none has this key.

        Returns:
            Whether the record now has these bytes (written, or equal already).
        """

    def read_record(self, key: str) -> bytes | None:
        """Return a record's bytes, or None."""

    def list_records(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted."""

    def delete_record(self, key: str) -> None:
        """Remove a record; removing what is not there succeeds."""

    def discard_stale(self, *, older_than_s: float) -> int:
        """Remove what interrupted writes left behind longer ago, and return how many.

        Nothing of it was ever visible; it only takes space.
        """
