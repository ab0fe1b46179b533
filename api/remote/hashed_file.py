"""Write a file and hash it at the same time: the hash runs on a thread of its own."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from registry.digest import Digest
from registry.storage.hashing import ParallelHasher

_READ_BYTES = 1 << 20


class HashedFile:
    """Append to a file; what it holds already is hashed first.

    What was written is in the file at once, where it outlives this process.

    Attributes:
        size_bytes: how many bytes the file holds.
    """

    def __init__(self, path: Path) -> None:
        self._hasher = ParallelHasher()
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                self._hasher.update([chunk])
        self.size_bytes = path.stat().st_size
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hasher.close()
        self._file.close()

    def write(self, data: bytes) -> None:
        """Append bytes; the caller waits when the hash is far behind, so memory stays bounded.

        Raises:
            OSError: the disk refused them.
        """
        self._hasher.update([data])
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self.size_bytes += len(data)

    def digest(self) -> Digest:
        """Return the digest of all that the file holds."""
        return self._hasher.digest()
