"""Hash beside other work: sha256 runs in a thread of its own, since hashlib lets go of the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256

from registry.digest import Digest

_WAITING = 4  # batches that may wait; what they hold is the memory that hashing costs


class ParallelHasher:
    """Take batches of bytes and hash them in order, in a thread that starts with the first batch.

    The caller must `close` it. It belongs to one thread at a time.
    """

    def __init__(self) -> None:
        self._hasher = sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    def update(self, batch: Iterable[bytes]) -> None:
        """Queue a batch; wait if too many are queued. Errors of a batch come out here or later."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "sha256")
        if len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._hash, batch))

    def update_now(self, batch: Iterable[bytes]) -> None:
        """Hash a small batch in this thread, after what is queued."""
        self._drain()
        self._hash(batch)

    def digest(self) -> Digest:
        """Wait for everything that was queued, and return the digest of it all."""
        self._drain()
        return Digest(self._hasher.hexdigest())

    def close(self) -> None:
        """End the thread; what is queued and not begun is dropped."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None

    def _drain(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def _hash(self, batch: Iterable[bytes]) -> None:
        for chunk in batch:
            self._hasher.update(chunk)
