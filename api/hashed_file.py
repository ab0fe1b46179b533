"""Write a file and hash it at the same time, on a thread of its own, while more bytes arrive."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.digest import Digest

_BATCH_BYTES = 1 << 20
_IN_FLIGHT = 8


class HashedFile:
    """Append to a file; what it holds already is hashed first.

    Attributes:
        size_bytes: how many bytes the file holds, counting those that are still being written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._hasher = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_BATCH_BYTES):
                self._hasher.update(chunk)
        self.size_bytes = path.stat().st_size
        self._pool = ThreadPoolExecutor(1, "hash")
        self._waiting: deque[Future[None]] = deque()
        self._batch = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        finally:
            self._pool.shutdown()
            self._file.close()

    def write(self, data: bytes) -> None:
        """Take bytes; memory stays bounded because the caller waits when the disk is slower.

        Raises:
            OSError: the disk refused bytes that were given earlier.
        """
        self.size_bytes += len(data)
        self._batch += data
        if len(self._batch) >= _BATCH_BYTES:
            self._hand_over()

    def digest(self) -> Digest:
        """Return the digest of all that was written.

        Raises:
            OSError: the disk refused something.
        """
        self.flush()
        return Digest(self._hasher.hexdigest())

    def flush(self) -> None:
        """Wait until all that was taken is in the file, where it outlives this process.

        Raises:
            OSError: the disk refused something.
        """
        self._hand_over()
        while self._waiting:
            self._waiting.popleft().result()

    def _hand_over(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, bytearray()
            self._waiting.append(self._pool.submit(self._consume, batch))
        while len(self._waiting) > _IN_FLIGHT:
            self._waiting.popleft().result()

    def _consume(self, batch: bytearray) -> None:
        left = memoryview(batch)
        while left:
            left = left[self._file.write(left) :]
        self._hasher.update(batch)
